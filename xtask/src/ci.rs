//! `cargo xtask ci`: everything a commit must pass.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::cli::{Bench, Ci, Miri, Mutants, Test};
use crate::workspace::Workspace;
use crate::{bench, lints, miri, mutants, test, toolchain, ui};

/// Runs every step, also behind a failed one, and ends on the tests' totals.
///
/// # Errors
/// Cargo cannot be run at all.
pub fn run(workspace: &Workspace, options: &Ci) -> Result<u8> {
    toolchain::ensure(toolchain::KERNEL)?;
    toolchain::ensure(toolchain::USER)?;
    let mut failed: Vec<&str> = Vec::new();
    for (name, mut command) in commands(workspace) {
        if !passes(name, || Ok(quiet(&mut command)))? {
            failed.push(name);
        }
    }
    if !passes("house rules", || lints::check(workspace.root()))? {
        failed.push("house rules");
    }
    match dependencies(workspace) {
        Some(mut command) => {
            if !passes("dependencies", || Ok(quiet(&mut command)))? {
                failed.push("dependencies");
            }
        }
        None => println!(
            "SKIPPED  dependencies: cargo-deny is not installed (cargo install cargo-deny), so \
             licences and sources of the dependencies were not checked"
        ),
    }
    let tests = Test {
        full: options.full,
        ..Test::default()
    };
    let mut tally = test::tiers(workspace, &tests)?;
    if options.full {
        let bench = Bench {
            name: None,
            update: false,
            profile: None,
        };
        if bench::run(workspace, &bench)? != 0 {
            failed.push("benchmarks");
        }
        println!("planted faults");
        tally.add(mutants::tally(workspace, &Mutants::default())?);
        tally.add(miri::tally(workspace, &Miri::default())?);
    }
    if !failed.is_empty() {
        println!("failed beside the tests: {}", failed.join(", "));
    }
    println!("{}", tally.line());
    Ok(if failed.is_empty() { tally.status() } else { 1 })
}

/// The steps that are a cargo command each.
fn commands(workspace: &Workspace) -> Vec<(&'static str, Command)> {
    let cargo = |words: &[&str]| {
        let mut command = workspace.cargo();
        command.args(words);
        command
    };
    let strict = ["--", "-D", "warnings"];
    let clippy = |words: &[&str]| cargo(&[&["clippy", "--quiet"], words, &strict].concat());
    let kernel = [
        "--package",
        "boot",
        "--package",
        "kernel",
        "--target",
        toolchain::KERNEL,
    ];
    let user = [
        "--package",
        "tour",
        "--package",
        "programs",
        "--package",
        "servers",
        "--target",
        toolchain::USER,
    ];
    let mut docs = cargo(&["doc", "--quiet", "--workspace", "--no-deps"]);
    docs.args(["--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings");
    vec![
        ("format", cargo(&["fmt", "--all", "--check"])),
        ("clippy, host", clippy(&["--workspace", "--all-targets"])),
        ("clippy, kernel", clippy(&kernel)),
        (
            "clippy, kernel with benchmarks",
            clippy(&[&kernel[..], &["--features", "kernel/bench"]].concat()),
        ),
        (
            "clippy, faults",
            clippy(&[
                "--package",
                "sync",
                "--all-targets",
                "--features",
                "planted",
            ]),
        ),
        ("clippy, programs", clippy(&user)),
        ("documentation", docs),
    ]
}

/// The check of licences, sources and duplicates, if its tool is there. Advisories need a database
/// from the network, which not every machine has.
fn dependencies(workspace: &Workspace) -> Option<Command> {
    let there = workspace.cargo().args(["deny", "--version"]).output();
    there.is_ok_and(|output| output.status.success()).then(|| {
        let mut command = workspace.cargo();
        command.args([
            "deny",
            "--log-level",
            "warn",
            "check",
            "bans",
            "licenses",
            "sources",
        ]);
        command
    })
}

/// The output of a command if it fails.
fn quiet(command: &mut Command) -> Vec<String> {
    match command.output() {
        Err(error) => vec![format!(
            "cannot run {}: {error}",
            xtask::shell::line(command)
        )],
        Ok(output) if output.status.success() => Vec::new(),
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let mut lines: Vec<String> = String::from_utf8_lossy(&text)
                .lines()
                .map(str::to_owned)
                .collect();
            lines.push(format!("the command was: {}", xtask::shell::line(command)));
            lines
        }
    }
}

/// Runs a step, shows its complaints, and tells whether there were none.
fn passes(name: &str, step: impl FnOnce() -> Result<Vec<String>>) -> Result<bool> {
    let started = Instant::now();
    let spinner = ui::Step::new(name);
    let complaints = step()?;
    drop(spinner);
    complaints.iter().for_each(|line| println!("{line}"));
    let word = if complaints.is_empty() {
        "ok    "
    } else {
        "FAILED"
    };
    println!("{word}   {name} ({:.1} s)", started.elapsed().as_secs_f32());
    Ok(complaints.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::commands;
    use crate::workspace::Workspace;

    /// The features that packages declare, in one directory of packages.
    fn features(packages: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(packages).expect("a directory").flatten() {
            let Ok(manifest) = fs::read_to_string(entry.path().join("Cargo.toml")) else {
                continue;
            };
            let section = manifest.split("\n[").find(|s| s.starts_with("features]"));
            let lines = section.into_iter().flat_map(|text| text.lines().skip(1));
            let names = lines.filter(|line| !line.starts_with('#'));
            found.extend(names.filter_map(|line| Some(line.split_once('=')?.0.trim().to_owned())));
        }
    }

    /// PTE-10: handles that cannot be misused say nothing of code that no build compiles. Whoever
    /// adds a feature adds the build that has it.
    #[test]
    fn every_configuration_is_compiled() {
        let workspace = Workspace::find().expect("the workspace");
        let mut found = BTreeSet::new();
        for packages in ["", "kernel", "user"] {
            features(&workspace.root().join(packages), &mut found);
        }
        // `inject` comes with the development dependencies of the host build.
        let known = ["bench", "inject", "planted"].map(String::from);
        assert_eq!(found, BTreeSet::from(known));
        let lines: Vec<String> = commands(&workspace)
            .iter()
            .filter(|(name, _)| name.starts_with("clippy"))
            .map(|(_, command)| xtask::shell::line(command))
            .collect();
        assert_eq!(lines.len(), 5, "{lines:#?}");
        for feature in ["bench", "planted"] {
            assert!(lines.iter().any(|line| line.contains(feature)), "{feature}");
        }
    }
}
