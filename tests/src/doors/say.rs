//! Runs the xtask binary and keeps what it said.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{env, runner};

/// Longest wait for one command; each also gives itself a `--timeout`.
const PATIENCE: Duration = Duration::from_secs(300);

/// A finished command.
pub(super) struct Said {
    pub(super) command: String,
    pub(super) status: i32,
    pub(super) out: Vec<u8>,
    pub(super) err: String,
}

impl Said {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Fails with everything that was said unless `condition` holds.
    pub(super) fn ensure(&self, condition: bool, what: &str) -> Result<()> {
        ensure!(
            condition,
            "{what}\n  command: {}\n  status: {}\n  stdout:\n{}\n  stderr:\n{}",
            self.command,
            self.status,
            tail(&self.text()),
            tail(&self.err)
        );
        Ok(())
    }

    pub(super) fn status(&self, expected: i32) -> Result<()> {
        self.ensure(
            self.status == expected,
            &format!("expected status {expected}"),
        )
    }

    /// Standard error has these words.
    pub(super) fn says(&self, words: &[&str]) -> Result<()> {
        let missing = words.iter().find(|word| !self.err.contains(**word));
        self.ensure(
            missing.is_none(),
            &format!("standard error lacks {missing:?}"),
        )
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// `xtask qemu WORDS` as it was given to us, with the QEMU of the other tests.
pub(super) fn command(words: &[&str]) -> Result<Command> {
    xtask_command(&[&["qemu"], words].concat())
}

/// `xtask WORDS`, as above.
pub(super) fn xtask_command(words: &[&str]) -> Result<Command> {
    let mut command = Command::new(env::xtask()?);
    command.args(words).env("QEMU", env::qemu()?);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

pub(super) fn qemu(name: &str, words: &[&str]) -> Result<Said> {
    say(name, command(words)?)
}

pub(super) fn say(name: &str, mut command: Command) -> Result<Said> {
    let line = xtask::shell::line(&command);
    let child = command
        .spawn()
        .with_context(|| format!("cannot run {line}"))?;
    let output = wait(child).with_context(|| format!("{line} did not end"))?;
    let log = env::out()?.join(format!("{}.log", runner::file_name(name)));
    fs::write(
        log,
        [
            line.as_bytes(),
            b"\n",
            &output.stdout,
            b"\n---\n",
            &output.stderr,
        ]
        .concat(),
    )?;
    Ok(Said {
        command: line,
        status: output.status.code().unwrap_or(-1),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Waits for the end, reading both pipes; kills a command that takes too long.
pub(super) fn wait(mut child: Child) -> Result<Output> {
    fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
            bytes
        })
    }
    let out = child.stdout.take().map(collect);
    let err = child.stderr.take().map(collect);
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            bail!("not within {} s", PATIENCE.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    };
    let join = |thread: Option<thread::JoinHandle<Vec<u8>>>| {
        thread
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    };
    Ok(Output {
        status,
        stdout: join(out),
        stderr: join(err),
    })
}

/// Processes whose parent is `pid`.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let path = PathBuf::from(format!("/proc/{pid}/task"));
    let Ok(threads) = fs::read_dir(path) else {
        return Vec::new();
    };
    let lists = threads
        .flatten()
        .flat_map(|thread| fs::read_to_string(thread.path().join("children")));
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .flat_map(str::parse)
                .collect::<Vec<_>>()
        })
        .collect()
}

pub(super) fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok()
}
