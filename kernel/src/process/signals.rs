//! Signals as far as they go in this kernel: dispositions are recorded and answered back, default
//! actions take place, handlers are not called.
//!
//! Sending a signal that has a handler answers `ENOSYS` and is counted with the unknown calls, so
//! that a program that needs it is seen to need it. A fault ends the program even if it has
//! installed a handler for it.

use frame::slab::{Cache, Ref};
use linux_raw_sys::general as linux;
use sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Process;
use super::end::End;
use crate::errno::{Errno, SysResult};
use crate::memory;
use crate::thread::Thread;

/// Signals are numbered from 1 to this.
pub const SIGNALS: usize = 64;
/// `SIG_DFL`.
const DEFAULT: u64 = 0;
/// `SIG_IGN`.
const IGNORE: u64 = 1;

static DISPOSITIONS: Cache<Dispositions> = Cache::new("signal dispositions");

/// Prepares the cache, once, at boot.
pub(super) fn init() {
    DISPOSITIONS.init(memory::frames());
}

/// All default.
pub(super) fn dispositions() -> Result<Ref<Dispositions>, Errno> {
    let words = || [const { AtomicU64::new(0) }; SIGNALS];
    let flags = [const { AtomicU32::new(0) }; SIGNALS];
    let all = Dispositions {
        handler: words(),
        flags,
        restorer: words(),
        mask: words(),
    };
    DISPOSITIONS.alloc_ref(all).map_err(|_| Errno::ENOMEM)
}

/// What a process wants done about each signal: `struct sigaction`, field by field.
#[derive(Debug)]
pub struct Dispositions {
    handler: [AtomicU64; SIGNALS],
    flags: [AtomicU32; SIGNALS],
    restorer: [AtomicU64; SIGNALS],
    mask: [AtomicU64; SIGNALS],
}

/// One disposition, as the system call passes it: handler, flags, restorer, mask.
pub type Action = [u64; 4];

impl Dispositions {
    /// The disposition of `signal`, 1 to 64.
    pub fn get(&self, signal: usize) -> Action {
        let at = signal - 1;
        [
            self.handler[at].load(Ordering::Relaxed),
            u64::from(self.flags[at].load(Ordering::Relaxed)),
            self.restorer[at].load(Ordering::Relaxed),
            self.mask[at].load(Ordering::Relaxed),
        ]
    }

    /// Changes the disposition of `signal`, 1 to 64.
    pub fn set(&self, signal: usize, [handler, flags, restorer, mask]: Action) {
        let at = signal - 1;
        self.handler[at].store(handler, Ordering::Relaxed);
        self.flags[at].store(flags as u32, Ordering::Relaxed);
        self.restorer[at].store(restorer, Ordering::Relaxed);
        self.mask[at].store(mask, Ordering::Relaxed);
    }
}

/// What happens to a signal without a handler (`signal(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Terminate,
    Ignore,
    Stop,
}

fn default_action(signal: u32) -> Fate {
    match signal {
        linux::SIGCHLD | linux::SIGCONT | linux::SIGURG | linux::SIGWINCH => Fate::Ignore,
        linux::SIGSTOP | linux::SIGTSTP | linux::SIGTTIN | linux::SIGTTOU => Fate::Stop,
        _ => Fate::Terminate,
    }
}

const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// Sends `signal` (0 to 64) to `target`, or to the whole process; `caller` is the current thread.
///
/// # Errors
/// `ENOSYS` when the signal has a handler or would stop the process.
pub fn send(
    caller: &Ref<Thread>,
    target: Option<&Ref<Thread>>,
    signal: u32,
    code: &'static str,
) -> SysResult {
    if signal == 0 {
        return Ok(0);
    }
    let process = caller.process();
    let [handler, ..] = process.dispositions().get(signal as usize);
    let unstoppable = matches!(signal, linux::SIGKILL | linux::SIGSTOP);
    let action = default_action(signal);
    if !unstoppable && (handler == IGNORE || handler == DEFAULT && action == Fate::Ignore) {
        return Ok(0);
    }
    if action == Fate::Stop || handler > IGNORE && !unstoppable {
        return Err(Errno::ENOSYS);
    }
    let blocked = |thread: &Thread| thread.blocked.load(Ordering::Relaxed) & bit(signal) != 0;
    match target {
        _ if unstoppable => {}
        Some(thread) if blocked(thread) => {
            thread.pending.fetch_or(bit(signal), Ordering::Relaxed);
            return Ok(0);
        }
        None if process.all_threads(&blocked) => {
            process.pending.fetch_or(bit(signal), Ordering::Relaxed);
            return Ok(0);
        }
        _ => {}
    }
    kill(caller, signal, code, 0);
    Ok(0)
}

/// Changes the blocked signals of `thread`, the current one; what became deliverable is acted on.
pub fn set_blocked(thread: &Ref<Thread>, blocked: u64) {
    let blocked = blocked & !(bit(linux::SIGKILL) | bit(linux::SIGSTOP));
    thread.blocked.store(blocked, Ordering::Relaxed);
    let pending = |word: &AtomicU64| word.fetch_and(blocked, Ordering::Relaxed) & !blocked;
    let due = pending(&thread.pending) | pending(&thread.process().pending);
    if due != 0 {
        kill(thread, due.trailing_zeros() + 1, "SI_TKILL", 0);
    }
}

/// Linux's number of a code, for those that exceptions have.
pub fn code_number(code: &str) -> u32 {
    const CODES: [(&str, u32); 14] = [
        ("SEGV_MAPERR", linux::SEGV_MAPERR),
        ("SEGV_ACCERR", linux::SEGV_ACCERR),
        ("SEGV_MTEAERR", linux::SEGV_MTEAERR),
        ("SEGV_MTESERR", linux::SEGV_MTESERR),
        ("BUS_ADRALN", linux::BUS_ADRALN),
        ("BUS_ADRERR", linux::BUS_ADRERR),
        ("BUS_OBJERR", linux::BUS_OBJERR),
        ("BUS_MCEERR_AR", linux::BUS_MCEERR_AR),
        ("TRAP_BRKPT", linux::TRAP_BRKPT),
        ("TRAP_TRACE", linux::TRAP_TRACE),
        ("TRAP_HWBKPT", linux::TRAP_HWBKPT),
        ("FPE_FLTUNK", linux::FPE_FLTUNK),
        ("ILL_ILLOPC", linux::ILL_ILLOPC),
        ("ILL_ILLOPN", linux::ILL_ILLOPN),
    ];
    let known = CODES.iter().find(|(name, _)| *name == code);
    known.map_or(linux::SI_KERNEL, |(_, number)| *number)
}

/// Ends the process of `thread`, the current one, by a signal.
pub fn kill(thread: &Ref<Thread>, signal: u32, code: &'static str, addr: u64) {
    let pc = thread.context().pc.load(Ordering::Relaxed);
    Process::finish(
        thread.process(),
        End::Killed {
            signal,
            code,
            addr,
            pc,
        },
    );
}
