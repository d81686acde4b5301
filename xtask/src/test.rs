//! `cargo xtask test`: all tiers, and one line of totals.

mod report;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

pub use report::{Style, Tally, follow};

use crate::cli::Test;
use crate::workspace::Workspace;
use crate::{artifacts, failure, provision, ui};

/// Runs or lists the tests.
///
/// # Errors
/// Cargo cannot be run.
pub fn run(workspace: &Workspace, options: &Test) -> Result<u8> {
    if options.list {
        return list(workspace);
    }
    let tally = tiers(workspace, options)?;
    if let (Some(name), 0, 0) = (&options.name, tally.passed, tally.failed) {
        ui::say(&format!("no test has {name} in its name; --list shows all"));
    }
    println!("{}", tally.line());
    Ok(tally.status())
}

/// All tiers in the order of their cost, each even if an earlier one failed.
///
/// # Errors
/// Cargo cannot be run.
pub fn tiers(workspace: &Workspace, options: &Test) -> Result<Tally> {
    let mut total = Tally::default();
    println!("host tests");
    for mut command in host(workspace) {
        total.add(follow(with_filter(&mut command, options), Style::Short)?);
    }
    if let Some(mut command) = loom(workspace)? {
        println!("model checking (loom)");
        total.add(follow(with_filter(&mut command, options), Style::Short)?);
    }
    total.add(booted(workspace, options)?);
    Ok(total)
}

/// Library and unit tests of everything that has a meaning on the host.
fn host(workspace: &Workspace) -> [Command; 2] {
    let mut all = workspace.cargo();
    all.args([
        "test",
        "--workspace",
        "--exclude",
        "tests",
        "--no-fail-fast",
    ]);
    let mut harness = workspace.cargo();
    harness.args(["test", "--package", "tests", "--lib", "--no-fail-fast"]);
    [all, harness]
}

/// The protocols under loom: the same sources, compiled with `--cfg loom`, in a target directory
/// of their own because that flag is for every crate. None if no crate has such tests.
fn loom(workspace: &Workspace) -> Result<Option<Command>> {
    let crates = std::fs::read_dir(workspace.root().join("kernel"))?;
    let has_loom = |path: &PathBuf| {
        let files = std::fs::read_dir(path.join("tests"))
            .into_iter()
            .flatten()
            .flatten();
        let mut names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        names.any(|name| name.starts_with("loom"))
    };
    let with_tests = crates.flatten().map(|entry| entry.path()).filter(has_loom);
    let mut names: Vec<String> = with_tests
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    if names.is_empty() {
        return Ok(None);
    }
    names.sort();
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut command = workspace.cargo();
    command.args(["test", "--release", "--no-fail-fast", "--test", "loom*"]);
    command.args(names.iter().flat_map(|name| ["--package", name]));
    command.env("RUSTFLAGS", format!("{flags} --cfg loom"));
    command.env("CARGO_TARGET_DIR", workspace.target().join("loom"));
    Ok(Some(command))
}

/// Tests of the booted kernel. What cannot be built counts as one failure, so that the other
/// tiers' results are still told.
fn booted(workspace: &Workspace, options: &Test) -> Result<Tally> {
    let mut command = harness(workspace);
    if let Some(name) = &options.name {
        let listed = names(command.args(["--", "--list", name]))?;
        if listed.is_empty() {
            return Ok(Tally::default());
        }
        command = harness(workspace);
    }
    println!("booted kernel");
    if let Err(error) = prepare(workspace, &mut command) {
        // A missing tool is not a failed test: say what to install, and end with its status.
        if failure::status_of(&error) != xtask::ending::status::BUILD {
            return Err(error);
        }
        ui::say(&format!("{error:#}"));
        return Ok(Tally {
            passed: 0,
            failed: 1,
        });
    }
    follow(with_filter(&mut command, options), Style::Long)
}

fn harness(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo();
    command.args(["test", "--package", "tests", "--test", "qemu"]);
    command
}

/// Builds what the harness boots, and tells it where everything is.
fn prepare(workspace: &Workspace, command: &mut Command) -> Result<()> {
    command.envs(harness_environment(workspace, None)?);
    Ok(())
}

/// Builds what the harness boots, with a feature of the kernel's if one is given, and returns the
/// variables that tell the harness where everything is.
///
/// # Errors
/// A build fails, or QEMU is missing and cannot be had.
pub fn harness_environment(
    workspace: &Workspace,
    feature: Option<&str>,
) -> Result<Vec<(String, OsString)>> {
    let qemu = provision::ensure(workspace)?;
    let kernel = artifacts::kernel_with(workspace, "kernel", feature)?;
    let checked = artifacts::kernel_with(workspace, "checked", feature)?;
    let programs = artifacts::programs(workspace, &["tour", "programs", "servers"])?;
    let (_, program) = programs.first().context("cargo built no programs")?;
    let folder = program.parent().context("a program has a directory")?;
    let variables: [(&str, OsString); 8] = [
        ("TESSERA_QEMU", qemu.path.into()),
        ("TESSERA_KERNEL_IMAGE", kernel.image.into()),
        ("TESSERA_CHECKED_IMAGE", checked.image.into()),
        ("TESSERA_KERNEL_ELF", kernel.elf.unwrap_or_default().into()),
        (
            "TESSERA_CHECKED_ELF",
            checked.elf.unwrap_or_default().into(),
        ),
        ("TESSERA_USER_DIR", folder.into()),
        ("TESSERA_XTASK", own_copy(workspace)?.into()),
        ("TESSERA_OUT", workspace.scratch()?.join("test-logs").into()),
    ];
    let owned = variables.map(|(name, value)| (name.to_owned(), value));
    Ok(owned.into())
}

/// A copy of the running program: building the tests of this package replaces the file itself.
fn own_copy(workspace: &Workspace) -> Result<PathBuf> {
    let copy = workspace.scratch()?.join("xtask-under-test");
    let own = std::env::current_exe()?;
    // Replaced by a build meanwhile, it is still there for the process that runs it.
    let own = match own.exists() {
        true => own,
        false => PathBuf::from("/proc/self/exe"),
    };
    // Written aside and renamed, since an earlier copy may still run.
    let aside = copy.with_extension(std::process::id().to_string());
    std::fs::copy(&own, &aside).with_context(|| format!("cannot copy {}", own.display()))?;
    std::fs::rename(&aside, &copy)?;
    Ok(copy)
}

/// `--full` is told to every test binary by a variable; ignored tests are long ones.
fn with_filter<'a>(command: &'a mut Command, options: &Test) -> &'a mut Command {
    command.arg("--").args(&options.name);
    if options.full {
        command.arg("--include-ignored").env("TESSERA_FULL", "1");
    }
    command
}

fn list(workspace: &Workspace) -> Result<u8> {
    let host = host(workspace).into_iter().map(|command| ("host", command));
    let loom = loom(workspace)?.map(|command| ("loom", command));
    let booted = ("qemu", harness(workspace));
    for (tier, mut command) in host.chain(loom).chain([booted]) {
        for name in names(command.args(["--", "--list"]))? {
            println!("{tier}  {name}");
        }
    }
    Ok(0)
}

/// The test names that a test command lists.
fn names(command: &mut Command) -> Result<Vec<String>> {
    let step = ui::Step::new("building the tests");
    let output = command.output().context("cannot run cargo")?;
    drop(step);
    if !output.status.success() {
        ui::pass_on(&output.stderr);
        let message = "the tests cannot be built";
        return Err(failure::failure(xtask::ending::status::BUILD, message));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}
