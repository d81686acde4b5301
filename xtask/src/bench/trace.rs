//! QEMU's trace of executed blocks (`-d in_asm,exec,nochain`), counted as it streams by.
//!
//! A block is listed when it is translated and named each time it is run:
//!
//!     IN:
//!     0xffff800000025bb0:  d53b00e8  mrs      x8, dczid_el0
//!     0xffff800000025bb4:  14000002  b        #0xffff800000025bbc
//!
//!     Trace 0: 0x7fdd78010540 [8000d005/ffff800000025bb0/00000121/ff022200]
//!
//! The nine low bits of the last number limit the block to that many instructions, if they are not
//! zero. Two further lines take part of a run back: `cpu_io_recompile: rewound execution of TB to
//! PC` (the instruction at PC is run in a block of its own), and `Stopped execution of TB chain
//! before HOST [PC]` (the block named last was not run at all).

use std::collections::{BTreeMap, HashMap};

/// Bits of a block's flags that hold the limit (QEMU's `CF_COUNT_MASK`).
const LIMIT_BITS: u64 = 0x1ff;
/// Bytes of an instruction.
const INSTRUCTION: u64 = 4;

/// The counts between two marks.
#[derive(Debug, Default)]
pub struct Trace {
    begin: u64,
    end: u64,
    inside: bool,
    /// Length in instructions by first address.
    lengths: HashMap<u64, u64>,
    texts: HashMap<u64, String>,
    /// Runs by first address and length.
    runs: HashMap<(u64, u64), u64>,
    last: Option<(u64, u64)>,
    /// The block whose listing is being read: where it begins, if an instruction has come.
    listing: Option<Option<u64>>,
}

impl Trace {
    /// Counts from the block at `begin` to the one at `end`, as often as it comes by.
    pub fn between(begin: u64, end: u64) -> Self {
        Self {
            begin,
            end,
            ..Self::default()
        }
    }

    /// Takes one line; false if it is no part of a trace.
    pub fn take(&mut self, line: &[u8]) -> bool {
        if let Some(rest) = line.strip_prefix(b"Trace ") {
            return self.run(rest).is_some();
        }
        if line.is_empty() {
            self.listing = None;
            return true;
        }
        let Ok(line) = std::str::from_utf8(line) else {
            return false;
        };
        if line.starts_with("IN:") {
            self.listing = Some(None);
        } else if let Some(pc) = line.strip_prefix("cpu_io_recompile: rewound execution of TB to ")
        {
            self.rewind(hex(pc.trim()));
        } else if line.starts_with("Stopped execution of TB chain before ") {
            self.rewind(self.last.map(|(pc, _)| pc));
        } else if self.listing.is_some() && line.starts_with("0x") {
            return self.list(line).is_some();
        } else {
            return line.starts_with("----------------");
        }
        true
    }

    /// `0: 0x7fdd78010540 [8000d005/ffff800000025bb0/00000121/ff022200] `
    fn run(&mut self, rest: &[u8]) -> Option<()> {
        let open = rest.iter().position(|&byte| byte == b'[')?;
        let close = rest.iter().position(|&byte| byte == b']')?;
        let mut fields = std::str::from_utf8(rest.get(open + 1..close)?)
            .ok()?
            .split('/');
        let pc = hex(fields.nth(1)?)?;
        let limit = hex(fields.nth(1)?)? & LIMIT_BITS;
        let length = self.lengths.get(&pc).copied().unwrap_or(1);
        let length = if limit == 0 {
            length
        } else {
            length.min(limit)
        };
        self.inside = (self.inside || pc == self.begin) && pc != self.end;
        self.last = None;
        if self.inside && pc != self.begin {
            *self.runs.entry((pc, length)).or_default() += 1;
            self.last = Some((pc, length));
        }
        Some(())
    }

    /// Of the last run, only what comes before `to` counts.
    fn rewind(&mut self, to: Option<u64>) {
        let (Some((pc, length)), Some(to)) = (self.last.take(), to) else {
            return;
        };
        if let Some(runs) = self.runs.get_mut(&(pc, length)) {
            *runs -= 1;
        }
        let done = (to.saturating_sub(pc) / INSTRUCTION).min(length);
        if done > 0 {
            *self.runs.entry((pc, done)).or_default() += 1;
        }
    }

    /// `0xffff800000025bb4:  52800089  movz     w9, #0x4`
    fn list(&mut self, line: &str) -> Option<()> {
        let (pc, text) = line.strip_prefix("0x")?.split_once(':')?;
        let pc = hex(pc)?;
        let first = *self.listing.as_mut()?.get_or_insert(pc);
        let length = (pc.checked_sub(first)?) / INSTRUCTION + 1;
        let longest = self.lengths.entry(first).or_default();
        *longest = length.max(*longest);
        let text = text.trim().split_once("  ").map_or("", |(_, text)| text);
        self.texts
            .entry(pc)
            .or_insert_with(|| text.trim().to_owned());
        Some(())
    }

    /// How often each instruction was run, by address.
    pub fn instructions(&self) -> BTreeMap<u64, u64> {
        let mut counts = BTreeMap::new();
        for (&(pc, length), &runs) in &self.runs {
            for at in 0..length {
                *counts.entry(pc + at * INSTRUCTION).or_default() += runs;
            }
        }
        counts.retain(|_, count| *count > 0);
        counts
    }

    /// The instruction at this address in assembly.
    pub fn text(&self, pc: u64) -> &str {
        self.texts.get(&pc).map_or("", String::as_str)
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTINGS: &str = "\
----------------
IN: 
0x0000000000001000:  d503201f  nop      

----------------
IN: 
0x0000000000002000:  d53b00e8  mrs      x8, dczid_el0
0x0000000000002004:  52800089  movz     w9, #0x4
0x0000000000002008:  14000002  b        #0x2010

";

    fn trace(lines: &str) -> Trace {
        let mut trace = Trace::between(0x1000, 0x3000);
        for line in LISTINGS.lines().chain(lines.lines()) {
            assert!(trace.take(line.as_bytes()), "{line}");
        }
        trace
    }

    fn counts(lines: &str) -> Vec<(u64, u64)> {
        trace(lines).instructions().into_iter().collect()
    }

    #[test]
    fn only_what_lies_between_the_marks_counts() {
        let lines = "\
Trace 0: 0x7f00 [8000d005/0000000000002000/00000121/ff022200] 
Trace 0: 0x7f00 [8000d005/0000000000001000/00000121/ff022200] 
Trace 0: 0x7f00 [8000d005/0000000000002000/00000121/ff022200] 
Trace 0: 0x7f00 [8000d005/0000000000002000/00000121/ff022200] 
Trace 0: 0x7f00 [8000d005/0000000000003000/00000121/ff022200] 
Trace 0: 0x7f00 [8000d005/0000000000002000/00000121/ff022200] ";
        assert_eq!(counts(lines), [(0x2000, 2), (0x2004, 2), (0x2008, 2)]);
        assert_eq!(trace(lines).text(0x2004), "movz     w9, #0x4");
    }

    #[test]
    fn limits_rewinds_and_stops_are_taken_off() {
        let run = "Trace 0: 0x7f00 [8000d005/0000000000001000/00000121/ff022200] \n";
        let limited = "Trace 0: 0x7f00 [8000d005/0000000000002000/00000121/ff022201] ";
        assert_eq!(counts(&format!("{run}{limited}")), [(0x2000, 1)]);
        let block = "Trace 0: 0x7f00 [8000d005/0000000000002000/00000121/ff022200] \n";
        let rewound = "cpu_io_recompile: rewound execution of TB to 0000000000002008";
        let lines = format!("{run}{block}{rewound}");
        assert_eq!(counts(&lines), [(0x2000, 1), (0x2004, 1)]);
        let stopped = "Stopped execution of TB chain before 0x7f00 [0000000000002000] ";
        assert_eq!(counts(&format!("{run}{block}{stopped}")), []);
    }

    #[test]
    fn complaints_are_left_to_others() {
        let mut trace = Trace::between(1, 2);
        assert!(!trace.take(b"qemu-system-aarch64: -cpu: no such model"));
        assert!(!trace.take(b"Trace of something else"));
        assert!(!trace.take(b"\xff\xfe"));
    }
}
