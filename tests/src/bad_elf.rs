//! Program files that no compiler makes: each gives a clear error, and the kernel lives on.

use anyhow::Result;
use libtest_mimic::Trial;

use crate::make::elf::{BASE, DYN, Elf, HEADER, INTERP, LOAD, PHDR, R, Segment, W, X};
use crate::matrix::ONE;
use crate::outcome::{self, Ending, Outcome};
use crate::reader::Rule;
use crate::stage::{Played, Stage};
use crate::trial;
use crate::witness::Witness;

/// What must become of a file.
#[derive(Clone, Copy)]
enum Fate {
    /// Refused for this reason, with these words in the text.
    Refused(&'static str, &'static str),
    /// Runs and exits with this status.
    Runs(u8),
    /// Runs, is killed or is refused, as long as no law is broken on the way.
    Survived,
    /// Exits with this status. It asked for what the kernel never gives itself, and got it, as on
    /// Linux: the reader sees exactly that.
    RunsAndShows(u8, Rule),
}

use Fate::{Refused, Runs, RunsAndShows, Survived};

/// A name, a file and its fate.
type Case = (&'static str, Vec<u8>, Fate);

/// The tests of this kind.
pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<_> = cases()
        .into_iter()
        .map(|(name, file, fate)| {
            let name = format!("bad_elf::{name}");
            trial(name.clone(), move || run(&name, &file, fate))
        })
        .collect();
    trials.push(trial("bad_elf::truncated_anywhere".into(), truncated));
    trials
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        ("a_good_one_runs", Elf::exits(42).bytes(), Runs(42)),
        ("empty", vec![], Refused("not-elf", "not an ELF")),
        (
            "a_script",
            b"#!/bin/sh\necho hello\n".to_vec(),
            Refused("not-elf", "not an ELF"),
        ),
        ("zeros", vec![0; 8192], Refused("not-elf", "not an ELF")),
    ];
    cases.extend(headers());
    cases.extend(segments());
    cases.extend(places());
    cases
}

fn changed(change: impl FnOnce(&mut Elf)) -> Vec<u8> {
    let mut elf = Elf::exits(1);
    change(&mut elf);
    elf.bytes()
}

fn headers() -> Vec<Case> {
    vec![
        (
            "thirty_two_bits",
            changed(|elf| (elf.class, elf.machine) = (1, 40)),
            Refused("elf32", "32-bit"),
        ),
        (
            "big_endian",
            changed(|elf| elf.data = 2),
            Refused("big-endian", "big-endian"),
        ),
        (
            "x86_64",
            changed(|elf| elf.machine = 62),
            Refused("wrong-machine", "x86-64"),
        ),
        (
            "an_object_file",
            changed(|elf| elf.kind = 1),
            Refused("not-executable", "object"),
        ),
        (
            "a_core_dump",
            changed(|elf| elf.kind = 4),
            Refused("not-executable", "core"),
        ),
        (
            "no_headers",
            changed(|elf| elf.count = Some(0)),
            Refused("no-segment", "no segment"),
        ),
        (
            "65535_headers",
            changed(|elf| elf.count = Some(u16::MAX)),
            Refused("too-many-headers", "65535"),
        ),
        (
            "headers_beyond_the_file",
            changed(|elf| elf.table = 1 << 40),
            Refused("truncated", ""),
        ),
        (
            "headers_that_wrap",
            changed(|elf| elf.table = u64::MAX - 8),
            Refused("truncated", ""),
        ),
        (
            "odd_header_size",
            changed(|elf| elf.entry_size = 32),
            Refused("bad-header", ""),
        ),
    ]
}

fn segment(change: impl FnOnce(&mut Segment)) -> Vec<u8> {
    changed(|elf| change(&mut elf.segments[0]))
}

fn segments() -> Vec<Case> {
    let interp = Segment {
        kind: INTERP,
        flags: R,
        in_file: 4,
        in_memory: 4,
        ..Segment::default()
    };
    let mut dynamic = Elf::exits(1).with(interp);
    dynamic.kind = DYN;
    vec![
        (
            "nothing_to_load",
            segment(|s| s.kind = 0),
            Refused("no-segment", ""),
        ),
        ("dynamic", dynamic.bytes(), Refused("dynamic", "static")),
        (
            "less_memory_than_file",
            segment(|s| s.in_memory = 8),
            Refused("segment-size", ""),
        ),
        (
            "segment_beyond_the_file",
            segment(|s| s.offset = 1 << 30),
            Refused("truncated", ""),
        ),
        (
            "offset_that_wraps",
            segment(|s| s.offset = u64::MAX - 4095),
            Refused("truncated", ""),
        ),
        (
            "address_zero",
            segment(|s| s.address = 0),
            Refused("segment-range", ""),
        ),
        (
            "kernel_address",
            segment(|s| s.address = 0xffff_8000_0000_0000),
            Refused("segment-range", ""),
        ),
        (
            "address_that_wraps",
            segment(|s| s.in_memory = u64::MAX - BASE),
            Refused("segment-range", ""),
        ),
        (
            "odd_alignment",
            segment(|s| s.address += 16),
            Refused("segment-alignment", ""),
        ),
    ]
}

fn beside(address: u64, in_memory: u64, flags: u32) -> Vec<u8> {
    let extra = Segment {
        kind: LOAD,
        flags,
        address,
        in_memory,
        align: 4096,
        ..Segment::default()
    };
    Elf::exits(5).with(extra).bytes()
}

fn places() -> Vec<Case> {
    let entry = |at: u64| changed(|elf| elf.entry = at);
    let mut data_entry = Elf::exits(1);
    data_entry.segments[0].flags = R | W;
    vec![
        (
            "overlapping_segments",
            beside(BASE + 16, 4096, R | W),
            Refused("segment-overlap", "overlap"),
        ),
        (
            "the_same_segment_twice",
            beside(BASE, 64, R),
            Refused("segment-overlap", "overlap"),
        ),
        (
            "a_terabyte_of_zeros",
            beside(0x1_0000_0000, 1 << 40, R | W),
            Refused("segment-range", ""),
        ),
        (
            "a_segment_as_large_as_ram",
            beside(0x1000_0000, 512 << 20, R | W),
            Survived,
        ),
        // Promised, never touched: memory comes with the first touch, as on Linux.
        (
            "a_large_segment",
            beside(0x1000_0000, 128 << 20, R | W),
            Runs(5),
        ),
        ("entry_outside", entry(0x7000_0000), Refused("entry", "")),
        ("entry_zero", entry(0), Refused("entry", "")),
        (
            "entry_in_the_kernel",
            entry(0xffff_8000_0000_0000),
            Refused("entry", ""),
        ),
        (
            "entry_misaligned",
            entry(BASE + (HEADER + PHDR) as u64 + 2),
            Refused("entry", ""),
        ),
        (
            "entry_not_executable",
            data_entry.bytes(),
            Refused("entry", ""),
        ),
        ("position_independent", pie().bytes(), Runs(9)),
        (
            "entry_segment_write_execute",
            write_execute().bytes(),
            RunsAndShows(11, Rule::WriteExecute),
        ),
    ]
}

/// Static, to be loaded anywhere.
fn pie() -> Elf {
    let mut elf = Elf::exits(9);
    elf.kind = DYN;
    elf.entry -= BASE;
    elf.segments[0].address -= BASE;
    elf
}

/// Asks for memory that is writable and executable at once.
/// Its page is writable in the tables once it has been written, not before.
fn write_execute() -> Elf {
    let mut elf = Elf::writes_and_exits(11);
    elf.segments[0].flags = R | W | X;
    elf
}

fn run(name: &str, file: &[u8], fate: Fate) -> Result<()> {
    let witnessed = !matches!(fate, Refused(..));
    let played = Stage::new(name, ONE[0], &["./odd"], file)?
        .witnessed_if(witnessed)
        .run()?;
    match fate {
        Runs(status) => played.expect(Ending::Exit(status), |_| Ok(())),
        Survived => survived(&played),
        RunsAndShows(status, rule) => {
            let broken = played
                .witness
                .as_ref()
                .map(Witness::broken)
                .unwrap_or_default();
            let mut outcome = outcome::program(&played.booted.ended, Ending::Exit(status));
            if outcome == Outcome::Pass && broken != [rule] {
                outcome = Outcome::Fail(format!("the reader saw {broken:?}, not {rule:?}"));
            }
            played.verdict(outcome)
        }
        Refused(reason, words) => played.expect(Ending::ExecFail(reason), |booted| {
            let line = booted.ended.last("execfail");
            let text = line.and_then(|line| line.get("text")).unwrap_or_default();
            if text.len() < 10 || !text.contains(words) {
                return Err(format!("the message `{text}` does not say {words:?}"));
            }
            Ok(())
        }),
    }
}

/// Any end that the kernel tells in order; if the program ran, the witness must be content.
fn survived(played: &Played) -> Result<()> {
    let ended = &played.booted.ended;
    let status = ended.halted().unwrap_or_default();
    if ended.last("execfail").is_some() {
        return played.verdict(outcome::program(ended, Ending::ExecFail("")));
    }
    let ending = if status > 128 {
        Ending::Killed(status - 128)
    } else {
        Ending::Exit(status)
    };
    played.expect(ending, |_| Ok(()))
}

/// A file that ends early never runs, wherever it ends.
fn truncated() -> Result<()> {
    let whole = Elf::exits(3).bytes();
    let code = HEADER + PHDR;
    for len in [
        1,
        3,
        4,
        5,
        15,
        16,
        19,
        20,
        63,
        64,
        65,
        100,
        code - 1,
        code,
        code + 4,
        whole.len() - 1,
    ] {
        let name = format!("bad_elf::truncated_at_{len}");
        let played = Stage::new(&name, ONE[0], &["./cut"], &whole[..len])?.run()?;
        let reason = if len < 4 { "not-elf" } else { "truncated" };
        played.expect(Ending::ExecFail(reason), |_| Ok(()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_files_are_all_different() {
        let cases = cases();
        for (at, (name, file, _)) in cases.iter().enumerate() {
            assert!(
                cases[..at]
                    .iter()
                    .all(|(other, bytes, _)| other != name && bytes != file),
                "{name}"
            );
        }
    }
}
