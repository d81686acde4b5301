//! `cargo xtask record-linux`: what the program `verbs` prints on Linux.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use xtask::initrd::Initrd;
use xtask::machine::Machine;

use crate::artifacts;
use crate::cli::RecordLinux;
use crate::provision::{self, linux};
use crate::ui;
use crate::workspace::{Workspace, write_atomically};

/// The program; Linux starts it as the first process.
const PROGRAM: &str = "verbs";
/// First and last line of a sequence.
const FIRST: &str = "seed ";
const LAST: &str = "end of seed";

/// Records the sequences of all seeds.
///
/// # Errors
/// Linux or QEMU cannot be had, or the program did not finish.
pub fn run(workspace: &Workspace, options: &RecordLinux) -> Result<u8> {
    let qemu = provision::ensure(workspace)?;
    let linux = linux::ensure(workspace)?;
    let programs = artifacts::programs(workspace, &["programs"])?;
    let program = programs.iter().find(|(name, _)| name == PROGRAM);
    let (_, program) = program.context("there is no program verbs")?;
    let dir = tempfile::Builder::new()
        .prefix("record-")
        .tempdir_in(workspace.scratch()?)?;
    let initrd = dir.path().join("initrd.cpio");
    let archive = Initrd::empty()
        .folder("proc")
        .file("init", fs::read(program)?);
    fs::write(&initrd, archive.archive())?;
    let words = words(options);
    let machine = words.iter().fold(
        Machine::new(&linux.image).mte(false).initrd(&initrd),
        Machine::bootarg,
    );
    let step = ui::Step::new("running Linux");
    let mut command = machine.command(&qemu.path);
    let output = command.stdin(Stdio::null()).output()?;
    drop(step);
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    if options.full {
        print!("{text}");
        return Ok(0);
    }
    let records = records(&text);
    ensure!(
        records.len() == options.seeds.len(),
        "{} of {} sequences came to their end; the machine said\n{text}",
        records.len(),
        options.seeds.len()
    );
    for (seed, record) in options.seeds.iter().zip(&records) {
        let file = workspace
            .root()
            .join(format!("tests/data/verbs/{seed}.txt"));
        let header = format!("# Linux {}\n", linux.version);
        write_atomically(&file, (header + record).as_bytes())?;
        println!("{}: {} lines", file.display(), record.lines().count());
    }
    Ok(0)
}

/// Linux's command line; what stands behind the dashes goes to the program. Kernel messages stay
/// out of the way, addresses are not random, and a panic ends the machine.
fn words(options: &RecordLinux) -> Vec<String> {
    let full = options.full.then(|| "full".to_owned());
    let fixed = "console=ttyAMA0 loglevel=1 norandmaps panic=-1 rdinit=/init --";
    let fixed = fixed.split(' ').map(str::to_owned);
    let seeds = options.seeds.iter().map(u64::to_string);
    fixed
        .chain(full)
        .chain([options.count.to_string()])
        .chain(seeds)
        .collect()
}

/// The sequences that came to their end, each with its first and last line.
fn records(text: &str) -> Vec<String> {
    let mut records = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        if line.starts_with(FIRST) {
            open = Some(String::new());
        }
        if let Some(record) = &mut open {
            record.push_str(line);
            record.push('\n');
        }
        if line == LAST {
            records.extend(open.take());
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_sequences_count_and_nothing_between_them() {
        let text = "noise\nseed 1, 2 calls\na\nend of seed\n[ 1.0] noise\nseed 2, 2 calls\nb\n";
        assert_eq!(records(text), ["seed 1, 2 calls\na\nend of seed\n"]);
    }
}
