//! Boots one machine under a watchdog and keeps everything it said.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xtask::guest::{Guest, Limits as GuestLimits, Piece};
use xtask::machine::Machine;

use crate::env;
use crate::outcome::{Ended, Outcome, Stop};

/// When the watchdog bites.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time without a byte from the console.
    pub quiet: Duration,
    /// Longest run.
    pub total: Duration,
    /// Most bytes of output.
    pub bytes: usize,
}

impl Limits {
    /// For tests under icount: on an idle machine they take a second, on a loaded one ten.
    pub const FUNCTIONAL: Self = Self {
        quiet: Duration::from_secs(60),
        total: Duration::from_secs(240),
        bytes: 64 << 20,
    };
    /// For stress tests, whose threads really run in parallel.
    pub const STRESS: Self = Self {
        quiet: Duration::from_secs(240),
        total: Duration::from_secs(900),
        bytes: 64 << 20,
    };
}

/// What follows a run while it happens: answers the kernel's snapshots, types at its prompt, …
pub trait Watcher {
    /// Sees one piece.
    ///
    /// # Errors
    /// Ends the run; the harness itself is at fault then, not the kernel.
    fn piece(&mut self, guest: &mut Guest, piece: &Piece) -> Result<()>;
}

/// Only listens.
#[derive(Debug)]
pub struct Listener;

impl Watcher for Listener {
    fn piece(&mut self, _: &mut Guest, _: &Piece) -> Result<()> {
        Ok(())
    }
}

/// A boot of a test.
#[derive(Debug)]
pub struct Boot {
    name: String,
    machine: Machine,
    limits: Limits,
}

/// A finished boot.
#[derive(Debug)]
pub struct Booted {
    /// What is known about it.
    pub ended: Ended,
    command: String,
    log: PathBuf,
}

impl Boot {
    /// A boot for the test `name`, which also names the log; with the fault that is to be planted,
    /// if any.
    pub fn new(name: &str, machine: Machine, limits: Limits) -> Self {
        let machine = match env::fault() {
            Some(fault) => machine.bootarg(format!("tessera.fault={fault}")),
            None => machine,
        };
        Self {
            name: name.into(),
            machine,
            limits,
        }
    }

    /// Boots, and follows the machine to its end or to a limit.
    ///
    /// # Errors
    /// QEMU cannot be started, a log cannot be written, or `watcher` failed.
    pub fn run(self, watcher: &mut dyn Watcher) -> Result<Booted> {
        let log = env::out()?.join(format!("{}.log", file_name(&self.name)));
        let qemu = env::qemu()?;
        let command = xtask::shell::line(&self.machine.command(&qemu));
        announce(&self.name, &command)?;
        let watchdog = Watchdog::start(self.limits);
        let limits = GuestLimits {
            interrupt: Some(Arc::clone(&watchdog.bite)),
            ..GuestLimits::default()
        };
        let guest = Guest::spawn(&self.machine, &qemu, Some(&log))?;
        let mut output = Vec::new();
        let run = guest.run(&limits, |guest, piece| {
            watchdog.feed();
            if let Piece::Output(bytes) = piece {
                output.extend_from_slice(bytes);
                watchdog.count(output.len());
            }
            watcher.piece(guest, piece)
        })?;
        let ended = Ended {
            lines: run.lines,
            output,
            complaints: run.complaints,
            // A machine that ended by itself in the last moment was not stopped.
            stop: watchdog.reason().filter(|_| run.qemu.is_none()),
            status: run.qemu,
        };
        Ok(Booted {
            ended,
            command,
            log,
        })
    }
}

impl Booted {
    /// Turns a verdict into the result of a test, with all that helps to find the cause.
    ///
    /// # Errors
    /// Every outcome but [`Outcome::Pass`].
    pub fn verdict(&self, outcome: Outcome) -> Result<()> {
        if outcome == Outcome::Pass {
            return Ok(());
        }
        let raw = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&raw);
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(25)..].join("\n    ");
        anyhow::bail!(
            "{outcome}\n  command: {}\n  log: {}\n  QEMU said: {}\n  last lines:\n    {tail}",
            self.command,
            self.log.display(),
            self.ended.complaints.trim(),
        );
    }
}

/// A test's name as the name of a file.
pub fn file_name(test: &str) -> String {
    test.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// Says what is about to run, before it does: on the terminal, and in a journal that survives.
fn announce(name: &str, command: &str) -> Result<()> {
    eprintln!("running {name}");
    let path = env::out()?.join("journal");
    let mut journal = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)?;
    // One write, so that tests running at the same time do not mix their lines.
    let entry = format!("running {name}\n    {command}\n");
    journal
        .write_all(entry.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Interrupts a run that is quiet, long or loud.
struct Watchdog {
    bite: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    /// Milliseconds after `started` of the last sign of life.
    fed: Arc<AtomicU64>,
    reason: Arc<Mutex<Option<Stop>>>,
    started: Instant,
    most: usize,
}

impl Watchdog {
    fn start(limits: Limits) -> Self {
        let dog = Self {
            bite: Arc::default(),
            over: Arc::default(),
            fed: Arc::default(),
            reason: Arc::default(),
            started: Instant::now(),
            most: limits.bytes,
        };
        let (bite, over, fed) = (
            Arc::clone(&dog.bite),
            Arc::clone(&dog.over),
            Arc::clone(&dog.fed),
        );
        let (reason, started) = (Arc::clone(&dog.reason), dog.started);
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(50));
                let elapsed = started.elapsed();
                let quiet =
                    elapsed.saturating_sub(Duration::from_millis(fed.load(Ordering::Relaxed)));
                if elapsed > limits.total {
                    give_up(&bite, &reason, Stop::Total(limits.total));
                } else if quiet > limits.quiet {
                    give_up(&bite, &reason, Stop::Quiet(limits.quiet));
                }
            }
        });
        dog
    }

    fn feed(&self) {
        self.fed
            .store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn count(&self, bytes: usize) {
        if bytes > self.most {
            give_up(&self.bite, &self.reason, Stop::Flood(self.most));
        }
    }

    fn reason(&self) -> Option<Stop> {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// The first reason counts.
fn give_up(bite: &AtomicBool, reason: &Mutex<Option<Stop>>, stop: Stop) {
    reason
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert(stop);
    bite.store(true, Ordering::Relaxed);
}
