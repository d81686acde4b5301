//! Running one test with and without a fault, and what that says.

use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The variable that plants a fault, in host tests and through the harness in the kernel.
const FAULT: &str = "TESSERA_FAULT";
/// How often a running test is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A run of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Success,
    Failure,
    /// Ended by a signal or its own abort.
    Crash,
    /// Stopped by us.
    Hang,
}

/// A test without a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clean {
    /// It passed, in this time.
    Passed(Duration),
    /// It did not, and why.
    Failed(&'static str),
}

/// A test with a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It noticed: how, if not by failing, and how long that took.
    Killed {
        /// Words to put behind the test's name.
        how: &'static str,
        /// From start to end.
        took: Duration,
    },
    /// It passed.
    Survived,
}

/// Runs a test that has to pass within `limit`s that are meant for quick ones.
///
/// # Errors
/// It cannot be started.
pub fn clean(mut command: Command, limit: Duration) -> Result<Clean> {
    command.env_remove(FAULT);
    // Nobody knows yet how long it takes.
    let (end, took) = run(&mut command, limit * 10)?;
    Ok(match end {
        End::Success => Clean::Passed(took),
        End::Failure => Clean::Failed("it is red"),
        End::Crash => Clean::Failed("it crashes"),
        End::Hang => Clean::Failed("it hangs"),
    })
}

/// Runs a test that has to notice `fault`.
///
/// # Errors
/// It cannot be started.
pub fn planted(mut command: Command, fault: &str, limit: Duration) -> Result<Verdict> {
    command.env(FAULT, fault);
    let (end, took) = run(&mut command, limit)?;
    let how = match end {
        End::Success => return Ok(Verdict::Survived),
        End::Failure => "",
        End::Crash => ", by a crash",
        End::Hang => ", by a hang",
    };
    Ok(Verdict::Killed { how, took })
}

fn run(command: &mut Command, limit: Duration) -> Result<(End, Duration)> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let started = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {}", xtask::shell::line(command)))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((end(status), started.elapsed()));
        }
        if started.elapsed() > limit {
            // It may have ended by itself meanwhile.
            let _ = child.kill();
            child.wait()?;
            return Ok((End::Hang, started.elapsed()));
        }
        std::thread::sleep(LOOK);
    }
}

fn end(status: ExitStatus) -> End {
    match status.code() {
        Some(0) => End::Success,
        Some(_) => End::Failure,
        None => End::Crash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than a loaded machine takes to start a shell.
    const LIMIT: Duration = Duration::from_secs(30);

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn how(script: &str, limit: Duration) -> Option<&'static str> {
        match planted(sh(script), "X", limit).unwrap() {
            Verdict::Killed { how, .. } => Some(how),
            Verdict::Survived => None,
        }
    }

    #[test]
    fn whatever_is_no_success_kills_a_fault() {
        assert_eq!(how("exit 101", LIMIT), Some(""));
        assert_eq!(how("kill -SEGV $$", LIMIT), Some(", by a crash"));
        let short = Duration::from_millis(100);
        assert_eq!(how("exec sleep 30", short), Some(", by a hang"));
        assert_eq!(how("exit 0", LIMIT), None);
    }

    #[test]
    fn the_fault_is_there_in_one_run_and_not_in_the_other() {
        let noticing = "test \"$TESSERA_FAULT\" != X";
        assert_eq!(how(noticing, LIMIT), Some(""));
        let mut command = sh(noticing);
        command.env(FAULT, "X");
        assert!(matches!(clean(command, LIMIT).unwrap(), Clean::Passed(_)));
    }

    #[test]
    fn a_test_that_is_red_without_a_fault_proves_nothing() {
        let clean = |script| clean(sh(script), LIMIT).unwrap();
        assert_eq!(clean("exit 1"), Clean::Failed("it is red"));
        assert_eq!(clean("kill -9 $$"), Clean::Failed("it crashes"));
        assert!(trial_cannot_start());
    }

    /// What cannot be started is an error, not a killed fault.
    fn trial_cannot_start() -> bool {
        planted(Command::new("/no/such/test"), "X", LIMIT).is_err()
    }
}
