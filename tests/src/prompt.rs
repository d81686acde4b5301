//! The kernel's prompt, typed at from outside: its commands, and a crowd of damaged programs.

use anyhow::Result;
use libtest_mimic::Trial;
use xtask::guest::{Guest, Piece};

use crate::make::elf::Elf;
use crate::matrix::{Cell, FOUR, ONE};
use crate::outcome::{Ended, Outcome};
use crate::runner::Watcher;
use crate::stage::Stage;
use crate::{report, trial};

const PROMPT: &str = "tessera> ";

/// The tests of this kind.
pub fn trials() -> Vec<Trial> {
    let mut trials = vec![trial(FLIPS.into(), flips)];
    for &cell in [ONE, FOUR].into_iter().flatten() {
        let name = format!("prompt::answers_each_command[{}]", cell.name());
        trials.push(trial(name.clone(), move || commands(&name, cell)));
    }
    for &cell in [ONE, FOUR].into_iter().flatten() {
        let name = format!("prompt::outlives_programs_without_memory[{}]", cell.name());
        trials.push(trial(name.clone(), move || hunger(&name, cell)));
    }
    trials
}

/// Types the next command at each prompt.
struct Typist {
    commands: Vec<String>,
    /// What stood on the console before the first prompt, and after each command.
    answers: Vec<String>,
    current: Vec<u8>,
}

impl Typist {
    fn new(commands: Vec<String>) -> Self {
        Self {
            commands,
            answers: Vec::new(),
            current: Vec::new(),
        }
    }

    /// The command that was typed last.
    fn last(&self) -> &str {
        let typed = self.answers.len().saturating_sub(1);
        self.commands.get(typed).map_or("none", String::as_str)
    }
}

impl Watcher for Typist {
    fn piece(&mut self, guest: &mut Guest, piece: &Piece) -> Result<()> {
        let Piece::Output(bytes) = piece else {
            return Ok(());
        };
        self.current.extend_from_slice(bytes);
        if self.current.ends_with(PROMPT.as_bytes()) {
            let answer = String::from_utf8_lossy(&self.current).into_owned();
            self.current.clear();
            if let Some(command) = self.commands.get(self.answers.len()) {
                // A guest that has ended meanwhile is judged at the end.
                let _ = guest.send(format!("{command}\n").as_bytes());
            }
            self.answers.push(answer);
        }
        Ok(())
    }
}

/// Commands, and words that their answers must have.
const COMMANDS: &[(&str, &[&str])] = &[
    ("help", &["meminfo", "run NAME"]),
    ("programs", &["hello"]),
    ("meminfo", &["RAM", "frames: ", "tables by level"]),
    ("stats", &["leaked_frames"]),
    ("maps", &["r-xp"]),
    ("maps program", &["r-xp"]),
    ("maps hello", &["hello is none of the last 3 programs"]),
    ("trace 2", &[" us  cpu ", "zap "]),
    ("trace folt", &["folt: no such category", "fault,map,zap"]),
    ("trace none", &["traced from now on: \n"]),
    (
        "run hello one two",
        &["Hello from EL0.", "arg 1: one", "arg 2: two"],
    ),
    ("maps hello", &["r-xp", "[stack]"]),
    ("stats hello", &["leaked_frames"]),
    ("maps program", &["r-xp"]),
    ("trace table,fault", &["table: no such category"]),
    ("trace fault", &["traced from now on: fault\n"]),
    ("run no-such-program", &["no-such-program: "]),
    ("run", &["run what?"]),
    ("online", &["65536 KiB brought online"]),
    ("online", &["no RAM is held back"]),
    ("run hello again", &["arg 1: again"]),
    ("trace 9999", &["fault_image", "cost"]),
    ("ptdump", &["ffff8000", "writable and executable: 0"]),
    ("ptdump user", &["4 KiB pages", "r-xu", "contiguous"]),
    ("ptdump nobody", &["ptdump nobody: ptdump, or ptdump user"]),
    ("nonsense", &["nonsense: no such command"]),
    ("", &[]),
];

fn commands(name: &str, cell: Cell) -> Result<()> {
    let hello = std::fs::read(crate::env::program("hello")?)?;
    let mut typed: Vec<_> = COMMANDS
        .iter()
        .map(|(command, _)| (*command).to_owned())
        .collect();
    typed.push("quit".into());
    let mut typist = Typist::new(typed);
    let played = Stage::new(name, cell, &["./first"], &Elf::exits(4).bytes())?
        .machine(|machine| {
            machine
                .bootarg("tessera.prompt=1")
                .bootarg("tessera.hold=64M")
                .bootarg("tessera.trace=zap")
        })
        .initrd(|initrd| initrd.bin("hello", hello.clone()))
        .run_with(&mut typist)?;
    let ended = &played.booted.ended;
    let outcome = match ended.halted() {
        Err(outcome) => outcome,
        Ok(status) => match answered(&typist).and_then(|()| leaks(ended)) {
            Err(why) => Outcome::Fail(why),
            // The status is the last program's.
            Ok(()) if status != 0 => Outcome::Fail(format!("status {status}")),
            Ok(()) if ended.all("exit").count() != 3 => Outcome::Fail("not three programs".into()),
            Ok(()) => Outcome::Pass,
        },
    };
    played.verdict(outcome)
}

fn answered(typist: &Typist) -> Result<(), String> {
    for (index, (command, words)) in COMMANDS.iter().enumerate() {
        let answer = typist
            .answers
            .get(index + 1)
            .ok_or(format!("no prompt after `{command}`"))?;
        if let Some(missing) = words.iter().find(|word| !answer.contains(**word)) {
            return Err(format!(
                "the answer to `{command}` lacks {missing:?}: {answer}"
            ));
        }
    }
    Ok(())
}

/// No program has left anything behind.
fn leaks(ended: &Ended) -> Result<(), String> {
    ended
        .all("stats")
        .try_for_each(|line| report::no_leak(&report::stats_of(line)?))
}

/// The ways in which `oom` takes all memory, of which it dies.
const HUNGRY: [&str; 4] = ["zeros", "shared", "blocks", "copies"];

/// One program after another takes all memory and is killed, and the next one runs: all in one boot.
fn hunger(name: &str, cell: Cell) -> Result<()> {
    let read = |program| anyhow::Ok(std::fs::read(crate::env::program(program)?)?);
    let (hello, oom) = (read("hello")?, read("oom")?);
    let pairs = HUNGRY.map(|case| [format!("run oom {case}"), format!("run hello {case}")]);
    let mut typed = pairs.as_flattened().to_vec();
    typed.push("quit".into());
    let mut typist = Typist::new(typed);
    let played = Stage::new(name, cell, &["./first"], &Elf::exits(4).bytes())?
        .machine(|machine| machine.memory("128M").bootarg("tessera.prompt=1"))
        .initrd(|initrd| initrd.bin("hello", hello.clone()).bin("oom", oom.clone()))
        .run_with(&mut typist)?;
    let ended = &played.booted.ended;
    let greeted = |case: &&str| {
        let words = format!("arg 1: {case}\n");
        typist.answers.iter().any(|answer| answer.contains(&words))
    };
    let (killed, greeted) = (
        ended.all("killed").count(),
        HUNGRY.iter().copied().filter(|case| greeted(case)).count(),
    );
    let outcome = match ended.halted() {
        Err(outcome) => outcome,
        Ok(_) if (killed, greeted) != (4, 4) => Outcome::Fail(format!(
            "{killed} programs were killed, {greeted} ran afterwards"
        )),
        Ok(_) => leaks(ended).map_or_else(Outcome::Fail, |()| Outcome::Pass),
    };
    played.verdict(outcome)
}

const FLIPS: &str = "bad_elf::two_hundred_with_one_bit_wrong";
const PROGRAMS: usize = 200;
/// The bits are chosen by this, so that every run has the same ones.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Programs that each have one bit wrong, and which bit of the file it is.
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

fn file(number: usize) -> String {
    format!("flip{number:03}")
}

/// Two hundred programs in one boot: the kernel outlives them all.
fn flips() -> Result<()> {
    let programs = programs();
    let mut typed: Vec<_> = (0..PROGRAMS)
        .map(|number| format!("run {}", file(number)))
        .collect();
    typed.push("quit".into());
    let mut typist = Typist::new(typed);
    let played = Stage::new(FLIPS, ONE[0], &["./good"], &Elf::exits(0).bytes())?
        .machine(|machine| machine.bootarg("tessera.prompt=1"))
        .initrd(|initrd| {
            let files = programs.iter().enumerate();
            files.fold(initrd, |initrd, (n, (_, bytes))| {
                initrd.bin(&file(n), bytes.clone())
            })
        })
        .run_with(&mut typist)?;
    played.verdict(match judge(&played.booted.ended) {
        Outcome::Pass => Outcome::Pass,
        other => Outcome::Fail(format!("{other}; last command: {}", typist.last())),
    })
}

/// Every program has exited, was killed or was refused, and all memory came back.
fn judge(ended: &Ended) -> Outcome {
    if let Err(outcome) = ended.halted() {
        return outcome;
    }
    let ran = ended.all("exit").count() + ended.all("killed").count();
    let text = String::from_utf8_lossy(&ended.output);
    let named = |number: &usize| text.contains(&format!("{}: ", file(*number)));
    let refused = (0..PROGRAMS).filter(named).count();
    if ran + refused != PROGRAMS + 1 || ran < PROGRAMS / 10 || refused < PROGRAMS / 10 {
        return Outcome::Fail(format!(
            "{ran} programs ran, {refused} were refused, of {PROGRAMS} + 1"
        ));
    }
    leaks(ended).map_or_else(Outcome::Fail, |()| Outcome::Pass)
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
