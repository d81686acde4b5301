//! How a run ended: judged from the control lines first, from QEMU's exit status only where a
//! kernel could not speak.

use std::fmt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::control::Line;

/// Exit statuses of `cargo xtask qemu` beside the program's own (128 + n: killed by signal n).
pub mod status {
    /// Wrong use, or something needed is missing on this machine.
    pub const USAGE: u8 = 2;
    /// A bug in the kernel (the `EX_SOFTWARE` of sysexits).
    pub const BUG: u8 = 70;
    /// QEMU ended by itself: it refused its options, crashed or was killed.
    pub const EMULATOR: u8 = 71;
    /// The machine ended without a word: a reset, or a power-off that nobody asked for.
    pub const SILENT: u8 = 72;
    /// The kernel refuses this machine: no memory, a bad device tree (`EX_CONFIG`).
    pub const REFUSED: u8 = 78;
    /// The build of the kernel or of a program failed.
    pub const BUILD: u8 = 101;
    /// Time-out; the value timeout(1) uses.
    pub const TIMEOUT: u8 = 124;
    /// The kernel cannot execute the program; the value shells use.
    pub const NO_EXEC: u8 = 126;
    /// The program file is missing or cannot be read; the value shells use.
    pub const NOT_FOUND: u8 = 127;
    /// Interrupted from the keyboard.
    pub const INTERRUPTED: u8 = 130;
}

/// Why the host stopped QEMU before it ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// No instruction of a program within this time.
    BootTimeOut(Duration),
    /// The run as a whole took longer than this.
    TimeOut(Duration),
    /// Ctrl-C, or another request to end.
    Interrupt,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The program ended by `exit` or by returning from `main`.
    Exited {
        /// Its status.
        status: u8,
    },
    /// A signal ended the program.
    Killed {
        /// The signal's number.
        signal: u8,
        /// Code, address and place as the kernel told them.
        line: Line,
    },
    /// The kernel could not start the program.
    ExecFailed {
        /// A short word, for tests.
        reason: String,
        /// The explanation.
        text: String,
    },
    /// The machine was turned off orderly without a program (self-tests).
    Halted {
        /// The status that the kernel chose.
        status: u8,
    },
    /// The kernel found a bug in itself.
    Bug {
        /// What it said.
        text: String,
        /// The number of the broken law, or `-`.
        law: String,
        /// Return addresses, innermost first.
        backtrace: Vec<u64>,
    },
    /// The kernel cannot work on this machine.
    Refused {
        /// What it said, if it could.
        text: String,
    },
    /// Stopped by the host.
    Stopped(Stop),
    /// QEMU ended by itself.
    Emulator {
        /// Its exit status.
        status: ExitStatus,
        /// Whether the kernel had said anything before.
        booted: bool,
    },
    /// The machine ended, and nobody said why.
    Silent {
        /// Whether the kernel had said anything before.
        booted: bool,
    },
}

/// Judges a run by its control lines, QEMU's exit status (`None`: it did not end by itself) and
/// whether QEMU complained on its standard error.
#[must_use]
pub fn judge(
    lines: &[Line],
    stop: Option<Stop>,
    qemu: Option<ExitStatus>,
    complained: bool,
) -> Ending {
    let find = |event: &str| lines.iter().rev().find(|line| line.event() == event);
    let code = qemu.and_then(|status| status.code());
    let halt = find("halt")
        .and_then(|line| line.number("status"))
        .map(|status| status as u8);
    if let Some(line) = lines.iter().find(|line| line.event() == "bug") {
        return bug(line, lines);
    }
    match (stop, qemu) {
        (Some(stop), _) if halt.is_none() => return Ending::Stopped(stop),
        (_, Some(status)) if halt.is_none() => {
            return without_halt(lines, status, code, complained);
        }
        (None, None) if halt.is_none() => {
            return Ending::Silent {
                booted: !lines.is_empty(),
            };
        }
        _ => {}
    }
    let last = |line: &&Line| matches!(line.event(), "exit" | "killed" | "execfail");
    match lines.iter().rev().find(last) {
        Some(line) => program_end(line, halt),
        None if halt == Some(status::REFUSED) => refused(lines),
        None => Ending::Halted {
            status: halt.unwrap_or(status::SILENT),
        },
    }
}

fn program_end(line: &Line, halt: Option<u8>) -> Ending {
    match line.event() {
        "exit" => {
            let told = line.number("status").map(|status| status as u8);
            Ending::Exited {
                status: told.or(halt).unwrap_or(status::SILENT),
            }
        }
        "killed" => {
            let signal = line.number("signal").unwrap_or(0) as u8;
            Ending::Killed {
                signal,
                line: line.clone(),
            }
        }
        _ => Ending::ExecFailed {
            reason: line.get("reason").unwrap_or_default().to_owned(),
            text: line.get("text").unwrap_or_default().to_owned(),
        },
    }
}

fn bug(line: &Line, lines: &[Line]) -> Ending {
    let frames = lines.iter().filter(|line| line.event() == "bt");
    Ending::Bug {
        text: line.get("text").unwrap_or_default().to_owned(),
        law: line.get("law").unwrap_or("-").to_owned(),
        backtrace: frames.filter_map(|line| line.number("pc")).collect(),
    }
}

fn refused(lines: &[Line]) -> Ending {
    let told = lines.iter().find(|line| line.event() == "refused");
    let text = told.and_then(|line| line.get("text")).unwrap_or_default();
    Ending::Refused {
        text: text.to_owned(),
    }
}

/// QEMU ended and the kernel did not announce it. A kernel that has not read its command line yet
/// has no token to speak with: its two statuses, which QEMU itself never uses, count then.
fn without_halt(lines: &[Line], qemu: ExitStatus, code: Option<i32>, complained: bool) -> Ending {
    let booted = !lines.is_empty();
    match code {
        Some(code) if code == i32::from(status::REFUSED) && !booted => refused(lines),
        Some(code) if code == i32::from(status::BUG) && !booted => Ending::Bug {
            text: "before the kernel could report it".to_owned(),
            law: "-".to_owned(),
            backtrace: Vec::new(),
        },
        Some(code) if code == 0 || !complained => Ending::Silent { booted },
        _ => Ending::Emulator {
            status: qemu,
            booted,
        },
    }
}

impl Ending {
    /// The exit status that `cargo xtask qemu` ends with.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Exited { status } | Self::Halted { status } => *status,
            Self::Killed { signal, .. } => 128u8.saturating_add(*signal),
            Self::ExecFailed { .. } => status::NO_EXEC,
            Self::Bug { .. } => status::BUG,
            Self::Refused { .. } => status::REFUSED,
            Self::Stopped(Stop::Interrupt) => status::INTERRUPTED,
            Self::Stopped(_) => status::TIMEOUT,
            Self::Emulator { .. } => status::EMULATOR,
            Self::Silent { .. } => status::SILENT,
        }
    }

    /// Whether this end is the program's own affair, so that nothing needs to be said about it.
    #[must_use]
    pub fn is_ordinary(&self) -> bool {
        matches!(self, Self::Exited { .. } | Self::Halted { .. })
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { status } => write!(f, "program exited with status {status}"),
            Self::Halted { status } => write!(f, "the machine halted with status {status}"),
            Self::Killed { signal, line } => write_killed(f, *signal, line),
            Self::ExecFailed { text, .. } => write!(f, "cannot execute the program: {text}"),
            Self::Bug { text, law, .. } if law == "-" => write!(f, "kernel bug: {text}"),
            Self::Bug { text, law, .. } => write!(f, "kernel bug (law {law} broken): {text}"),
            Self::Refused { text } if text.is_empty() => {
                write!(
                    f,
                    "the kernel refuses this machine (its reason is on the console above)"
                )
            }
            Self::Refused { text } => write!(f, "the kernel refuses this machine: {text}"),
            Self::Stopped(Stop::BootTimeOut(limit)) => {
                write!(
                    f,
                    "no program was running after {} s; stopped",
                    limit.as_secs_f32()
                )
            }
            Self::Stopped(Stop::TimeOut(limit)) => {
                write!(f, "still running after {} s; stopped", limit.as_secs_f32())
            }
            Self::Stopped(Stop::Interrupt) => write!(f, "interrupted"),
            Self::Emulator {
                status,
                booted: false,
            } => write!(f, "QEMU did not start: {status}"),
            Self::Emulator {
                status,
                booted: true,
            } => write!(f, "QEMU crashed: {status}"),
            Self::Silent { booted: false } => {
                write!(f, "the machine ended before the kernel said anything")
            }
            Self::Silent { booted: true } => {
                write!(
                    f,
                    "the machine ended without saying so (a reset, or an unasked power-off)"
                )
            }
        }
    }
}

fn write_killed(f: &mut fmt::Formatter<'_>, signal: u8, line: &Line) -> fmt::Result {
    write!(
        f,
        "program killed by signal {signal} ({}",
        signal_name(signal)
    )?;
    if let Some(code) = line
        .get("code")
        .filter(|code| code.starts_with(char::is_alphabetic))
    {
        write!(f, ", {code}")?;
    }
    if let (4 | 5 | 7 | 8 | 11, Some(addr)) = (signal, line.get("addr")) {
        write!(f, " at {addr}")?;
    }
    match line.get("pc") {
        Some(pc) => write!(f, "; pc {pc})"),
        None => write!(f, ")"),
    }
}

/// The name of a signal that can end a program here, `?` for others.
#[must_use]
pub fn signal_name(signal: u8) -> &'static str {
    match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        31 => "SIGSYS",
        _ => "?",
    }
}

#[cfg(test)]
mod tests;
