//! Calls that are neither memory nor threads: descriptors, signals, identity, limits.
//!
//! They are in the kernel until a personality server at EL0 takes them (D7), and in this file (and
//! `personality/poll.rs`) so that they can leave it together. There is no file system: every path
//! is absent.

pub mod poll;

use linux_raw_sys::general as linux;
use linux_raw_sys::{prctl, system};
use sync::atomic::Ordering;

use super::file::{self, check_buffer};
use super::{Answer, Call, Handler, done, memfd, time, user};
use crate::arch::{mte, run, time as clock};
use crate::errno::Errno;
use crate::handle::transfer::Transfer;
use crate::handle::{Handle, SLOTS};
use crate::process::THREADS_MAX;
use crate::process::signals::{self, SIGNALS};
use crate::thread::{SignalStack, resume};
use poll::Poll;

/// The family.
pub const CALLS: &[(u32, Handler)] = &[
    (linux::__NR_dup, dup),
    (linux::__NR_dup3, dup3),
    (linux::__NR_fcntl, fcntl),
    (linux::__NR_ioctl, ioctl),
    (linux::__NR_faccessat, path_at_1),
    (linux::__NR_openat, openat),
    (linux::__NR_close, close),
    (linux::__NR_ppoll, ppoll),
    (linux::__NR_readlinkat, path_at_1),
    (linux::__NR_newfstatat, newfstatat),
    (linux::__NR_sigaltstack, sigaltstack),
    (linux::__NR_rt_sigaction, rt_sigaction),
    (linux::__NR_rt_sigprocmask, rt_sigprocmask),
    (linux::__NR_rt_sigpending, rt_sigpending),
    (linux::__NR_uname, uname),
    (linux::__NR_getrlimit, getrlimit),
    (linux::__NR_getrusage, getrusage),
    (linux::__NR_prctl, prctl_call),
    (linux::__NR_getuid, zero),
    (linux::__NR_geteuid, zero),
    (linux::__NR_getgid, zero),
    (linux::__NR_getegid, zero),
    (linux::__NR_prlimit64, prlimit64),
    (linux::__NR_getrandom, getrandom),
    (linux::__NR_membarrier, membarrier),
    (linux::__NR_rseq, rseq),
    (linux::__NR_faccessat2, path_at_1),
];

fn handle(call: &Call<'_>) -> Result<Handle, Errno> {
    call.thread.process().handles().get(call.arg(0))
}

/// The user and group of every program: root, as in a container.
fn zero(_call: &Call<'_>) -> Answer {
    done(0)
}

/// Calls with a path as their second argument: there is no such file.
fn path_at_1(call: &Call<'_>) -> Answer {
    user::check_path(call.thread.process().space(), call.user(1))?;
    Err(Errno::ENOENT.into())
}

/// The one file that there is: programs look at their own maps.
fn openat(call: &Call<'_>) -> Answer {
    let mut path = [0; 32];
    let path = user::read_path(call.thread.process().space(), call.user(1), &mut path)?;
    match path {
        Some(path) if memfd::is_maps(path, call.thread.process().pid()) => {
            memfd::open_maps(call, call.uint(2))
        }
        _ => Err(Errno::ENOENT.into()),
    }
}

fn ppoll(call: &Call<'_>) -> Answer {
    let (at, count) = (call.user(0), call.uint(1));
    if count as usize > SLOTS {
        return Err(Errno::EINVAL.into());
    }
    let space = call.thread.process().space();
    let deadline = match call.arg(2) {
        0 => None,
        _ => Some(match user::read_timespec(space, call.user(2))? {
            // Over before the first look ends, rather than a tick later.
            0 => 0,
            nanos => time::after(nanos),
        }),
    };
    if call.arg(3) != 0 {
        // The mask would hold while waiting; without handlers nothing can come of it.
        if call.arg(4) != 8 {
            return Err(Errno::EINVAL.into());
        }
        let _mask = user::read_words::<1>(space, call.user(3))?;
    }
    Ok(Poll::new(at, u64::from(count), deadline).step(call.thread))
}

fn close(call: &Call<'_>) -> Answer {
    let closed = call.thread.process().close_handle(call.arg(0))?;
    drop(closed);
    Ok(resume::reap(call.thread))
}

fn dup(call: &Call<'_>) -> Answer {
    let handle = Handle {
        close_on_exec: false,
        ..handle(call)?
    };
    done(call.thread.process().insert_descriptor(handle, 0)?)
}

fn dup3(call: &Call<'_>) -> Answer {
    let (old, new, flags) = (call.arg(0), call.arg(1), call.uint(2));
    if flags & !linux::O_CLOEXEC != 0 || old as u32 == new as u32 {
        return Err(Errno::EINVAL.into());
    }
    let process = call.thread.process();
    let handle = Handle {
        close_on_exec: flags & linux::O_CLOEXEC != 0,
        ..process.handles().get(old)?
    };
    process.replace_descriptor(handle, new)?;
    done(u64::from(new as u32))
}

fn fcntl(call: &Call<'_>) -> Answer {
    /// What `F_SETFL` may change.
    const STATUS: u32 = linux::O_APPEND | linux::O_NONBLOCK | linux::O_DIRECT | linux::O_NOATIME;
    let (fd, command, arg) = (call.arg(0), call.uint(1), call.arg(2));
    let process = call.thread.process();
    let handle = handle(call)?;
    let answer = match command {
        linux::F_ADD_SEALS => memfd::add_seals(&handle, arg as u32)?,
        linux::F_GET_SEALS => memfd::seals(&handle)?,
        linux::F_GETFL => u64::from(handle.flags()),
        linux::F_DUPFD | linux::F_DUPFD_CLOEXEC => {
            let copy = Handle {
                close_on_exec: command == linux::F_DUPFD_CLOEXEC,
                ..handle
            };
            process.insert_descriptor(copy, arg)?
        }
        linux::F_GETFD => u64::from(handle.close_on_exec),
        linux::F_SETFD => {
            let close_on_exec = arg as u32 & linux::FD_CLOEXEC != 0;
            let set = |handle: &mut Handle| handle.close_on_exec = close_on_exec;
            process.handles().update(fd, set)?;
            0
        }
        linux::F_SETFL => {
            let set = |handle: &mut Handle| handle.set_status(arg as u32 & STATUS);
            process.handles().update(fd, set)?;
            0
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    done(answer)
}

fn ioctl(call: &Call<'_>) -> Answer {
    handle(call)?;
    Err(Errno::ENOTTY.into())
}

fn newfstatat(call: &Call<'_>) -> Answer {
    let space = call.thread.process().space();
    let empty = user::check_path(space, call.user(1))?;
    if empty && call.uint(3) & linux::AT_EMPTY_PATH != 0 {
        let handle = handle(call)?;
        return file::stat_to(call, &handle, call.user(2));
    }
    Err(Errno::ENOENT.into())
}

fn sigaltstack(call: &Call<'_>) -> Answer {
    /// Flags that a program may give: `SS_DISABLE`, `SS_ONSTACK` (ignored), `SS_AUTODISARM`.
    const KNOWN: u32 = linux::SS_DISABLE | linux::SS_ONSTACK | linux::SS_AUTODISARM;
    let (new, old) = (call.user(0), call.user(1));
    let current = call.thread.signal_stack();
    if !new.is_null() {
        let [sp, flags, size] = user::read_words::<3>(call.thread.process().space(), new)?;
        let flags = flags as u32;
        if flags & !KNOWN != 0 {
            return Err(Errno::EINVAL.into());
        }
        let disable = flags & linux::SS_DISABLE != 0;
        if !disable && size < u64::from(linux::MINSIGSTKSZ) {
            return Err(Errno::ENOMEM.into());
        }
        let flags = flags & !linux::SS_ONSTACK;
        call.thread.set_signal_stack(match disable {
            true => SignalStack {
                sp: 0,
                flags,
                size: 0,
            },
            false => SignalStack { sp, flags, size },
        });
    }
    let words = [current.sp, u64::from(current.flags), current.size];
    let bytes: [u8; 24] = user::bytes_of(words);
    user::complete(call, old, &bytes, 0)
}

fn rt_sigaction(call: &Call<'_>) -> Answer {
    let (signal, new, old) = (call.arg(0) as u32 as usize, call.user(1), call.user(2));
    if call.arg(3) != 8 || signal == 0 || signal > SIGNALS {
        return Err(Errno::EINVAL.into());
    }
    let dispositions = call.thread.process().dispositions();
    let before = dispositions.get(signal);
    if !new.is_null() {
        let action = user::read_words::<4>(call.thread.process().space(), new)?;
        if matches!(signal as u32, linux::SIGKILL | linux::SIGSTOP) {
            return Err(Errno::EINVAL.into());
        }
        dispositions.set(signal, action);
    }
    let bytes: [u8; 32] = user::bytes_of(before);
    user::complete(call, old, &bytes, 0)
}

fn rt_sigprocmask(call: &Call<'_>) -> Answer {
    let (how, new, old) = (call.uint(0), call.user(1), call.user(2));
    if call.arg(3) != 8 {
        return Err(Errno::EINVAL.into());
    }
    let before = call.thread.blocked.load(Ordering::Relaxed);
    if !new.is_null() {
        let [mask] = user::read_words::<1>(call.thread.process().space(), new)?;
        let blocked = match how {
            linux::SIG_BLOCK => before | mask,
            linux::SIG_UNBLOCK => before & !mask,
            linux::SIG_SETMASK => mask,
            _ => return Err(Errno::EINVAL.into()),
        };
        signals::set_blocked(call.thread, blocked);
    }
    user::complete(call, old, &before.to_le_bytes(), 0)
}

fn rt_sigpending(call: &Call<'_>) -> Answer {
    if call.arg(1) > 8 {
        return Err(Errno::EINVAL.into());
    }
    let own = call.thread.pending.load(Ordering::Relaxed);
    let pending = own | call.thread.process().pending.load(Ordering::Relaxed);
    let bytes = pending.to_le_bytes();
    user::complete(call, call.user(0), &bytes[..call.arg(1) as usize], 0)
}

fn uname(call: &Call<'_>) -> Answer {
    const FIELD: usize = 65;
    const { assert!(size_of::<system::new_utsname>() == 6 * FIELD) };
    // Programs look at the release to guess what they may use: the ABI here is that of 6.12.
    let fields = [
        "Linux",
        "tessera",
        "6.12.0-tessera",
        "#1 SMP Tessera",
        "aarch64",
        "(none)",
    ];
    let mut bytes = [0; 6 * FIELD];
    for (place, text) in bytes.chunks_exact_mut(FIELD).zip(fields) {
        place[..text.len()].copy_from_slice(text.as_bytes());
    }
    user::write(call.thread.process().space(), call.user(0), &bytes)?;
    done(0)
}

/// Soft and hard limit of a resource; none is enforced but by what there is.
fn limit_of(resource: u32) -> Option<[u64; 2]> {
    const NONE: u64 = u64::MAX;
    match resource {
        linux::RLIMIT_STACK => Some([mm::layout::STACK_LIMIT, NONE]),
        linux::RLIMIT_NOFILE => Some([SLOTS as u64; 2]),
        linux::RLIMIT_NPROC => Some([THREADS_MAX as u64; 2]),
        linux::RLIMIT_CORE => Some([0, NONE]),
        linux::RLIMIT_NICE | linux::RLIMIT_RTPRIO => Some([0, 0]),
        _ if resource < linux::RLIM_NLIMITS => Some([NONE, NONE]),
        _ => None,
    }
}

fn getrlimit(call: &Call<'_>) -> Answer {
    let limit = limit_of(call.uint(0)).ok_or(Errno::EINVAL)?;
    let bytes: [u8; 16] = user::bytes_of(limit);
    user::complete_at(call, call.user(1), &bytes, 0)
}

fn prlimit64(call: &Call<'_>) -> Answer {
    let (pid, new, old) = (call.uint(0), call.user(2), call.user(3));
    if pid != 0 && pid != call.thread.process().pid() {
        return Err(Errno::ESRCH.into());
    }
    let limit = limit_of(call.uint(1)).ok_or(Errno::EINVAL)?;
    if !new.is_null() {
        // The limits are what the kernel has; only asking for the same is granted.
        let wanted = user::read_words::<2>(call.thread.process().space(), new)?;
        if wanted[0] > wanted[1] {
            return Err(Errno::EINVAL.into());
        }
        if wanted != limit {
            return Err(Errno::EPERM.into());
        }
    }
    let bytes: [u8; 16] = user::bytes_of(limit);
    user::complete(call, old, &bytes, 0)
}

fn getrusage(call: &Call<'_>) -> Answer {
    let counters = call.thread.process().space().counters();
    let ticks = match call.uint(0) {
        linux::RUSAGE_SELF => Some(time::process_ticks(call)),
        linux::RUSAGE_THREAD => Some(time::thread_ticks(call)),
        // RUSAGE_CHILDREN, which is negative: there are none.
        u32::MAX => None,
        _ => return Err(Errno::EINVAL.into()),
    };
    let mut words = [0u64; 18];
    if let Some(ticks) = ticks {
        let micros = clock::ticks_to_ns(ticks) / 1000;
        (words[0], words[1]) = (micros / 1_000_000, micros % 1_000_000);
        words[8] = counters.minor_faults();
    }
    let bytes: [u8; 144] = user::bytes_of(words);
    user::write(call.thread.process().space(), call.user(1), &bytes)?;
    done(0)
}

fn prctl_call(call: &Call<'_>) -> Answer {
    match call.uint(0) {
        prctl::PR_SET_THP_DISABLE => set_thp_disable(call),
        prctl::PR_GET_THP_DISABLE => get_thp_disable(call),
        prctl::PR_SET_TAGGED_ADDR_CTRL => set_tagged_addr_ctrl(call),
        prctl::PR_GET_TAGGED_ADDR_CTRL => get_tagged_addr_ctrl(call),
        prctl::PR_GET_DUMPABLE | prctl::PR_GET_NO_NEW_PRIVS | prctl::PR_GET_KEEPCAPS => done(0),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// The arguments behind the one that counts have to be zero.
fn set_thp_disable(call: &Call<'_>) -> Answer {
    if (2..5).any(|n| call.arg(n) != 0) {
        return Err(Errno::EINVAL.into());
    }
    let space = call.thread.process().space();
    space.set_small_pages_only(call.arg(1) != 0);
    done(0)
}

fn get_thp_disable(call: &Call<'_>) -> Answer {
    if (1..5).any(|n| call.arg(n) != 0) {
        return Err(Errno::EINVAL.into());
    }
    done(call.thread.process().space().small_pages_only().into())
}

/// What the calling thread wants of tags: whether calls take tagged pointers, how tag check faults are
/// reported, which tags IRG makes.
fn set_tagged_addr_ctrl(call: &Call<'_>) -> Answer {
    let control = call.arg(1);
    let unknown = control & !u64::from(mte::known_control());
    if unknown != 0 || (2..5).any(|n| call.arg(n) != 0) {
        return Err(Errno::EINVAL.into());
    }
    run::set_current_tags(control as u32);
    done(0)
}

fn get_tagged_addr_ctrl(call: &Call<'_>) -> Answer {
    if (1..5).any(|n| call.arg(n) != 0) {
        return Err(Errno::EINVAL.into());
    }
    done(call.thread.context().tags().get().into())
}

fn getrandom(call: &Call<'_>) -> Answer {
    const KNOWN: u32 = linux::GRND_NONBLOCK | linux::GRND_RANDOM | linux::GRND_INSECURE;
    let (at, len, flags) = (call.user(0), call.arg(1), call.uint(2));
    let contradictory = linux::GRND_RANDOM | linux::GRND_INSECURE;
    if flags & !KNOWN != 0 || flags & contradictory == contradictory {
        return Err(Errno::EINVAL.into());
    }
    check_buffer(call, at, len.min(i64::MAX as u64))?;
    Ok(Transfer::random(at, len).step(call.thread))
}

/// Only the question what is supported: nothing is.
fn membarrier(call: &Call<'_>) -> Answer {
    match (call.uint(0), call.uint(1)) {
        (0, 0) => done(0),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Restartable sequences are not offered; every C library can do without. Not counted as unknown.
fn rseq(_call: &Call<'_>) -> Answer {
    Err(Errno::ENOSYS.into())
}
