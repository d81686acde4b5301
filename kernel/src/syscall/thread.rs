//! Threads: making, ending and naming them.

use arm64::UserAddr;
use frame::slab::Ref;
use linux_raw_sys::general as linux;
use mm::CopyStop;
use sync::atomic::Ordering;

use super::{Answer, Call, Handler, done};
use crate::arch;
use crate::errno::Errno;
use crate::process::Process;
use crate::process::end::End;
use crate::process::signals::{self, SIGNALS};
use crate::sched;
use crate::thread::exit::Leaving;
use crate::thread::{Resume, Step, Thread};

/// The family.
pub const CALLS: &[(u32, Handler)] = &[
    (linux::__NR_exit, exit),
    (linux::__NR_exit_group, exit_group),
    (linux::__NR_set_tid_address, set_tid_address),
    (linux::__NR_sched_yield, sched_yield),
    (linux::__NR_kill, kill),
    (linux::__NR_tkill, tkill),
    (linux::__NR_tgkill, tgkill),
    (linux::__NR_gettid, gettid),
    (linux::__NR_getpid, getpid),
    (linux::__NR_clone, clone),
];

/// Those that send signals.
pub const SIGNAL_CALLS: &[u32] = &[linux::__NR_kill, linux::__NR_tkill, linux::__NR_tgkill];

/// What a new thread has to share with its maker: that is what makes it a thread.
const SHARED: u32 = linux::CLONE_VM
    | linux::CLONE_FS
    | linux::CLONE_FILES
    | linux::CLONE_SIGHAND
    | linux::CLONE_THREAD;
/// What a new thread may ask for beside that. `CLONE_DETACHED` has had no meaning since 2003 and
/// is ignored.
const OPTIONAL: u32 = linux::CLONE_SYSVSEM
    | linux::CLONE_SETTLS
    | linux::CLONE_PARENT_SETTID
    | linux::CLONE_CHILD_CLEARTID
    | linux::CLONE_CHILD_SETTID
    | linux::CLONE_DETACHED
    | linux::CSIGNAL;

/// A thread that has been made and waits for its maker to store its number.
#[derive(Debug)]
pub struct Start {
    child: Ref<Thread>,
    store_at: UserAddr,
}

impl Start {
    /// Stores the number, then lets the thread run. That the number cannot be stored does not
    /// hinder it, as on Linux.
    pub fn step(self, maker: &Ref<Thread>) -> Step {
        let tid = self.child.tid();
        if !self.store_at.is_null() && !maker.process().is_dying() {
            let space = self.child.process().space();
            if space.copy_out(self.store_at, &tid.to_le_bytes()) == Err(CopyStop::Busy) {
                return maker.busy(Resume::Start(self));
            }
        }
        sched::make_runnable(self.child);
        Step::Done(Ok(u64::from(tid)))
    }
}

fn clone(call: &Call<'_>) -> Answer {
    let flags = call.uint(0);
    if flags & SHARED != SHARED {
        // Another process: not in this kernel. Counted, so that the report names it.
        sched::calls::count(linux::__NR_clone);
        return Err(Errno::ENOSYS.into());
    }
    if flags & !(SHARED | OPTIONAL) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (stack, parent_tid, tls, child_tid) = (call.arg(1), call.arg(2), call.arg(3), call.arg(4));
    let child = Thread::new(call.thread.process())?;
    arch::run::save_current();
    let context = child.context();
    context.clone_from(call.thread.context());
    context.set(0, 0);
    if stack != 0 {
        context.sp.store(stack, Ordering::Relaxed);
    }
    if flags & linux::CLONE_SETTLS != 0 {
        context.tpidr.store(tls, Ordering::Relaxed);
    }
    if flags & linux::CLONE_CHILD_CLEARTID != 0 {
        child.clear_child_tid.store(child_tid, Ordering::Relaxed);
    }
    if flags & linux::CLONE_CHILD_SETTID != 0 {
        child.set_resume(Resume::SetTid(child_tid));
    }
    child.entity().inherit(call.thread.entity());
    child.blocked.store(
        call.thread.blocked.load(Ordering::Relaxed),
        Ordering::Relaxed,
    );
    call.thread.process().add_thread(&child)?;
    let store_at = if flags & linux::CLONE_PARENT_SETTID != 0 {
        call.thread.user_addr(parent_tid)
    } else {
        UserAddr::unchecked(0)
    };
    Ok(Start { child, store_at }.step(call.thread))
}

/// The end of one thread. Nothing of the call is left for EL0, so it never returns there.
fn exit(call: &Call<'_>) -> Answer {
    call.thread.process().set_last_status(call.uint(0));
    Ok(call.thread.more(Resume::Leave(Leaving::Begin)))
}

/// The end of all threads: they leave on their way out of the kernel.
fn exit_group(call: &Call<'_>) -> Answer {
    Process::finish(call.thread.process(), End::Exited(call.uint(0)));
    Ok(Step::Keep)
}

fn set_tid_address(call: &Call<'_>) -> Answer {
    call.thread
        .clear_child_tid
        .store(call.arg(0), Ordering::Relaxed);
    done(u64::from(call.thread.tid()))
}

fn gettid(call: &Call<'_>) -> Answer {
    done(u64::from(call.thread.tid()))
}

fn getpid(call: &Call<'_>) -> Answer {
    done(u64::from(call.thread.process().pid()))
}

fn sched_yield(call: &Call<'_>) -> Answer {
    call.thread.set_result(Ok(0));
    sched::rotate(sched::this());
    Ok(Step::Gone)
}

fn signal_number(number: u64) -> Result<u32, Errno> {
    match number as u32 {
        signal if signal as usize <= SIGNALS => Ok(signal),
        _ => Err(Errno::EINVAL),
    }
}

/// Counts a call that this kernel knows but cannot do for these arguments.
fn counted(number: u32, result: Result<u64, Errno>) -> Answer {
    if result == Err(Errno::ENOSYS) {
        sched::calls::count(number);
    }
    done(result?)
}

/// There is one process, so only its own number, its group (0, -1, -pid) and nothing else exist.
fn kill(call: &Call<'_>) -> Answer {
    let signal = signal_number(call.arg(1))?;
    let pid = call.thread.process().pid() as i32;
    if ![pid, 0, -pid].contains(&call.int(0)) {
        return Err(Errno::ESRCH.into());
    }
    counted(
        linux::__NR_kill,
        signals::send(call.thread, None, signal, "SI_USER"),
    )
}

fn tkill(call: &Call<'_>) -> Answer {
    send_to_thread(call, linux::__NR_tkill, call.int(0), call.arg(1))
}

fn tgkill(call: &Call<'_>) -> Answer {
    if call.int(0) <= 0 {
        return Err(Errno::EINVAL.into());
    }
    if call.uint(0) != call.thread.process().pid() {
        return Err(Errno::ESRCH.into());
    }
    send_to_thread(call, linux::__NR_tgkill, call.int(1), call.arg(2))
}

fn send_to_thread(call: &Call<'_>, number: u32, tid: i32, signal: u64) -> Answer {
    let signal = signal_number(signal)?;
    if tid <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let target = call
        .thread
        .process()
        .thread(tid as u32)
        .ok_or(Errno::ESRCH)?;
    counted(
        number,
        signals::send(call.thread, Some(&target), signal, "SI_TKILL"),
    )
}
