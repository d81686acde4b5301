//! Policies and nice values as Linux tells them; priorities as Tessera keeps them.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use abi::{calls, slot};
use programs::native::control;
use programs::sys::{self, errno, nr};
use programs::{check, require, require_result};

use crate::{affinity, call};

const OTHER: usize = 0;
const FIFO: usize = 1;
const RR: usize = 2;
const BATCH: usize = 3;
const IDLE: usize = 5;
const DEADLINE: usize = 6;
const RESET_ON_FORK: usize = 0x4000_0000;
const NOBODY: usize = 0x3fff_fffe;
const NEGATIVE: usize = -1isize as usize;

fn set(policy: usize, priority: u32) -> isize {
    let param = [priority];
    call(nr::SCHED_SETSCHEDULER, [0, policy, param.as_ptr() as usize])
}

fn get() -> isize {
    call(nr::SCHED_GETSCHEDULER, [0; 3])
}

pub fn answers() {
    check::section(13, "policies");
    for (policy, least, most) in [
        (OTHER, 0, 0),
        (FIFO, 1, 99),
        (RR, 1, 99),
        (BATCH, 0, 0),
        (IDLE, 0, 0),
        (DEADLINE, 0, 0),
        (4, -errno::EINVAL, -errno::EINVAL),
        (99, -errno::EINVAL, -errno::EINVAL),
    ] {
        let got = call(nr::SCHED_GET_PRIORITY_MIN, [policy, 0, 0]);
        require_result!(got, least, "lowest priority of policy {policy}");
        let got = call(nr::SCHED_GET_PRIORITY_MAX, [policy, 0, 0]);
        require_result!(got, most, "highest priority of policy {policy}");
    }
    require_result!(get(), OTHER as isize, "to begin with");
    require_result!(
        set(OTHER, 1),
        -errno::EINVAL,
        "a priority where there is none"
    );
    require_result!(
        set(FIFO, 0),
        -errno::EINVAL,
        "no priority where there is one"
    );
    require_result!(set(FIFO, 100), -errno::EINVAL, "a priority too high");
    require_result!(set(4, 0), -errno::EINVAL, "a policy that there is not");
    require_result!(set(NEGATIVE, 0), -errno::EINVAL, "a negative policy");
    require_result!(set(BATCH, 0), 0, "SCHED_BATCH");
    require_result!(get(), BATCH as isize, "as it was set");
    require_result!(set(OTHER | RESET_ON_FORK, 0), 0, "not to be passed on");
    require_result!(get(), (OTHER | RESET_ON_FORK) as isize, "with its flag");
    let theirs = thread::spawn(get).join().unwrap_or(-1);
    require_result!(theirs, OTHER as isize, "nothing was passed on");
    structures();
}

fn structures() {
    let mut param = [7u32];
    let at = param.as_mut_ptr() as usize;
    require_result!(call(nr::SCHED_GETPARAM, [0, at, 0]), 0, "sched_getparam");
    require!(param[0] == 0, "the priority is {}", param[0]);
    require_result!(call(nr::SCHED_SETPARAM, [0, at, 0]), 0, "sched_setparam");
    let mut time = [77i64; 2];
    let args = [0, time.as_mut_ptr() as usize, 0];
    require_result!(call(nr::SCHED_RR_GET_INTERVAL, args), 0, "a time slice");
    require!(time[0] == 0 && time[1] < 1_000_000_000, "it is {time:?}");
    for (number, args) in [
        (nr::SCHED_GETPARAM, [0, 0, 0]),
        (nr::SCHED_GETPARAM, [NEGATIVE, at, 0]),
        (nr::SCHED_SETPARAM, [0, 0, 0]),
        (nr::SCHED_SETSCHEDULER, [NEGATIVE, 0, at]),
        (nr::SCHED_SETSCHEDULER, [0, 0, 0]),
        (nr::SCHED_GETSCHEDULER, [NEGATIVE, 0, 0]),
        (nr::SCHED_RR_GET_INTERVAL, [NEGATIVE, at, 0]),
    ] {
        let got = call(number, args);
        require_result!(got, -errno::EINVAL, "call {number} with {args:x?}");
    }
    for (number, args) in [
        (nr::SCHED_GETPARAM, [NOBODY, at, 0]),
        (nr::SCHED_GETSCHEDULER, [NOBODY, 0, 0]),
        (nr::SCHED_SETSCHEDULER, [NOBODY, 0, at]),
        (nr::SCHED_RR_GET_INTERVAL, [NOBODY, at, 0]),
        (nr::SCHED_SETPARAM, [NOBODY, at, 0]),
    ] {
        require_result!(
            call(number, args),
            -errno::ESRCH,
            "call {number} for nobody"
        );
    }
}

/// In a thread of its own, which cannot become less nice again.
pub fn nice() {
    check::section(14, "nice values");
    let get = |which: usize, who: usize| call(nr::GETPRIORITY, [which, who, 0]);
    let set = |nice: usize| call(nr::SETPRIORITY, [0, 0, nice]);
    let ran = thread::spawn(move || {
        let before = 20 - get(0, 0);
        require!((-20..20).contains(&before), "the nice value is {before}");
        let nicer = (before + 3).min(19) as usize;
        require_result!(set(nicer), 0, "nicer");
        require_result!(get(0, 0), 20 - nicer as isize, "as it was set");
        require_result!(set(100), 0, "as nice as can be");
        require_result!(get(0, 0), 1, "which is 19");
    });
    require!(ran.join().is_ok(), "a nice thread");
    require_result!(get(3, 0), -errno::EINVAL, "whose nice value");
    require_result!(get(0, NOBODY), -errno::ESRCH, "nobody's nice value");
    let got = call(nr::SETPRIORITY, [7, 0, 0]);
    require_result!(got, -errno::EINVAL, "whose nice value to set");
}

/// On one CPU, a thread of `SCHED_IDLE` runs when no other one wants to: not before, and a wake takes
/// the CPU from it at once.
pub fn preemption() {
    check::section(15, "a wake takes the CPU from who is less urgent");
    let all = affinity::get(0);
    require_result!(affinity::set(0, 1 << all.trailing_zeros()), 0, "to one CPU");
    let (word, answers) = (&AtomicU32::new(0), &AtomicU32::new(0));
    let (turns, stop) = (&AtomicU64::new(0), &AtomicBool::new(false));
    thread::scope(|scope| {
        let idle = scope.spawn(move || {
            require_result!(set(IDLE, 0), 0, "SCHED_IDLE");
            for turn in 1..=50 {
                word.store(turn, Ordering::Release);
                futex(word, WAKE, 1);
                let answered = answers.load(Ordering::Acquire);
                require!(answered == turn, "woken, it ran to {answered} of {turn}");
            }
            require_result!(set(OTHER, 0), -errno::EPERM, "back");
            while !stop.load(Ordering::Acquire) {
                turns.fetch_add(1, Ordering::Relaxed);
            }
        });
        for turn in 1..=50 {
            while word.load(Ordering::Acquire) < turn {
                futex(word, WAIT, turn as usize - 1);
            }
            answers.store(turn, Ordering::Release);
        }
        thread::sleep(Duration::from_millis(5));
        let before = turns.load(Ordering::Relaxed);
        require!(before != 0, "with the CPU to itself it runs");
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(30) {}
        let after = turns.load(Ordering::Relaxed);
        require!(after == before, "it ran {} times meanwhile", after - before);
        stop.store(true, Ordering::Release);
        require!(idle.join().is_ok(), "the idle thread");
    });
    require_result!(affinity::set(0, all), 0, "everywhere again");
}

/// A thread that another one makes less urgent by its handle runs no more while that one wants to, and
/// again as its equal when it is one.
pub fn by_handle() {
    check::section(18, "the priority of another thread");
    let all = affinity::get(0);
    require_result!(affinity::set(0, 1 << all.trailing_zeros()), 0, "to one CPU");
    let (tid, turns) = (&AtomicU64::new(0), &AtomicU64::new(0));
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(move || {
            tid.store(sys::gettid() as u64, Ordering::Release);
            while !stop.load(Ordering::Acquire) {
                turns.fetch_add(1, Ordering::Relaxed);
            }
        });
        while tid.load(Ordering::Acquire) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        let open = [slot::PROCESS, tid.load(Ordering::Acquire)];
        let thread = control(calls::THREAD_OPEN, &open);
        require!(thread >= 0, "a handle of it: {thread}");
        let set = |priority| control(calls::THREAD_PRIORITY, &[thread as u64, priority]);
        let turns_in = |time: u64| {
            let (before, start) = (turns.load(Ordering::Relaxed), Instant::now());
            while start.elapsed() < Duration::from_millis(time) {}
            turns.load(Ordering::Relaxed) - before
        };
        let unknown = set(4);
        require!(
            unknown == -errno::EINVAL as i64,
            "no such priority: {unknown}"
        );
        let before = set(0);
        require!(before == 1, "it was ordinary: {before}");
        let while_less = turns_in(30);
        require!(while_less == 0, "it ran {while_less} times meanwhile");
        let before = set(1);
        require!(before == 0, "it was less urgent: {before}");
        let while_equal = turns_in(60);
        require!(while_equal != 0, "an equal has its share");
        stop.store(true, Ordering::Release);
        let closed = control(calls::HANDLE_CLOSE, &[thread as u64]);
        require!(closed == 0, "it is closed: {closed}");
    });
    require_result!(affinity::set(0, all), 0, "everywhere again");
}

const WAIT: usize = 128;
const WAKE: usize = 129;

fn futex(word: &AtomicU32, operation: usize, value: usize) {
    let args = [word.as_ptr() as usize, operation, value, 0, 0, 0];
    // SAFETY: waits and wakes change nothing.
    let got = unsafe { sys::futex(args) };
    require!(
        got >= 0 || got == -errno::EAGAIN,
        "a futex call answers {got}"
    );
}
