//! Two hundred programs, each with one bit wrong, in one boot: the kernel outlives them all.

use anyhow::Result;
use libtest_mimic::Trial;
use xtask::guest::{Guest, Piece};

use crate::make::elf::Elf;
use crate::matrix::ONE;
use crate::outcome::{Ended, Outcome};
use crate::runner::Watcher;
use crate::stage::Stage;
use crate::{report, trial};

const NAME: &str = "bad_elf::two_hundred_with_one_bit_wrong";
const PROGRAMS: usize = 200;
/// The bits are chosen by this, so that every run has the same ones.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// The test of this kind.
pub fn trials() -> Vec<Trial> {
    vec![trial(NAME.into(), run)]
}

/// The programs: the `n`-th has bit `positions[n]` of the file wrong.
fn programs() -> Vec<(usize, Vec<u8>)> {
    let good = Elf::exits(0).bytes();
    let bits = good.len() * 8;
    let mut state = SEED;
    let mut flip = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let bit = (state >> 33) as usize % bits;
        let mut file = good.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        (bit, file)
    };
    (0..PROGRAMS).map(|_| flip()).collect()
}

/// Types the next command at each prompt.
#[derive(Default)]
struct Typist {
    started: usize,
    /// The end of the output so far, long enough to hold a prompt.
    tail: Vec<u8>,
}

const PROMPT: &[u8] = b"tessera> ";

impl Watcher for Typist {
    fn piece(&mut self, guest: &mut Guest, piece: &Piece) -> Result<()> {
        let Piece::Output(bytes) = piece else {
            return Ok(());
        };
        self.tail.extend_from_slice(bytes);
        let surplus = self.tail.len().saturating_sub(PROMPT.len());
        self.tail.drain(..surplus);
        if self.tail == PROMPT {
            let command = match self.started {
                PROGRAMS => "quit\n".to_owned(),
                number => format!("run {}\n", file(number)),
            };
            self.started = (self.started + 1).min(PROGRAMS);
            // A guest that has ended meanwhile is judged at the end.
            let _ = guest.send(command.as_bytes());
        }
        Ok(())
    }
}

fn file(number: usize) -> String {
    format!("flip{number:03}")
}

fn run() -> Result<()> {
    let programs = programs();
    let stage = Stage::new(NAME, ONE[0], &["./good"], &Elf::exits(0).bytes())?
        .machine(|machine| machine.bootarg("tessera.prompt=1"))
        .initrd(|initrd| {
            let files = programs.iter().enumerate();
            files.fold(initrd, |initrd, (n, (_, bytes))| {
                initrd.bin(&file(n), bytes.clone())
            })
        });
    let mut typist = Typist::default();
    let played = stage.run_with(&mut typist)?;
    let last = typist.started.saturating_sub(1);
    let place = format!(
        "last started: {}, bit {} of the file wrong",
        file(last),
        programs[last].0
    );
    let outcome = judge(&played.booted.ended);
    played.booted.verdict(match outcome {
        Outcome::Pass => Outcome::Pass,
        other => Outcome::Fail(format!("{other}; {place}")),
    })
}

/// Every program has exited, was killed or was refused, and all memory came back.
fn judge(ended: &Ended) -> Outcome {
    if let Err(outcome) = ended.halted() {
        return outcome;
    }
    let ran = ended.all("exit").count() + ended.all("killed").count();
    let text = String::from_utf8_lossy(&ended.output);
    let refused = (0..PROGRAMS)
        .filter(|number| text.contains(&format!("{}: ", file(*number))))
        .count();
    if ran + refused != PROGRAMS + 1 {
        return Outcome::Fail(format!(
            "{ran} programs ran and {refused} were refused, not {}",
            PROGRAMS + 1
        ));
    }
    if ran < PROGRAMS / 10 || refused < PROGRAMS / 10 {
        return Outcome::Fail(format!("{ran} ran, {refused} refused: one sort is missing"));
    }
    for line in ended.all("stats") {
        if let Err(why) = report::stats_of(line).and_then(|stats| report::no_leak(&stats)) {
            return Outcome::Fail(why);
        }
    }
    Outcome::Pass
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_differs_from_the_good_one_in_one_bit() {
        let good = Elf::exits(0).bytes();
        for (bit, file) in programs() {
            let wrong: u32 = good
                .iter()
                .zip(&file)
                .map(|(a, b)| (a ^ b).count_ones())
                .sum();
            assert_eq!((wrong, good.len()), (1, file.len()), "bit {bit}");
        }
    }

    #[test]
    fn the_bits_are_spread_over_the_file() {
        let mut bits: Vec<_> = programs().into_iter().map(|(bit, _)| bit / 128).collect();
        bits.sort_unstable();
        bits.dedup();
        assert!(bits.len() >= 8, "{bits:?}");
    }
}
