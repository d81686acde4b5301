//! How a process ended, in Linux's terms.

use core::fmt;

/// The signal numbers that this kernel sends of itself.
pub mod signal {
    use linux_raw_sys::general as linux;
    /// Illegal instruction.
    pub const ILL: u32 = linux::SIGILL;
    /// Breakpoint or another trap.
    pub const TRAP: u32 = linux::SIGTRAP;
    /// Bus error.
    pub const BUS: u32 = linux::SIGBUS;
    /// Arithmetic exception.
    pub const FPE: u32 = linux::SIGFPE;
    /// Kill.
    pub const KILL: u32 = linux::SIGKILL;
    /// Invalid memory access.
    pub const SEGV: u32 = linux::SIGSEGV;
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By exit, with a status of which eight bits count.
    Exited(u32),
    /// By a signal.
    Killed {
        /// The signal.
        signal: u32,
        /// Its code, by Linux's name (`SEGV_MAPERR`, …).
        code: &'static str,
        /// The address concerned, 0 if none is.
        addr: u64,
        /// The program counter.
        pc: u64,
    },
}

impl End {
    /// The exit status as a shell would show it: 128 + n for signal n.
    pub const fn status(&self) -> u32 {
        match self {
            Self::Exited(status) => *status & 0xff,
            Self::Killed { signal, .. } => 128 + *signal,
        }
    }
}

/// For the control line.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status={}", status & 0xff),
            Self::Killed {
                signal,
                code,
                addr,
                pc,
            } => {
                write!(
                    f,
                    "killed signal={signal} code={code} addr={addr:#x} pc={pc:#x}"
                )
            }
        }
    }
}

/// Name of a signal, for people.
pub const fn signal_name(signal: u32) -> &'static str {
    const NAMES: [&str; 32] = [
        "0",
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    if (signal as usize) < NAMES.len() {
        NAMES[signal as usize]
    } else {
        "a real-time signal"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_a_shells() {
        assert_eq!(End::Exited(0x1_02).status(), 2);
        let killed = End::Killed {
            signal: 11,
            code: "SEGV_MAPERR",
            addr: 16,
            pc: 4,
        };
        assert_eq!(killed.status(), 139);
        let line = std::format!("{killed}");
        assert_eq!(line, "killed signal=11 code=SEGV_MAPERR addr=0x10 pc=0x4");
    }

    #[test]
    fn signals_have_their_linux_names() {
        assert_eq!(
            [6, 9, 11, 31].map(signal_name),
            ["SIGABRT", "SIGKILL", "SIGSEGV", "SIGSYS"]
        );
        assert_eq!(signal_name(40), "a real-time signal");
    }
}
