//! Scheduling: CPUs, policies, nice values.
//!
//! Programs have no privilege to be preferred (no `CAP_SYS_NICE`, limits of 0): real-time policies
//! are refused. `SCHED_IDLE` is a priority of the kernel's own below the ordinary one; `SCHED_OTHER`
//! and `SCHED_BATCH` are the ordinary one. Nice values are kept and told, and weigh nothing.

use arm64::UserAddr;
use frame::slab::Ref;
use ipc::ready::{Priority, Runnable};
use linux_raw_sys::general as linux;
use sync::cpu_index;

use super::{Answer, Call, Handler, done, user};
use crate::errno::Errno;
use crate::sched::{self, entity};
use crate::thread::Thread;
use crate::thread::resume::Stop;

/// The family.
pub const CALLS: &[(u32, Handler)] = &[
    (linux::__NR_sched_setparam, sched_setparam),
    (linux::__NR_sched_setscheduler, sched_setscheduler),
    (linux::__NR_sched_getscheduler, sched_getscheduler),
    (linux::__NR_sched_getparam, sched_getparam),
    (linux::__NR_sched_setaffinity, sched_setaffinity),
    (linux::__NR_sched_getaffinity, sched_getaffinity),
    (linux::__NR_sched_get_priority_max, priority_max),
    (linux::__NR_sched_get_priority_min, priority_min),
    (linux::__NR_sched_rr_get_interval, sched_rr_get_interval),
    (linux::__NR_setpriority, setpriority),
    (linux::__NR_getpriority, getpriority),
    (linux::__NR_getcpu, getcpu),
];

/// Bytes of a set of CPUs.
const CPU_SET: u64 = 8;
/// Lowest and highest nice value.
const NICE: (i32, i32) = (linux::PRIO_MIN, linux::PRIO_MAX as i32 - 1);

/// The thread of that number, 0 for the caller.
fn target(call: &Call<'_>, tid: u32) -> Result<Ref<Thread>, Errno> {
    match tid {
        0 => Ok(call.thread.clone()),
        _ => call.thread.process().thread(tid).ok_or(Errno::ESRCH),
    }
}

/// The same, where a negative number is refused.
fn target_from_0(call: &Call<'_>) -> Result<Ref<Thread>, Errno> {
    match call.int(0) {
        0.. => target(call, call.uint(0)),
        _ => Err(Errno::EINVAL),
    }
}

/// A set may be shorter or longer than ours; what is missing are zeros.
fn sched_setaffinity(call: &Call<'_>) -> Answer {
    let (size, at) = (u64::from(call.uint(1)).min(CPU_SET), call.user(2));
    let mut bytes = [0; CPU_SET as usize];
    let space = call.thread.process().space();
    user::read(space, at, &mut bytes[..size as usize])?;
    let thread = target(call, call.uint(0))?;
    let cpus = u64::from_le_bytes(bytes) & sched::online_mask();
    if cpus == 0 {
        return Err(Errno::EINVAL.into());
    }
    entity::set_cpus(&thread, cpus);
    done(0)
}

fn sched_getaffinity(call: &Call<'_>) -> Answer {
    let size = u64::from(call.uint(1));
    if size == 0 || !size.is_multiple_of(CPU_SET) {
        return Err(Errno::EINVAL.into());
    }
    let thread = target(call, call.uint(0))?;
    let cpus = thread.cpus() & sched::online_mask();
    user::complete_at(call, call.user(2), &cpus.to_le_bytes(), CPU_SET)
}

/// The third argument has had no meaning since 2.6.24.
fn getcpu(call: &Call<'_>) -> Answer {
    let space = call.thread.process().space();
    if call.arg(0) != 0 {
        user::write(space, call.user(0), &(cpu_index() as u32).to_le_bytes())?;
    }
    // One node.
    user::complete(call, call.user(1), &[0; 4], 0)
}

fn sched_getscheduler(call: &Call<'_>) -> Answer {
    let thread = target_from_0(call)?;
    let (policy, resets) = thread.entity().policy();
    let flag = if resets {
        linux::SCHED_RESET_ON_FORK
    } else {
        0
    };
    done((policy | flag).into())
}

fn sched_getparam(call: &Call<'_>) -> Answer {
    if call.arg(1) == 0 {
        return Err(Errno::EINVAL.into());
    }
    target_from_0(call)?;
    user::complete(call, call.user(1), &[0; 4], 0)
}

/// The thread, and the priority that the structure at `at` asks for.
fn target_and_param(call: &Call<'_>, at: UserAddr) -> Result<(Ref<Thread>, u32), Stop> {
    if at.is_null() || call.int(0) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut bytes = [0; 4];
    user::read(call.thread.process().space(), at, &mut bytes)?;
    Ok((target(call, call.uint(0))?, u32::from_le_bytes(bytes)))
}

fn sched_setparam(call: &Call<'_>) -> Answer {
    let (_, param) = target_and_param(call, call.user(1))?;
    match param {
        0 => done(0),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn sched_setscheduler(call: &Call<'_>) -> Answer {
    let policy = call.uint(1);
    if (policy as i32) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let (thread, param) = target_and_param(call, call.user(2))?;
    let resets = policy & linux::SCHED_RESET_ON_FORK != 0;
    let policy = policy & !linux::SCHED_RESET_ON_FORK;
    let priority = match (policy, param) {
        (linux::SCHED_NORMAL | linux::SCHED_BATCH, 0) => Priority::Ordinary,
        (linux::SCHED_IDLE, 0) => Priority::Background,
        (linux::SCHED_FIFO | linux::SCHED_RR, 1..=99) => return Err(Errno::EPERM.into()),
        _ => return Err(Errno::EINVAL.into()),
    };
    let (before, _) = thread.entity().policy();
    if before == linux::SCHED_IDLE && policy != before {
        return Err(Errno::EPERM.into());
    }
    thread.entity().set_policy(policy, resets);
    if before != policy {
        entity::set_priority(&thread, priority);
    }
    done(0)
}

/// Bounds of the priorities of a policy.
fn bounds(policy: u32) -> Result<(u64, u64), Errno> {
    match policy {
        linux::SCHED_FIFO | linux::SCHED_RR => Ok((1, 99)),
        linux::SCHED_NORMAL | linux::SCHED_BATCH | linux::SCHED_IDLE | linux::SCHED_DEADLINE => {
            Ok((0, 0))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn priority_max(call: &Call<'_>) -> Answer {
    done(bounds(call.uint(0))?.1)
}

fn priority_min(call: &Call<'_>) -> Answer {
    done(bounds(call.uint(0))?.0)
}

fn sched_rr_get_interval(call: &Call<'_>) -> Answer {
    target_from_0(call)?;
    let bytes: [u8; 16] = user::bytes_of([0, sched::SLICE_NS]);
    user::complete_at(call, call.user(1), &bytes, 0)
}

/// Calls `see` for each thread that `which` and `who` name, as long as it returns true. There is one
/// process, which is its own group, and one user.
fn each(call: &Call<'_>, see: &dyn Fn(&Thread) -> bool) -> Result<bool, Errno> {
    let (which, who) = (call.uint(0), call.uint(1));
    let process = call.thread.process();
    match which {
        linux::PRIO_PROCESS => Ok(see(&*target(call, who)?)),
        linux::PRIO_PGRP if who == 0 || who == process.pid() => Ok(process.all_threads(see)),
        linux::PRIO_USER if who == 0 => Ok(process.all_threads(see)),
        linux::PRIO_PGRP | linux::PRIO_USER => Err(Errno::ESRCH),
        _ => Err(Errno::EINVAL),
    }
}

/// Twenty less the nice value, so that no answer looks like an error.
fn getpriority(call: &Call<'_>) -> Answer {
    let least = core::cell::Cell::new(NICE.1);
    each(call, &|thread| {
        least.set(least.get().min(thread.entity().nice()));
        true
    })?;
    done((20 - least.get()) as u64)
}

fn setpriority(call: &Call<'_>) -> Answer {
    let nice = call.int(2).clamp(NICE.0, NICE.1);
    let all = each(call, &|thread| {
        let allowed = nice >= thread.entity().nice();
        if allowed {
            thread.entity().set_nice(nice);
        }
        allowed
    })?;
    match all {
        true => done(0),
        false => Err(Errno::EACCES.into()),
    }
}
