//! The futex system call itself: values, time-outs, bit sets, requeueing, counts, errors.

mod operations;

use programs::sys::{self, errno};
use programs::{check, require, require_result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const WAIT: usize = 0;
const WAKE: usize = 1;
const REQUEUE: usize = 3;
const CMP_REQUEUE: usize = 4;
const WAIT_BITSET: usize = 9;
const WAKE_BITSET: usize = 10;
const PRIVATE: usize = 128;
const REALTIME: usize = 256;
const ALL: usize = i32::MAX as usize;
const ANY: usize = u32::MAX as usize;

/// A `struct timespec`.
#[repr(C)]
struct Time {
    seconds: i64,
    nanoseconds: i64,
}

fn main() {
    check::start("futexes");
    values();
    errors();
    timeouts();
    absolute();
    counts();
    bit_sets();
    requeue();
    kinds();
    hand_over();
    operations::wake_and_change();
    operations::two_mappings();
    check::pass();
}

fn addr(word: &AtomicU32) -> usize {
    word.as_ptr() as usize
}

/// The call on words of this program; nothing but the word a requeue compares is read.
fn futex(word: &AtomicU32, operation: usize, value: usize, rest: [usize; 3]) -> isize {
    // SAFETY: the operations used here read words and change none.
    unsafe { sys::futex([addr(word), operation, value, rest[0], rest[1], rest[2]]) }
}

fn wake(word: &AtomicU32, count: usize) -> isize {
    futex(word, WAKE | PRIVATE, count, [0; 3])
}

/// A thread that waits on `word` with the bits `bits` and returns the call's result.
fn waiter(word: &Arc<AtomicU32>, operation: usize, bits: usize) -> JoinHandle<isize> {
    let word = Arc::clone(word);
    thread::spawn(move || futex(&word, operation, 0, [0, 0, bits]))
}

/// Waits until threads that were just started have had ample time to fall asleep.
fn settle() {
    thread::sleep(Duration::from_millis(60));
}

fn joined(threads: Vec<JoinHandle<isize>>) {
    for thread in threads {
        let got = thread.join().expect("a thread panicked");
        require_result!(got, 0, "a woken wait");
    }
}

fn values() {
    check::section(10, "the value is compared first");
    let word = AtomicU32::new(5);
    for operation in [WAIT, WAIT | PRIVATE] {
        require_result!(
            futex(&word, operation, 6, [0; 3]),
            -errno::EAGAIN,
            "WAIT, other value"
        );
    }
    for operation in [WAIT_BITSET, WAIT_BITSET | PRIVATE] {
        let got = futex(&word, operation, 6, [0, 0, ANY]);
        require_result!(got, -errno::EAGAIN, "WAIT_BITSET, other value");
    }
    // Only 32 bits of the value count.
    let got = futex(&word, WAIT | PRIVATE, 5 | 1 << 32, [time(0, 0), 0, 0]);
    require_result!(
        got,
        -errno::ETIMEDOUT,
        "the upper half of the value is ignored"
    );
}

/// The address of a `Time` that lives for ever.
fn time(seconds: i64, nanoseconds: i64) -> usize {
    core::ptr::from_ref(Box::leak(Box::new(Time {
        seconds,
        nanoseconds,
    })))
    .expose_provenance()
}

fn errors() {
    check::section(11, "errors");
    let words = [const { AtomicU32::new(0) }; 2];
    // SAFETY: all of these are refused.
    let raw = |args| unsafe { sys::futex(args) };
    let odd = addr(&words[0]) + 1;
    for operation in [
        WAIT,
        WAKE,
        WAIT | PRIVATE,
        WAKE | PRIVATE,
        WAKE_BITSET | PRIVATE,
    ] {
        let got = raw([odd, operation, 1, 0, 0, ANY]);
        require_result!(
            got,
            -errno::EINVAL,
            "operation {operation} on a misaligned word"
        );
    }
    for operation in [WAIT_BITSET | PRIVATE, WAKE_BITSET | PRIVATE] {
        let got = futex(&words[0], operation, 1, [0; 3]);
        require_result!(got, -errno::EINVAL, "operation {operation} with no bit");
    }
    for (seconds, nanoseconds) in [(0, 1_000_000_000), (0, -1), (-1, 0)] {
        let got = futex(
            &words[0],
            WAIT | PRIVATE,
            0,
            [time(seconds, nanoseconds), 0, 0],
        );
        require_result!(
            got,
            -errno::EINVAL,
            "a time-out of {seconds} s {nanoseconds} ns"
        );
    }
    for operation in [50, 127 | PRIVATE, 2] {
        // 2 was FUTEX_FD, which is gone.
        require_result!(
            futex(&words[0], operation, 0, [0; 3]),
            -errno::ENOSYS,
            "{operation}"
        );
    }
    let got = raw([0, WAIT | PRIVATE, 0, 0, 0, 0]);
    require_result!(got, -errno::EFAULT, "WAIT on NULL");
    let got = raw([0xffff_8000_0000_0000, WAKE | PRIVATE, 1, 0, 0, 0]);
    require_result!(got, -errno::EFAULT, "WAKE on an address of the kernel");
    let got = raw([addr(&words[0]), CMP_REQUEUE | PRIVATE, 0, 0, odd, 0]);
    require_result!(got, -errno::EINVAL, "CMP_REQUEUE to a misaligned word");
    let got = futex(
        &words[0],
        CMP_REQUEUE | PRIVATE,
        0,
        [ALL, addr(&words[1]), 1],
    );
    require_result!(got, -errno::EAGAIN, "CMP_REQUEUE with another value");
    let negative = -1isize as usize;
    let got = futex(
        &words[0],
        CMP_REQUEUE | PRIVATE,
        negative,
        [0, addr(&words[1]), 0],
    );
    require_result!(got, -errno::EINVAL, "CMP_REQUEUE with a negative count");
}

fn timeouts() {
    check::section(12, "relative time-outs");
    let word = AtomicU32::new(0);
    for millis in [0i64, 1, 5, 30] {
        for operation in [WAIT, WAIT | PRIVATE] {
            let start = Instant::now();
            let got = futex(&word, operation, 0, [time(0, millis * 1_000_000), 0, 0]);
            let waited = start.elapsed();
            require_result!(got, -errno::ETIMEDOUT, "a wait of {millis} ms");
            let asked = Duration::from_millis(millis.unsigned_abs());
            require!(
                waited >= asked,
                "a wait of {millis} ms took only {waited:?}"
            );
            require!(
                waited < asked + Duration::from_secs(5),
                "{millis} ms took {waited:?}"
            );
        }
    }
    require_result!(wake(&word, ALL), 0, "nobody is left in the queue");
}

fn clock(which: usize) -> Time {
    let mut now = Time {
        seconds: 0,
        nanoseconds: 0,
    };
    let args = [which, (&raw mut now) as usize, 0, 0, 0, 0];
    // SAFETY: the call writes one `Time`.
    let got = unsafe { sys::syscall(sys::nr::CLOCK_GETTIME, args) };
    require_result!(got, 0, "clock_gettime");
    now
}

fn absolute() {
    check::section(13, "absolute time-outs");
    let word = AtomicU32::new(0);
    for (which, flag) in [(1, 0), (0, REALTIME)] {
        let operation = WAIT_BITSET | PRIVATE | flag;
        // Before the clock is read: whatever comes in between is part of the wait.
        let start = Instant::now();
        let now = clock(which);
        for past in [time(0, 0), time((now.seconds - 1).max(0), 0)] {
            let got = futex(&word, operation, 0, [past, 0, ANY]);
            require_result!(got, -errno::ETIMEDOUT, "clock {which}, a time that is past");
        }
        let later = now.nanoseconds + 25_000_000;
        let until = time(now.seconds + later / 1_000_000_000, later % 1_000_000_000);
        let got = futex(&word, operation, 0, [until, 0, ANY]);
        require_result!(got, -errno::ETIMEDOUT, "clock {which}, 25 ms from now");
        let waited = start.elapsed();
        let early = which == 1 && waited < Duration::from_millis(25);
        require!(
            !early && waited < Duration::from_secs(5),
            "clock {which} took {waited:?}"
        );
    }
}

fn counts() {
    check::section(14, "wake says how many");
    let word = Arc::new(AtomicU32::new(0));
    require_result!(wake(&word, 1), 0, "nobody waits");
    let threads: Vec<_> = (0..6).map(|_| waiter(&word, WAIT | PRIVATE, 0)).collect();
    settle();
    require_result!(wake(&word, 1), 1, "wake one of six");
    require_result!(wake(&word, 2), 2, "wake two of five");
    require_result!(wake(&word, ALL), 3, "wake the other three");
    require_result!(wake(&word, ALL), 0, "nobody is left");
    joined(threads);
    let other = AtomicU32::new(0);
    let thread = waiter(&word, WAIT | PRIVATE, 0);
    settle();
    require_result!(wake(&other, ALL), 0, "another word");
    require_result!(wake(&word, ALL), 1, "the word itself");
    joined(vec![thread]);
}

fn bit_sets() {
    check::section(15, "bit sets");
    let word = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = [1, 2, 4, 3, 0xffff_ffff]
        .map(|bits| waiter(&word, WAIT_BITSET | PRIVATE, bits))
        .into_iter()
        .collect();
    settle();
    let wake_bits = |bits| futex(&word, WAKE_BITSET | PRIVATE, ALL, [0, 0, bits]);
    require_result!(
        wake_bits(4),
        2,
        "bit 2: the waiter for it and the one for all"
    );
    require_result!(wake_bits(8), 0, "bit 3: nobody");
    require_result!(wake_bits(2), 2, "bit 1: two waiters");
    require_result!(wake(&word, ALL), 1, "a plain wake takes the last one");
    joined(threads);
}

fn requeue() {
    check::section(16, "requeue");
    for operation in [REQUEUE | PRIVATE, CMP_REQUEUE | PRIVATE] {
        let (from, to) = (Arc::new(AtomicU32::new(0)), AtomicU32::new(9));
        let threads: Vec<_> = (0..6).map(|_| waiter(&from, WAIT | PRIVATE, 0)).collect();
        settle();
        let got = futex(&from, operation, 1, [2, addr(&to), 0]);
        require_result!(got, 3, "one woken and two moved");
        require_result!(wake(&to, 1), 1, "one of the moved");
        require_result!(wake(&from, ALL), 3, "those that were not moved");
        require_result!(wake(&to, ALL), 1, "the other one that was moved");
        joined(threads);
    }
    // A wait that was moved still ends at its time.
    let (from, to) = (Arc::new(AtomicU32::new(0)), AtomicU32::new(0));
    let word = Arc::clone(&from);
    let timed =
        thread::spawn(move || futex(&word, WAIT | PRIVATE, 0, [time(0, 300_000_000), 0, 0]));
    settle();
    let got = futex(&from, CMP_REQUEUE | PRIVATE, 0, [ALL, addr(&to), 0]);
    require_result!(got, 1, "one moved");
    require_result!(
        timed.join().unwrap_or(0),
        -errno::ETIMEDOUT,
        "the moved wait"
    );
    require_result!(wake(&to, ALL), 0, "it is in no queue any more");
}

fn kinds() {
    check::section(17, "shared waits");
    let word = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..3).map(|_| waiter(&word, WAIT, 0)).collect();
    settle();
    require_result!(
        futex(&word, WAKE, ALL, [0; 3]),
        3,
        "a shared wake ends shared waits"
    );
    joined(threads);
}

/// Two threads hand a number to and fro; each hand-over is one wait and one wake.
fn hand_over() {
    check::section(18, "ten thousand hand-overs");
    const TURNS: u32 = 10_000;
    let word = Arc::new(AtomicU32::new(0));
    let players: Vec<_> = (0..2u32)
        .map(|player| {
            let word = Arc::clone(&word);
            thread::spawn(move || {
                loop {
                    let value = word.load(Ordering::Acquire);
                    if value >= TURNS {
                        return;
                    }
                    if value % 2 == player {
                        word.store(value + 1, Ordering::Release);
                        wake(&word, 1);
                    } else {
                        let got = futex(&word, WAIT | PRIVATE, value as usize, [0; 3]);
                        require!(got == 0 || got == -errno::EAGAIN, "a wait answers {got}");
                    }
                }
            })
        })
        .collect();
    players
        .into_iter()
        .for_each(|player| player.join().expect("a player panicked"));
    let end = word.load(Ordering::Acquire);
    require!(end == TURNS, "the game ended at {end}");
}
