//! Judging a finished run, believing nothing that only one witness says.
//!
//! The witnesses are the control lines, QEMU's exit status and the watchdog. A kernel that claims
//! success must say so completely: announce, report, count right, and halt with the status that
//! QEMU then really ends with. `xtask::ending` tells users how their run ended; this is stricter.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use xtask::control::Line;

/// The class of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything expected was seen.
    Pass,
    /// The kernel ended in order, but something is not as expected.
    Fail(String),
    /// Nothing that could be believed was ever said.
    Silent(String),
    /// The watchdog ended it.
    Hung(String),
    /// A kernel bug report, a reset, or an end without `halt`.
    Crashed(String),
    /// QEMU itself was killed or refused to run.
    Emulator(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => write!(f, "PASS"),
            Self::Fail(why) => write!(f, "FAIL: {why}"),
            Self::Silent(why) => write!(f, "SILENT: {why}"),
            Self::Hung(why) => write!(f, "HUNG: {why}"),
            Self::Crashed(why) => write!(f, "CRASHED: {why}"),
            Self::Emulator(why) => write!(f, "EMULATOR: {why}"),
        }
    }
}

/// Why the watchdog ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// No byte for so long.
    Quiet(Duration),
    /// The whole run took longer than this.
    Total(Duration),
    /// More than so many bytes of output.
    Flood(usize),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quiet(limit) => write!(f, "no sign of life for {} s", limit.as_secs()),
            Self::Total(limit) => write!(f, "not finished after {} s", limit.as_secs()),
            Self::Flood(limit) => write!(f, "more than {limit} bytes of output"),
        }
    }
}

/// Everything known about a finished run.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// Control lines in order.
    pub lines: Vec<Line>,
    /// The console without the control lines.
    pub output: Vec<u8>,
    /// QEMU's standard error.
    pub complaints: String,
    /// Set when the watchdog ended the run.
    pub stop: Option<Stop>,
    /// QEMU's exit status; `None` if it had to be stopped.
    pub status: Option<ExitStatus>,
}

impl Ended {
    /// The last line of this event.
    pub fn last(&self, event: &str) -> Option<&Line> {
        self.lines.iter().rfind(|line| line.event() == event)
    }

    /// All lines of this event.
    pub fn all<'a>(&'a self, event: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.event() == event)
    }

    /// The in-kernel test that was begun and has not ended, for messages.
    fn open_test(&self) -> Option<&str> {
        let line = self
            .lines
            .iter()
            .rfind(|line| line.event().starts_with("test-"))?;
        (line.event() == "test-begin").then(|| line.get("name").unwrap_or("without a name"))
    }

    fn place(&self) -> String {
        match (self.open_test(), self.lines.last()) {
            (Some(test), _) => format!("in test {test}"),
            (None, Some(line)) => format!("after `{} {}`", line.event(), line.rest()),
            (None, None) => "before the first control line".into(),
        }
    }

    /// The status of a machine that ended in order: one `halt` line, the last of all, with the
    /// status QEMU ended with.
    ///
    /// # Errors
    /// The class of any other end.
    pub fn halted(&self) -> Result<u8, Outcome> {
        let signal = self.status.and_then(|status| status.signal());
        if let Some(signal) = signal {
            return Err(Outcome::Emulator(format!(
                "QEMU was killed by signal {signal} {}",
                self.place()
            )));
        }
        if let Some(bug) = self.last("bug") {
            return Err(Outcome::Crashed(format!(
                "kernel bug {}: {}",
                self.place(),
                bug.rest()
            )));
        }
        if self.all("boot").count() > 1 {
            return Err(Outcome::Crashed(
                "the machine was reset and booted again".into(),
            ));
        }
        match (self.stop, self.status.and_then(|status| status.code())) {
            (Some(stop), _) => Err(self.stopped(stop)),
            (None, None) => Err(Outcome::Hung(format!(
                "QEMU closed its console and stayed, {}",
                self.place()
            ))),
            (None, Some(code)) => self.exited(code),
        }
    }

    fn stopped(&self, stop: Stop) -> Outcome {
        if self.lines.is_empty() && self.output.is_empty() {
            return Outcome::Silent(stop.to_string());
        }
        Outcome::Hung(format!("{stop}, {}", self.place()))
    }

    fn exited(&self, code: i32) -> Result<u8, Outcome> {
        if self.lines.is_empty() {
            let refused = code != 0 && self.output.is_empty() && !self.complaints.is_empty();
            return Err(if refused {
                Outcome::Emulator(format!(
                    "QEMU ended with status {code}: {}",
                    self.complaints.trim()
                ))
            } else {
                Outcome::Silent(format!("ended with status {code} without a control line"))
            });
        }
        let Some(halt) = self.all("halt").next() else {
            return Err(Outcome::Crashed(format!(
                "ended with status {code} without halt, {}",
                self.place()
            )));
        };
        let last = self.lines.last().is_some_and(|line| line.event() == "halt");
        if !last || self.all("halt").count() != 1 {
            return Err(Outcome::Fail("control lines after halt".into()));
        }
        match halt
            .number("status")
            .and_then(|status| u8::try_from(status).ok())
        {
            Some(status) if i32::from(status) == code => Ok(status),
            _ => Err(Outcome::Fail(format!(
                "`halt {}`, but QEMU ended with status {code}",
                halt.rest()
            ))),
        }
    }
}

/// One finished in-kernel test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Its name.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// What it said.
    pub text: String,
}

/// The in-kernel tests of a run: announced one by one, each ended before the next, counted right.
///
/// # Errors
/// The class of a run that is not in order. A failed test is not an error here, see [`self_tests`].
pub fn reported(ended: &Ended) -> Result<Vec<Reported>, Outcome> {
    let halted = ended.halted();
    let (mut open, mut tests) = (None, Vec::new());
    let mut done = None;
    for line in &ended.lines {
        let name = line.get("name").map(str::to_owned);
        match line.event() {
            "test-begin" if open.is_none() && done.is_none() => open = Some(name),
            "test-end" if open.as_ref() == Some(&name) => {
                open = None;
                tests.push(Reported {
                    name: name.unwrap_or_default(),
                    passed: line.get("result") == Some("pass"),
                    text: line.get("text").unwrap_or_default().into(),
                });
            }
            "tests-done" if open.is_none() && done.is_none() => done = Some(line),
            event @ ("test-begin" | "test-end" | "tests-done") => {
                halted?;
                return Err(Outcome::Fail(format!(
                    "`{event} {}` out of order",
                    line.rest()
                )));
            }
            _ => {}
        }
    }
    let status = halted?;
    if let Some(name) = open {
        return Err(Outcome::Crashed(format!(
            "halted in test {}",
            name.unwrap_or_default()
        )));
    }
    let done = done.ok_or_else(|| Outcome::Fail("no tests-done".into()))?;
    counted(done, &tests, status)?;
    Ok(tests)
}

fn counted(done: &Line, tests: &[Reported], status: u8) -> Result<(), Outcome> {
    let passed = tests.iter().filter(|test| test.passed).count() as u64;
    let failed = tests.len() as u64 - passed;
    if (done.number("passed"), done.number("failed")) != (Some(passed), Some(failed)) {
        return Err(Outcome::Fail(format!(
            "`tests-done {}`, but {passed} passed, {failed} failed",
            done.rest()
        )));
    }
    if (status == 0) != (failed == 0) {
        return Err(Outcome::Fail(format!(
            "{failed} tests failed, but the status is {status}"
        )));
    }
    Ok(())
}

/// Passes when at least one test was reported and all passed.
pub fn self_tests(ended: &Ended) -> Outcome {
    let tests = match reported(ended) {
        Ok(tests) => tests,
        Err(outcome) => return outcome,
    };
    let failed: Vec<_> = tests.iter().filter(|test| !test.passed).collect();
    match failed.first() {
        _ if tests.is_empty() => Outcome::Fail("no test was run".into()),
        None => Outcome::Pass,
        Some(first) => Outcome::Fail(format!(
            "{} of {} in-kernel tests failed, first {}: {}",
            failed.len(),
            tests.len(),
            first.name,
            first.text
        )),
    }
}

/// How a program is expected to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It calls exit with this status.
    Exit(u8),
    /// A signal ends it.
    Killed(u8),
    /// It cannot be started, for this reason (any reason when empty).
    ExecFail(&'static str),
}

impl Ending {
    /// The status the machine halts with.
    pub fn status(self) -> u8 {
        match self {
            Self::Exit(status) => status,
            Self::Killed(signal) => 128 + signal,
            Self::ExecFail(_) => 126,
        }
    }
}

/// Passes when the program ended as expected, said once and in agreement with the status.
pub fn program(ended: &Ended, expected: Ending) -> Outcome {
    let status = match ended.halted() {
        Ok(status) => status,
        Err(outcome) => return outcome,
    };
    let endings: Vec<_> = ended
        .lines
        .iter()
        .filter(|line| matches!(line.event(), "exit" | "killed" | "execfail"))
        .collect();
    let [ending] = endings[..] else {
        return Outcome::Fail(format!(
            "{} lines tell how the program ended",
            endings.len()
        ));
    };
    let as_expected = match expected {
        Ending::Exit(status) => {
            ending.event() == "exit" && ending.number("status") == Some(status.into())
        }
        Ending::Killed(signal) => {
            ending.event() == "killed" && ending.number("signal") == Some(signal.into())
        }
        Ending::ExecFail(reason) => {
            let given = ending.get("reason").unwrap_or_default();
            ending.event() == "execfail"
                && !given.is_empty()
                && (reason.is_empty() || reason == given)
        }
    };
    if !as_expected || status != expected.status() {
        let (event, rest) = (ending.event(), ending.rest());
        return Outcome::Fail(format!(
            "expected {expected:?}, got `{event} {rest}`, status {status}"
        ));
    }
    Outcome::Pass
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
