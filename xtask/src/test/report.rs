//! Reads what `cargo test` prints, shows what matters of it, and counts.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::ui;

/// Tests counted over several test binaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed, and what kept tests from running.
    pub failed: u64,
}

impl Tally {
    /// Adds the results of further tests.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// The exit status: 1 if anything failed or nothing ran.
    pub fn status(self) -> u8 {
        u8::from(self.failed > 0 || self.passed == 0)
    }

    /// The last line of every test run.
    pub fn line(self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }
}

/// How much of a test command's output is shown while it succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One line per test binary; all of its output if it fails.
    Short,
    /// Every line as it comes: these tests take seconds each.
    Long,
}

/// Runs a test command and counts.
///
/// # Errors
/// Cargo cannot be run.
pub fn follow(command: &mut Command, style: Style) -> Result<Tally> {
    let (reader, writer) = std::io::pipe()?;
    // Both streams in one pipe keep cargo's headings in order with what the tests print.
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command.spawn().context("cannot run cargo")?;
    // Our copies of the pipe's writing end are inside the command; only the child's may stay open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut report = Report::new(style);
    let mut building = Some(ui::Step::new("building the tests"));
    for line in BufReader::new(reader).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if heading(&line).is_some() {
            building = None;
        }
        report.line(&line);
    }
    drop(building);
    let status = child.wait()?;
    Ok(report.finish(status.success()))
}

/// Reads the output of `cargo test`.
struct Report {
    style: Style,
    binary: String,
    shown: Vec<String>,
    tally: Tally,
}

impl Report {
    fn new(style: Style) -> Self {
        Self {
            style,
            binary: String::new(),
            shown: Vec::new(),
            tally: Tally::default(),
        }
    }

    fn line(&mut self, line: &str) {
        if let Some(binary) = heading(line) {
            // A binary that ended without a result has crashed: its output is kept for the end.
            if self.shown.iter().any(|line| line.starts_with("running ")) {
                self.crashed();
            }
            self.shown.clear();
            self.binary = binary;
        } else if let Some(result) = result(line) {
            self.result(result);
        } else if self.style == Style::Long && !self.binary.is_empty() {
            println!("{line}");
            self.shown.push(line.to_owned());
        } else {
            self.shown.push(line.to_owned());
        }
    }

    fn result(&mut self, result: Tally) {
        self.tally.add(result);
        if result.failed > 0 && self.style == Style::Short {
            self.shown.iter().for_each(|line| println!("{line}"));
        }
        if result != Tally::default() {
            println!("  {}: {}", self.binary, result.line());
        }
        self.shown.clear();
    }

    fn crashed(&mut self) {
        self.tally.failed += 1;
        if self.style == Style::Short {
            self.shown.iter().for_each(|line| println!("{line}"));
        }
        println!("  {}: ended without a result", self.binary);
        self.shown.clear();
    }

    /// Cargo failed and no test did: the build, or a binary that crashed.
    fn finish(mut self, success: bool) -> Tally {
        let unfinished = self.shown.iter().any(|line| line.starts_with("running "));
        if unfinished {
            self.crashed();
        } else if !success && self.tally.failed == 0 {
            self.shown.iter().for_each(|line| println!("{line}"));
            println!("  cargo test failed");
            self.tally.failed += 1;
        }
        self.tally
    }
}

/// The name of the test binary from cargo's line about it.
fn heading(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(crate_name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{crate_name} (documentation)"));
    }
    let (source, file) = line.strip_prefix("Running ")?.rsplit_once('(')?;
    let file = file.trim_end_matches(')').rsplit('/').next()?;
    let name = file.rsplit_once('-').map_or(file, |(name, _)| name);
    let source = source.trim().trim_start_matches("unittests ");
    Some(if source == "src/lib.rs" {
        name.to_owned()
    } else {
        format!("{name} ({source})")
    })
}

/// The numbers of `test result: ok. 3 passed; 0 failed; …`.
fn result(line: &str) -> Option<Tally> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        let before = rest.split(word).next()?.trim_end();
        before.rsplit([' ', ';']).next()?.parse().ok()
    };
    Some(Tally {
        passed: number("passed")?,
        failed: number("failed")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str], success: bool) -> Tally {
        let mut report = Report::new(Style::Short);
        lines.iter().for_each(|line| report.line(line));
        report.finish(success)
    }

    const GOOD: [&str; 4] = [
        "     Running unittests src/lib.rs (target/debug/deps/arm64-0123)",
        "running 3 tests",
        "...",
        "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0s",
    ];

    #[test]
    fn totals_are_summed_over_binaries() {
        let failed = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured";
        let tally = report(&[&GOOD[..], &GOOD[..2], &[failed]].concat(), false);
        assert_eq!(
            tally,
            Tally {
                passed: 4,
                failed: 2
            }
        );
        assert_eq!(
            (tally.line().as_str(), tally.status()),
            ("4 passed, 2 failed", 1)
        );
    }

    #[test]
    fn a_crashed_binary_and_a_failed_build_count_as_failures() {
        assert_eq!(report(&[&GOOD[..], &GOOD[..2]].concat(), false).failed, 1);
        assert_eq!(
            report(&[&GOOD[..2], &GOOD[..]].concat(), false),
            Tally {
                passed: 3,
                failed: 1
            }
        );
        assert_eq!(report(&["error[E0308]: mismatched types"], false).failed, 1);
        assert_eq!(
            report(&GOOD, true),
            Tally {
                passed: 3,
                failed: 0
            }
        );
    }

    #[test]
    fn nothing_run_is_no_success() {
        assert_eq!(Tally::default().status(), 1);
    }

    #[test]
    fn headings_name_the_crate() {
        assert_eq!(heading(GOOD[0]).as_deref(), Some("arm64"));
        let other = "     Running tests/loom_grace.rs (/t/release/deps/loom_grace-9f)";
        assert_eq!(
            heading(other).as_deref(),
            Some("loom_grace (tests/loom_grace.rs)")
        );
        assert_eq!(
            heading("   Doc-tests sync").as_deref(),
            Some("sync (documentation)")
        );
        assert_eq!(heading("running 3 tests"), None);
    }
}
