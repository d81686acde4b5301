//! `cargo xtask bench`: what operations of the kernel cost, in instructions.
//!
//! Either a kernel with the feature `bench` is booted with `tessera.bench=GROUP`, runs each
//! operation many times and prints a line for it; or the shipped kernel runs a program of
//! `user/programs` that measures what it costs a program. QEMU counts instructions exactly, so the
//! figures depend on nothing but the code.

mod compare;
mod profile;
mod program;
mod rows;
mod trace;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use xtask::control::Line;
use xtask::guest::{Guest, Limits};
use xtask::initrd::Initrd;
use xtask::machine::Machine;

use crate::cli::Bench;
use crate::workspace::{Workspace, write_atomically};
use crate::{artifacts, provision, ui};
use compare::Verdict;
use program::Said;
use rows::{Group, Measured, Rows};

/// A CPU that is built, with all that the kernel can make use of and no instructions that copy
/// memory, so that an instruction means something.
const CPU: &str = "neoverse-n2";
/// Seconds; a group is done in one or two, or in half a minute by a program.
const LIMIT: u64 = 300;
/// What the names of the kernel's own words begin with.
const KERNEL_WORDS: &str = "tessera.";

/// Runs the groups, prints their tables, and compares or updates.
///
/// # Errors
/// A build fails, QEMU is missing, a file cannot be read, or the kernel did not do what it should.
pub fn run(workspace: &Workspace, options: &Bench) -> Result<u8> {
    let files = files(workspace, options.name.as_deref())?;
    let qemu = provision::ensure(workspace)?.path;
    let mut worse = 0;
    for file in files {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let mut group = Group::parse(&text).with_context(|| file.display().to_string())?;
        let setting = Setting::new(workspace, &group, qemu.clone())?;
        if let Some(row) = &options.profile {
            setting.profile(workspace, &group, row)?;
            continue;
        }
        let step = ui::Step::new(format!("measuring {}", group.name));
        let mut measured = BTreeMap::new();
        for (boot, words) in &group.boots {
            measured.insert(boot.clone(), setting.measure(&group, words)?);
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
            Verdict::NotMeasured => println!("MISSING  {row}: nothing is said of it"),
            Verdict::Missing { why, .. } => println!("MISSING  {row}: {why}"),
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

/// What a group is measured with.
struct Setting {
    kernel: artifacts::Kernel,
    /// The program, by name and file.
    program: Option<(String, PathBuf)>,
    qemu: PathBuf,
    /// Where the program's archive is.
    dir: tempfile::TempDir,
}

impl Setting {
    fn new(workspace: &Workspace, group: &Group, qemu: PathBuf) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("bench-")
            .tempdir_in(workspace.scratch()?)?;
        let Some(name) = &group.program else {
            let kernel = artifacts::kernel_with(workspace, "kernel", Some("bench"))?;
            return Ok(Self {
                kernel,
                program: None,
                qemu,
                dir,
            });
        };
        let programs = artifacts::programs(workspace, &["programs", "servers"])?;
        let program = programs.into_iter().find(|(bin, _)| bin == name);
        let program = program.with_context(|| format!("cargo built no program {name}"))?;
        Ok(Self {
            kernel: artifacts::kernel(workspace, "kernel")?,
            program: Some(program),
            qemu,
            dir,
        })
    }

    /// The machine of a boot, with `more` arguments for the program.
    fn machine(&self, group: &Group, words: &[String], more: &[String]) -> Result<Machine> {
        let (kernel, own): (Vec<&String>, Vec<&String>) = words
            .iter()
            .partition(|word| word.starts_with(KERNEL_WORDS));
        let mut machine = Machine::new(&self.kernel.image)
            .cpu(CPU)
            .icount(true)
            .token(&xtask::control::token());
        if let Some(memory) = &group.memory {
            machine = machine.memory(memory);
        }
        machine = match &self.program {
            None => machine.bootarg(format!("tessera.bench={}", group.name)),
            Some((name, file)) => {
                let bytes = std::fs::read(file)
                    .with_context(|| format!("cannot read {}", file.display()))?;
                let args: Vec<&String> = [name].into_iter().chain(own).chain(more).collect();
                let archive = self.dir.path().join("initrd.cpio");
                std::fs::write(&archive, Initrd::new(&args, &bytes).archive())
                    .context("cannot write the initial RAM disk")?;
                machine.initrd(archive)
            }
        };
        Ok(kernel
            .into_iter()
            .fold(machine, |machine, word| machine.bootarg(word.as_str())))
    }

    /// Boots once and reads the rows.
    fn measure(&self, group: &Group, words: &[String]) -> Result<Rows> {
        let machine = self.machine(group, words, &[])?;
        if self.program.is_none() {
            return measure(&machine, &self.qemu, &group.name).map(Rows::from);
        }
        let guest = Guest::spawn(&machine, &self.qemu, None)?;
        let mut rows = Rows::default();
        for said in program::follow(guest, &Limits::secs(LIMIT))? {
            if let Some(why) = said.reason() {
                rows.missing.insert(said.name().to_owned(), why);
            } else if let Said::Row(measured) = said {
                rows.measured.push(measured);
            }
        }
        Ok(rows)
    }

    fn profile(&self, workspace: &Workspace, group: &Group, row: &str) -> Result<()> {
        let (Some((_, program)), Some(kernel)) = (&self.program, &self.kernel.elf) else {
            bail!(
                "the kernel measures group {} itself: only programs can be profiled",
                group.name
            );
        };
        let listed = group.rows.iter().find(|listed| listed.name == row);
        let listed = listed.with_context(|| format!("group {} has no row {row}", group.name))?;
        let words = group.boots.get(&listed.boot).map_or(&[][..], Vec::as_slice);
        let more = [format!("row={row}")];
        let subject = profile::Subject {
            machine: self.machine(group, words, &more)?,
            kernel,
            program,
            row,
            listing: workspace
                .scratch()?
                .join("profile")
                .join(format!("{row}.txt")),
        };
        profile::run(&subject, &self.qemu)
    }
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
