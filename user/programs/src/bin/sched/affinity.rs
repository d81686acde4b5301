//! Threads and the CPUs that they may run on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use programs::sys::{self, errno, nr};
use programs::{check, require, require_result};

use crate::call;

/// As many CPUs as a set of Linux usually has room for.
type Set = [u64; 16];
const SIZE: usize = size_of::<Set>();

/// The CPUs that a thread may run on, 0 for the caller; at most 64 are looked at.
pub fn get(tid: usize) -> u64 {
    let mut set: Set = [0; 16];
    let got = call(
        nr::SCHED_GETAFFINITY,
        [tid, SIZE, set.as_mut_ptr() as usize],
    );
    require!(got > 0 && got % 8 == 0, "sched_getaffinity: {got}");
    set[0]
}

/// Lets a thread run on these only; the raw answer.
pub fn set(tid: usize, cpus: u64) -> isize {
    let set = [cpus];
    call(nr::SCHED_SETAFFINITY, [tid, 8, set.as_ptr() as usize])
}

/// The CPU that the caller runs on.
fn getcpu() -> usize {
    let mut cpu = 0u32;
    let mut node = 77u32;
    let args = [(&raw mut cpu) as usize, (&raw mut node) as usize, 0];
    require_result!(call(nr::GETCPU, args), 0, "getcpu");
    require!(node < 64, "the node is {node}");
    cpu as usize
}

fn bits(cpus: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |cpu| cpus >> cpu & 1 == 1)
}

pub fn errors() {
    check::section(10, "sets that are refused");
    let before = get(0);
    let mut set_of: Set = [0; 16];
    let at = set_of.as_mut_ptr() as usize;
    for (size, expected) in [(0, errno::EINVAL), (7, errno::EINVAL), (12, errno::EINVAL)] {
        let got = call(nr::SCHED_GETAFFINITY, [0, size, at]);
        require_result!(got, -expected, "a set of {size} bytes");
    }
    let nobody = 0x3fff_fffe;
    let got = call(nr::SCHED_GETAFFINITY, [nobody, SIZE, at]);
    require_result!(got, -errno::ESRCH, "the CPUs of nobody");
    let got = call(nr::SCHED_GETAFFINITY, [0, SIZE, 0]);
    require_result!(got, -errno::EFAULT, "to nowhere");
    require_result!(set(0, 0), -errno::EINVAL, "no CPU");
    require_result!(set(nobody, 1), -errno::ESRCH, "nobody");
    let got = call(nr::SCHED_SETAFFINITY, [0, 8, 0]);
    require_result!(got, -errno::EFAULT, "from nowhere");
    let got = call(nr::SCHED_SETAFFINITY, [0, 0, 0]);
    require_result!(got, -errno::EINVAL, "a set without a byte");
    require!(get(0) == before, "what was refused changed nothing");
    // What is longer than the kernel's sets is cut off, and CPUs that there are not do not matter.
    let mut longer: Set = [0; 16];
    (longer[0], longer[15]) = (before, u64::MAX);
    let got = call(nr::SCHED_SETAFFINITY, [0, SIZE, longer.as_ptr() as usize]);
    require_result!(got, 0, "more CPUs than there are");
    require!(get(0) == before, "as before");
}

/// A thread that is told to run on a CPU is there when the call returns; one that runs is moved.
pub fn honoured() {
    check::section(11, "threads run where they may");
    let all = get(0);
    for cpu in bits(all).chain(bits(all)) {
        require_result!(set(0, 1 << cpu), 0, "to CPU {cpu}");
        require!(get(0) == 1 << cpu, "and no other");
        let now = getcpu();
        require!(now == cpu, "told to run on {cpu}, runs on {now}");
        thread::yield_now();
        let now = getcpu();
        require!(now == cpu, "after a yield on {now}, not {cpu}");
    }
    require_result!(set(0, all), 0, "everywhere again");
    moved_by_another(all);
}

fn moved_by_another(all: u64) {
    let (tid, seen) = (&AtomicUsize::new(0), &AtomicUsize::new(usize::MAX));
    let done = &AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(move || {
            tid.store(sys::gettid() as usize, Ordering::Release);
            while !done.load(Ordering::Acquire) {
                seen.store(getcpu(), Ordering::Release);
            }
        });
        while tid.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        let other = tid.load(Ordering::Acquire);
        for cpu in bits(all) {
            require_result!(set(other, 1 << cpu), 0, "another thread to CPU {cpu}");
            while seen.load(Ordering::Acquire) != cpu {
                thread::yield_now();
            }
        }
        done.store(true, Ordering::Release);
    });
}

pub fn inherited() {
    check::section(12, "new threads may run where their makers may");
    let all = get(0);
    let last = bits(all).last().unwrap_or(0);
    require_result!(set(0, 1 << last), 0, "to CPU {last}");
    let theirs = thread::spawn(|| (get(0), getcpu())).join();
    require!(
        theirs.is_ok_and(|theirs| theirs == (1 << last, last)),
        "a new thread runs on CPU {last}"
    );
    require_result!(set(0, all), 0, "everywhere again");
}
