//! A running QEMU as a stream of pieces. It is stopped when its [`Guest`] is dropped.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::control::{Demux, Found, Line};
use crate::ending::{Ending, Stop, judge};
use crate::machine::Machine;

/// How many pieces may wait: a program that prints faster than we show is slowed down, not stored.
const PIECES: usize = 256;
/// How often a run that waits looks for an interrupt.
const POLL: Duration = Duration::from_millis(50);
/// After this pause on a terminal, a lone `@` that might begin a control line is shown.
const PAUSE: Duration = Duration::from_millis(300);
/// How long QEMU may take to end once it has closed its output.
const LAST_GASP: Duration = Duration::from_secs(10);
/// How much of the end of the output is kept for messages, in bytes.
const TAIL: usize = 4096;

/// What QEMU says when a machine that counts instructions is idle without a timer, waiting for
/// input at the prompt: nothing is wrong.
const IDLE_WARNING: &str = "icount sleep disabled and no active timers";

/// What comes out of a running machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the program (and, before it, of a kernel that logs).
    Output(Vec<u8>),
    /// A control line.
    Control(Line),
    /// A line of QEMU's own standard error.
    Complaint(String),
}

/// When to give up on a run.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Until the `el0` line, or the first `test-begin`; `None`: no limit.
    pub boot: Option<Duration>,
    /// For the whole run; `None`: no limit.
    pub total: Option<Duration>,
    /// Set from elsewhere (a signal handler) to end the run.
    pub interrupt: Option<Arc<AtomicBool>>,
    /// Show a held `@` after a pause, for people at a terminal; not byte-exact under heavy load.
    pub interactive: bool,
}

impl Limits {
    /// A limit for the whole run.
    #[must_use]
    pub fn secs(total: u64) -> Self {
        Self {
            total: Some(Duration::from_secs(total)),
            ..Self::default()
        }
    }
}

/// A finished run.
#[derive(Debug)]
pub struct Run {
    /// The verdict.
    pub ending: Ending,
    /// Every control line, in order.
    pub lines: Vec<Line>,
    /// The last bytes of the output, at most four kibibytes.
    pub tail: Vec<u8>,
    /// What QEMU wrote to its standard error.
    pub complaints: String,
    /// QEMU's exit status; `None` if it was stopped.
    pub qemu: Option<ExitStatus>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Run {
    /// The last line with this event.
    #[must_use]
    pub fn line(&self, event: &str) -> Option<&Line> {
        self.lines.iter().rev().find(|line| line.event() == event)
    }
}

/// Takes the lines of QEMU's standard error, without their ends, and says which were its own: the
/// others are complaints.
pub type Listener = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// A QEMU process and the threads that read from it.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    input: Option<ChildStdin>,
    pieces: Receiver<Piece>,
    demux: Arc<Mutex<Demux>>,
    started: Instant,
}

impl Guest {
    /// Starts the machine. `raw_log` gets every byte of the console, control lines included.
    ///
    /// Call it from a thread that outlives the guest: where the system can, QEMU is tied to that
    /// thread's life, so that it ends even when this process is killed outright.
    ///
    /// # Errors
    /// QEMU cannot be started, or the log cannot be written.
    pub fn spawn(machine: &Machine, qemu: &Path, raw_log: Option<&Path>) -> Result<Self> {
        Self::start(machine, qemu, raw_log, Box::new(|_| false))
    }

    /// As [`Guest::spawn`] for a machine that QEMU traces (`-d`): the trace comes on QEMU's
    /// standard error, faster than pieces could be made of it, and goes to `listener` line by line.
    ///
    /// # Errors
    /// As [`Guest::spawn`].
    pub fn spawn_traced(machine: &Machine, qemu: &Path, listener: Listener) -> Result<Self> {
        Self::start(machine, qemu, None, listener)
    }

    fn start(
        machine: &Machine,
        qemu: &Path,
        raw_log: Option<&Path>,
        listener: Listener,
    ) -> Result<Self> {
        let mut command = tied_to_us(&machine.with_tree(qemu)?.command(qemu));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let log = raw_log
            .map(File::create)
            .transpose()
            .context("cannot write the raw log")?;
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", qemu.display()))?;
        let (sender, pieces) = sync_channel(PIECES);
        let demux = machine
            .given_token()
            .map_or_else(Demux::disabled, Demux::new);
        let demux = Arc::new(Mutex::new(demux));
        if let Some(console) = child.stdout.take() {
            let (demux, to) = (Arc::clone(&demux), sender.clone());
            thread::spawn(move || read_console(console, &demux, log, &to));
        }
        if let Some(complaints) = child.stderr.take() {
            thread::spawn(move || read_complaints(complaints, listener, &sender));
        }
        let input = child.stdin.take();
        Ok(Self {
            child,
            input,
            pieces,
            demux,
            started: Instant::now(),
        })
    }

    /// The next piece; `Ok(None)` when nothing came in time, `Err` when the machine has ended.
    ///
    /// # Errors
    /// [`Ended`]: the console is closed and everything has been read.
    pub fn next(&self, timeout: Duration) -> Result<Option<Piece>, Ended> {
        match self.pieces.recv_timeout(timeout) {
            Ok(piece) => Ok(Some(piece)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Ended),
        }
    }

    /// Types these bytes on the machine's console.
    ///
    /// # Errors
    /// The machine has ended.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(bytes)?;
        input.flush()
    }

    /// Hands out the console's input, for a thread that forwards to it.
    pub fn take_input(&mut self) -> Option<ChildStdin> {
        self.input.take()
    }

    /// QEMU's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Follows the machine to its end or to a limit, calling `sink` for every piece.
    ///
    /// # Errors
    /// `sink` failed (the machine is stopped then), or the system refuses to tell about QEMU.
    pub fn run(
        mut self,
        limits: &Limits,
        mut sink: impl FnMut(&mut Self, &Piece) -> Result<()>,
    ) -> Result<Run> {
        let mut record = Record::default();
        let stop = loop {
            match self.next(POLL) {
                Err(Ended) => break None,
                Ok(None) => {}
                Ok(Some(piece)) => {
                    record.add(&piece);
                    sink(&mut self, &piece)?;
                }
            }
            if limits.interactive && record.quiet_since.elapsed() > PAUSE {
                let held = lock(&self.demux).release();
                if !held.is_empty() {
                    sink(&mut self, &Piece::Output(held))?;
                }
            }
            if let Some(stop) = self.limit_reached(limits, record.reached_program) {
                break Some(stop);
            }
        };
        let qemu = if stop.is_none() {
            self.wait_for_end()?
        } else {
            None
        };
        self.stop();
        let complained = !record.complaints.is_empty();
        let ending = judge(&record.lines, stop, qemu, complained);
        let Record {
            lines,
            tail,
            complaints,
            ..
        } = record;
        Ok(Run {
            ending,
            lines,
            tail,
            complaints,
            qemu,
            elapsed: self.started.elapsed(),
        })
    }

    fn limit_reached(&self, limits: &Limits, reached_program: bool) -> Option<Stop> {
        let elapsed = self.started.elapsed();
        if limits
            .interrupt
            .as_ref()
            .is_some_and(|flag| flag.load(Ordering::Relaxed))
        {
            return Some(Stop::Interrupt);
        }
        match (limits.total, limits.boot) {
            (Some(total), _) if elapsed > total => Some(Stop::TimeOut(total)),
            (_, Some(boot)) if elapsed > boot && !reached_program => Some(Stop::BootTimeOut(boot)),
            _ => None,
        }
    }

    /// QEMU has closed its output and should be gone; if it is not, it hangs and counts as stopped.
    fn wait_for_end(&mut self) -> Result<Option<ExitStatus>> {
        let end = Instant::now() + LAST_GASP;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(None)
    }

    /// Stops QEMU now. Also done when the guest is dropped.
    pub fn stop(&mut self) {
        // Both fail only if QEMU has already gone, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The console is closed and everything has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

struct Record {
    lines: Vec<Line>,
    tail: Vec<u8>,
    complaints: String,
    reached_program: bool,
    quiet_since: Instant,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            tail: Vec::new(),
            complaints: String::new(),
            reached_program: false,
            quiet_since: Instant::now(),
        }
    }
}

impl Record {
    fn add(&mut self, piece: &Piece) {
        self.quiet_since = Instant::now();
        match piece {
            Piece::Output(bytes) => {
                self.tail.extend_from_slice(bytes);
                let surplus = self.tail.len().saturating_sub(TAIL);
                self.tail.drain(..surplus);
            }
            Piece::Control(line) => {
                self.reached_program |= matches!(line.event(), "el0" | "test-begin");
                self.lines.push(line.clone());
            }
            Piece::Complaint(text) => {
                self.complaints.push_str(text);
                self.complaints.push('\n');
            }
        }
    }
}

/// The same command, run so that the system kills it when we are killed. Where there is no
/// `setpriv` (it is part of util-linux), the command as it is: then only orderly ends stop it.
fn tied_to_us(command: &Command) -> Command {
    let on_path = |dir: &Path| dir.join("setpriv").is_file();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tie = cfg!(target_os = "linux") && std::env::split_paths(&path).any(|dir| on_path(&dir));
    let mut tied = Command::new(if tie {
        "setpriv".as_ref()
    } else {
        command.get_program()
    });
    if tie {
        tied.args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program());
    }
    // A process group of its own: Ctrl-C at the terminal is ours to act on, and to tell about.
    tied.args(command.get_args()).process_group(0);
    tied
}

fn read_console(
    mut console: impl Read,
    demux: &Mutex<Demux>,
    mut log: Option<File>,
    to: &SyncSender<Piece>,
) {
    let mut buffer = [0; 1 << 16];
    loop {
        let count = match console.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        // A full disk must not end the run; the log is an aid.
        if log
            .as_mut()
            .is_some_and(|log| log.write_all(&buffer[..count]).is_err())
        {
            log = None;
        }
        let found = lock(demux).push(&buffer[..count]);
        for found in found {
            if to.send(piece(found)).is_err() {
                return;
            }
        }
    }
    let found = lock(demux).finish();
    if let Some(found) = found {
        // Nobody listens any more: then nobody wants it.
        let _ = to.send(piece(found));
    }
}

/// The filter is consistent after every byte, so a panic elsewhere does not spoil it.
fn lock(demux: &Mutex<Demux>) -> std::sync::MutexGuard<'_, Demux> {
    demux.lock().unwrap_or_else(PoisonError::into_inner)
}

fn piece(found: Found) -> Piece {
    match found {
        Found::Output(bytes) => Piece::Output(bytes),
        Found::Control(line) => Piece::Control(line),
    }
}

fn read_complaints(complaints: impl Read, mut listener: Listener, to: &SyncSender<Piece>) {
    let mut complaints = BufReader::with_capacity(1 << 16, complaints);
    let mut line = Vec::new();
    while complaints
        .read_until(b'\n', &mut line)
        .is_ok_and(|count| count > 0)
    {
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if !listener(text) {
            let text = String::from_utf8_lossy(text).into_owned();
            if !text.contains(IDLE_WARNING) && to.send(Piece::Complaint(text)).is_err() {
                return;
            }
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests;
