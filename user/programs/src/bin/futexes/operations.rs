//! `FUTEX_WAKE_OP`, and futexes in memory that is mapped twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use programs::memfile::MemFile;
use programs::memory::Area;
use programs::sys::{self, PAGE, errno, map};
use programs::{check, require, require_result};

use crate::{
    ALL, ANY, CMP_REQUEUE, PRIVATE, WAIT, WAIT_BITSET, WAKE, addr, joined, settle, time, waiter,
    wake,
};

const WAKE_OP: usize = 5;

/// `FUTEX_OP(operation, operand, comparison, compared)` of futex(2).
fn encoded(operation: usize, operand: i32, comparison: usize, compared: i32) -> usize {
    let twelve = |value: i32| value as usize & 0xfff;
    operation << 28 | comparison << 24 | twelve(operand) << 12 | twelve(compared)
}

fn wake_op(first: &AtomicU32, counts: [usize; 2], second: &AtomicU32, op: usize) -> isize {
    let words = [addr(first), addr(second)];
    // SAFETY: the second word is changed atomically.
    unsafe {
        sys::futex([
            words[0],
            WAKE_OP | PRIVATE,
            counts[0],
            counts[1],
            words[1],
            op,
        ])
    }
}

/// A word is changed, and what it was decides whether its waiters are woken too.
pub fn wake_and_change() {
    check::section(19, "wake and change another word");
    changes();
    let words = [0u32; 2].map(|word| Arc::new(AtomicU32::new(word)));
    let start = || {
        words.each_ref().map(|word| {
            let threads: Vec<_> = (0..3).map(|_| waiter(word, WAIT | PRIVATE, 0)).collect();
            threads
        })
    };
    let [first, second] = start();
    settle();
    // The old value, 0, is greater than -1, so both are woken; the new one is 7.
    let got = wake_op(&words[0], [1, 2], &words[1], encoded(0, 7, 4, -1));
    require_result!(got, 3, "one of the first word and two of the second");
    let now = words[1].load(Ordering::Relaxed);
    require!(now == 7, "the second word is {now}");
    // It is not less than 7: its last waiter sleeps on.
    let got = wake_op(&words[0], [ALL, ALL], &words[1], encoded(1, 1, 2, 7));
    require_result!(got, 2, "the others of the first word only");
    require_result!(wake(&words[1], ALL), 1, "the last one of the second word");
    joined(first.into_iter().chain(second).collect());
}

fn changes() {
    let [idle, word] = [0, 0].map(AtomicU32::new);
    for (op, before, after) in [
        (encoded(0, -1, 0, 0), 5, u32::MAX),
        (encoded(1, -3, 0, 0), 5, 2),
        (encoded(2, 8, 0, 0), 5, 13),
        (encoded(3, 4, 0, 0), 5, 1),
        (encoded(4, 7, 0, 0), 5, 2),
        (encoded(8, 31, 0, 0), 5, 1 << 31),
        (encoded(8 | 2, 4, 0, 0), 5, 21),
    ] {
        word.store(before, Ordering::Relaxed);
        require_result!(wake_op(&idle, [1, 1], &word, op), 0, "{op:#x}");
        let now = word.load(Ordering::Relaxed);
        require!(now == after, "{op:#x} makes {now:#x} of {before}");
    }
    let got = wake_op(&idle, [1, 1], &word, encoded(5, 0, 0, 0));
    require_result!(got, -errno::ENOSYS, "a change that there is not");
    let read_only = Area::new(PAGE, map::PROT_READ);
    // SAFETY: the call is refused.
    let got = unsafe {
        sys::futex([
            addr(&idle),
            WAKE_OP | PRIVATE,
            1,
            1,
            read_only.addr(0),
            encoded(0, 1, 0, 0),
        ])
    };
    require_result!(got, -errno::EFAULT, "a word that cannot be written");
}

/// A memory file, mapped twice: the words of one mapping are those of the other.
pub fn two_mappings() {
    check::section(20, "one word at two addresses");
    let file = MemFile::new(2 * PAGE);
    let areas = [(); 3].map(|()| Area::new(2 * PAGE, map::PROT_NONE));
    let [here, there, copy] = &areas;
    file.map(here, 0, 2 * PAGE, map::RW, map::SHARED);
    file.map(there, 0, 2 * PAGE, map::RW, map::SHARED);
    file.map(copy, 0, 2 * PAGE, map::RW, map::PRIVATE);
    let word = PAGE + 8;
    let wake_at = |area: &Area, offset, flag| {
        // SAFETY: a wake changes nothing.
        unsafe { sys::futex([area.addr(offset), WAKE | flag, ALL, 0, 0, 0]) }
    };
    let (at, other) = (here.addr(word), there.addr(word));
    let waiting = |at: usize, rest: [usize; 3]| {
        std::thread::spawn(move || {
            let args = [at, WAIT_BITSET, 0, rest[0], rest[1], rest[2]];
            // SAFETY: a wait changes nothing.
            unsafe { sys::futex(args) }
        })
    };
    let threads = [at, other, at].map(|at| waiting(at, [0, 0, ANY]));
    settle();
    require_result!(wake_at(there, 8, 0), 0, "the same place of another page");
    require_result!(wake_at(copy, word, 0), 0, "a private mapping");
    require_result!(wake_at(there, word, PRIVATE), 0, "a private wake");
    require_result!(wake_at(there, word, 0), 3, "the other mapping");
    joined(threads.into());
    moved_between_mappings([at, other], here.addr(0));
}

/// Waiters of a shared word are moved to another one, found by either address, and time out there.
fn moved_between_mappings([at, other]: [usize; 2], to: usize) {
    let limit = time(0, 300_000_000);
    let wait = |limit: usize| {
        std::thread::spawn(move || {
            // SAFETY: a wait changes nothing.
            unsafe { sys::futex([at, WAIT, 0, limit, 0, 0]) }
        })
    };
    let (for_ever, timed) = (wait(0), wait(limit));
    settle();
    // SAFETY: a requeue reads the word only.
    let got = unsafe { sys::futex([other, CMP_REQUEUE, 0, ALL, to, 0]) };
    require_result!(got, 2, "both are moved");
    let answer = timed.join().unwrap_or(0);
    require_result!(answer, -errno::ETIMEDOUT, "the moved wait with a limit");
    // SAFETY: a wake changes nothing.
    let got = unsafe { sys::futex([to, WAKE, ALL, 0, 0, 0]) };
    require_result!(got, 1, "the other one is where it was moved to");
    joined(vec![for_ever]);
}
