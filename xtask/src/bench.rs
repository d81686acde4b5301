//! `cargo xtask bench`: what operations of the kernel cost, in instructions.
//!
//! A kernel with the feature `bench` is booted with `tessera.bench=GROUP`; it runs each operation
//! many times and prints a line for it. QEMU counts instructions exactly, so the figures depend on
//! nothing but the code.

mod compare;
mod rows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use xtask::control::Line;
use xtask::guest::{Guest, Limits};
use xtask::machine::Machine;

use crate::cli::Bench;
use crate::workspace::{Workspace, write_atomically};
use crate::{artifacts, provision, ui};
use compare::Verdict;
use rows::{Group, Measured};

/// A CPU that is built, with all that the kernel can make use of and no instructions that copy
/// memory, so that an instruction means something.
const CPU: &str = "neoverse-n2";
/// Seconds; a group is done in one or two.
const LIMIT: u64 = 120;

/// Runs the groups, prints their tables, and compares or updates.
///
/// # Errors
/// A build fails, QEMU is missing, a file cannot be read, or the kernel did not do what it should.
pub fn run(workspace: &Workspace, options: &Bench) -> Result<u8> {
    let files = files(workspace, options.name.as_deref())?;
    let qemu = provision::ensure(workspace)?;
    let kernel = artifacts::kernel_with(workspace, "kernel", Some("bench"))?;
    let mut worse = 0;
    for file in files {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let mut group = Group::parse(&text).with_context(|| file.display().to_string())?;
        let step = ui::Step::new(format!("measuring {}", group.name));
        let mut measured = BTreeMap::new();
        for (boot, words) in &group.boots {
            let machine = machine(&kernel.image, &group.name, words);
            measured.insert(boot.clone(), measure(&machine, &qemu.path, &group.name)?);
        }
        drop(step);
        let verdicts = compare::all(&group, &measured);
        print!("{}", compare::table(&group, &verdicts));
        if options.update {
            group.update(&measured);
            write_atomically(&file, group.text().as_bytes())?;
            println!("{} has these figures now", file.display());
        } else {
            worse += verdicts.iter().filter(|row| row.verdict.fails()).count();
            complain(&verdicts);
        }
    }
    Ok(u8::from(worse > 0))
}

fn complain(verdicts: &[compare::Judged]) {
    for judged in verdicts {
        let row = &judged.name;
        match &judged.verdict {
            Verdict::Fine => {}
            Verdict::Worse(what) => println!("WORSE    {row}: {what}"),
            Verdict::NoFigure => println!("NEW      {row} has no figure yet; --update writes it"),
            Verdict::NotMeasured => println!("MISSING  {row}: the kernel says nothing of it"),
            Verdict::Unlisted => println!("UNKNOWN  {row} has no row in the file of its group"),
        }
    }
}

/// The files of the groups asked for.
fn files(workspace: &Workspace, name: Option<&str>) -> Result<Vec<PathBuf>> {
    let folder = workspace.root().join("tests/bench");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .filter(|path| name.is_none() || path.file_stem().and_then(|stem| stem.to_str()) == name)
        .collect();
    files.sort();
    if files.is_empty() {
        let what = name.unwrap_or("anything");
        bail!("nothing in {} measures {what}", folder.display());
    }
    Ok(files)
}

fn machine(image: &Path, group: &str, words: &[String]) -> Machine {
    let machine = Machine::new(image)
        .cpu(CPU)
        .icount(true)
        .token(&xtask::control::token())
        .bootarg(format!("tessera.bench={group}"));
    words
        .iter()
        .fold(machine, |machine, word| machine.bootarg(word.as_str()))
}

/// Boots once and reads the rows.
fn measure(machine: &Machine, qemu: &Path, group: &str) -> Result<Vec<Measured>> {
    let run = Guest::spawn(machine, qemu, None)?.run(&Limits::secs(LIMIT), |_, _| Ok(()))?;
    let status = run.qemu.and_then(|status| status.code());
    let done = run.lines.iter().any(|line| line.event() == "bench-done");
    if status != Some(0) || !done {
        let line = xtask::shell::line(&machine.command(qemu));
        let failed = |line: &&Line| line.event() == "bench-failed";
        let why = run.lines.iter().find(failed);
        let why = why
            .and_then(|line| line.get("text"))
            .unwrap_or("no word why");
        bail!(
            "the kernel did not finish group {group}: {why}, status {status:?}; the command was\n\
             {line}"
        );
    }
    let rows = run.lines.iter().filter(|line| line.event() == "bench-row");
    rows.map(Measured::read).collect()
}
