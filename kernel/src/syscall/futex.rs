//! `futex` and the robust list.

use arm64::UserAddr;
use linux_raw_sys::general as linux;
use sync::atomic::Ordering;

use super::{Answer, Call, Handler, done, time, user};
use crate::errno::Errno;
use crate::futex::{self, ANY, Key, WakeOp, Waking};
use crate::sched::wait::Limit;
use crate::thread::Resume;
use crate::thread::resume::Stop;

/// The family.
pub const CALLS: &[(u32, Handler)] = &[
    (linux::__NR_futex, futex_call),
    (linux::__NR_set_robust_list, set_robust_list),
    (linux::__NR_get_robust_list, get_robust_list),
];

/// Size of `struct robust_list_head`.
const ROBUST_HEAD: u64 = 24;

fn futex_call(call: &Call<'_>) -> Answer {
    let (at, operation, value) = (call.user(0), call.uint(1), call.uint(2));
    let command = operation & !(linux::FUTEX_PRIVATE_FLAG | linux::FUTEX_CLOCK_REALTIME);
    let realtime = operation & linux::FUTEX_CLOCK_REALTIME != 0;
    let waits = matches!(command, linux::FUTEX_WAIT | linux::FUTEX_WAIT_BITSET);
    if realtime && !waits {
        return Err(Errno::ENOSYS.into());
    }
    let shared = operation & linux::FUTEX_PRIVATE_FLAG == 0;
    let key = || key_of(call, at, shared);
    match command {
        linux::FUTEX_WAIT | linux::FUTEX_WAIT_BITSET => {
            let bitset = if command == linux::FUTEX_WAIT {
                ANY
            } else {
                call.uint(5)
            };
            if bitset == 0 {
                return Err(Errno::EINVAL.into());
            }
            let limit = limit(call, command == linux::FUTEX_WAIT_BITSET, realtime)?;
            futex::wait(call.thread, (key()?, at), value, bitset, limit)
        }
        linux::FUTEX_WAKE => wake(call, key()?, value, ANY),
        linux::FUTEX_WAKE_BITSET if call.uint(5) == 0 => Err(Errno::EINVAL.into()),
        linux::FUTEX_WAKE_BITSET => wake(call, key()?, value, call.uint(5)),
        linux::FUTEX_REQUEUE | linux::FUTEX_CMP_REQUEUE => {
            requeue(call, key()?, shared, command == linux::FUTEX_CMP_REQUEUE)
        }
        linux::FUTEX_WAKE_OP => wake_op(call, key()?, shared),
        _ => Err(Errno::ENOSYS.into()),
    }
}

/// The key of the futex at `at`. A shared one has to be in memory, because what is mapped there may
/// be the key.
fn key_of(call: &Call<'_>, at: UserAddr, shared: bool) -> Result<Key, Stop> {
    let space = call.thread.process().space();
    let va = at.va();
    if !va.is_multiple_of(4) {
        return Err(Errno::EINVAL.into());
    }
    if va >= space.task_size() {
        return Err(Errno::EFAULT.into());
    }
    Ok(match shared {
        true => futex::shared_key(space, at)?,
        false => futex::private_key(space, va),
    })
}

/// The time-out in argument 3: relative for `FUTEX_WAIT`, a moment for `FUTEX_WAIT_BITSET`.
fn limit(call: &Call<'_>, absolute: bool, realtime: bool) -> Result<Option<Limit>, Stop> {
    let at = call.user(3);
    if at.is_null() {
        return Ok(None);
    }
    let nanos = user::read_timespec(call.thread.process().space(), at)?;
    let deadline = match absolute {
        false => time::after(nanos),
        true => time::moment(nanos, realtime),
    };
    Ok(Some(Limit {
        deadline,
        result: Some(Errno::ETIMEDOUT.to_register()),
    }))
}

/// How many waiters are woken: one even if asked for none, as Linux does.
fn at_least_one(asked: u32) -> u32 {
    if (asked as i32) < 1 { 1 } else { asked }
}

fn wake(call: &Call<'_>, key: Key, most: u32, bitset: u32) -> Answer {
    let most = at_least_one(most);
    if most == 1 {
        // Most wakes: there is nothing to be stepped.
        return done(futex::wake_one(key, bitset));
    }
    Ok(futex::step(Waking::new(key, most, bitset), call.thread))
}

fn requeue(call: &Call<'_>, key: Key, shared: bool, compare: bool) -> Answer {
    let (most, moves, to) = (call.int(2), call.int(3), call.user(4));
    if most < 0 || moves < 0 {
        return Err(Errno::EINVAL.into());
    }
    let to = key_of(call, to, shared)?;
    let waking = Waking::requeue(key, most as u32, to, moves as u32);
    match compare {
        true => futex::compare_requeue(call.thread, waking, call.user(0), call.uint(5)),
        false => Ok(futex::step(waking, call.thread)),
    }
}

/// Attempts to change a word that others change meanwhile, before a preemption point.
const ATTEMPTS: u32 = 16;

/// Changes the word of argument 4, wakes waiters of the first futex, and those of the second if what
/// was found there says so.
fn wake_op(call: &Call<'_>, key: Key, shared: bool) -> Answer {
    let at = call.user(4);
    let other = key_of(call, at, shared)?;
    let operation = WakeOp::decode(call.uint(5)).ok_or(Errno::ENOSYS)?;
    let space = call.thread.process().space();
    let mut seen = user::load_u32(space, at)?;
    for _ in 0..ATTEMPTS {
        let found = space.cas_u32(at, seen, operation.apply(seen))?;
        if found == seen {
            let (most, more) = (at_least_one(call.uint(2)), at_least_one(call.uint(3)));
            // Linux, too, changes the word before it finds that it does not know the question.
            let waking = match operation.holds(found).ok_or(Errno::ENOSYS)? {
                true => Waking::both(key, most, other, more),
                false => Waking::new(key, most, ANY),
            };
            return Ok(futex::step(waking, call.thread));
        }
        seen = found;
    }
    Ok(call.thread.more(Resume::Call))
}

fn set_robust_list(call: &Call<'_>) -> Answer {
    if call.arg(1) != ROBUST_HEAD {
        return Err(Errno::EINVAL.into());
    }
    call.thread
        .robust_list
        .store(call.arg(0), Ordering::Relaxed);
    done(0)
}

fn get_robust_list(call: &Call<'_>) -> Answer {
    let head = match call.uint(0) {
        0 => call.thread.robust_list.load(Ordering::Relaxed),
        tid => {
            let thread = call.thread.process().thread(tid).ok_or(Errno::ESRCH)?;
            thread.robust_list.load(Ordering::Relaxed)
        }
    };
    let space = call.thread.process().space();
    // Linux stores the length first; two addresses cannot wait in one completion, and writing a
    // constant twice is harmless if the second has to be waited for.
    user::write(space, call.user(2), &ROBUST_HEAD.to_le_bytes())?;
    if call.arg(1) == 0 {
        return Err(Errno::EFAULT.into());
    }
    user::complete(call, call.user(1), &head.to_le_bytes(), 0)
}
