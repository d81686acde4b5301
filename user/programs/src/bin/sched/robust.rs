//! The robust list: futexes whose owner has gone.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use programs::sys::{self, errno, nr};
use programs::{check, require, require_result};

use crate::call;

const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;

/// A lock in the list: the pointer to the next one, then the word.
#[repr(C)]
struct Lock {
    next: AtomicUsize,
    word: AtomicU32,
}

/// `struct robust_list_head`.
#[repr(C)]
struct Head {
    first: AtomicUsize,
    offset: usize,
    pending: AtomicUsize,
}

static LOCKS: [Lock; 4] = [const {
    Lock {
        next: AtomicUsize::new(0),
        word: AtomicU32::new(0),
    }
}; 4];

static HEAD: Head = Head {
    first: AtomicUsize::new(0),
    offset: size_of::<usize>(),
    pending: AtomicUsize::new(0),
};

fn at<T>(object: &T) -> usize {
    core::ptr::from_ref(object).expose_provenance()
}

/// A thread that owns three of four locks ends: two in the list, the third about to be taken out.
pub fn owner_dies() {
    check::section(16, "locks of a thread that has ended");
    let waiting = thread::spawn(|| {
        let word = &LOCKS[0].word;
        loop {
            let value = word.load(Ordering::Acquire);
            if value & OWNER_DIED != 0 {
                return value;
            }
            let args = [word.as_ptr() as usize, 0, value as usize, 0, 0, 0];
            // SAFETY: a wait changes nothing.
            let got = unsafe { sys::futex(args) };
            require!(got == 0 || got == -errno::EAGAIN, "a wait answers {got}");
        }
    });
    require!(thread::spawn(own).join().is_ok(), "the owner");
    let value = waiting.join().unwrap_or(0);
    require!(value == OWNER_DIED | WAITERS, "the waiter saw {value:#x}");
    let words = LOCKS
        .each_ref()
        .map(|lock| lock.word.load(Ordering::Acquire));
    require!(
        words == [OWNER_DIED | WAITERS, OWNER_DIED, 12345, OWNER_DIED],
        "the words are {words:x?}"
    );
}

fn own() {
    let tid = sys::gettid() as u32;
    let size = size_of::<Head>();
    let set = |size| call(nr::SET_ROBUST_LIST, [at(&HEAD), size, 0]);
    require_result!(set(size - 1), -errno::EINVAL, "a head of another size");
    for (lock, value) in LOCKS.iter().zip([tid | WAITERS, tid, 12345, tid]) {
        lock.word.store(value, Ordering::Release);
    }
    // The first three are in the list, the third of which is somebody else's.
    HEAD.first.store(at(&LOCKS[0]), Ordering::Release);
    for (lock, next) in LOCKS.iter().zip([at(&LOCKS[1]), at(&LOCKS[2]), at(&HEAD)]) {
        lock.next.store(next, Ordering::Release);
    }
    HEAD.pending.store(at(&LOCKS[3]), Ordering::Release);
    require_result!(set(size), 0, "set_robust_list");
    // Time for the waiter to fall asleep.
    thread::sleep(Duration::from_millis(30));
}

/// A word at an odd address that the end of a thread clears: nobody can wait for it.
pub fn odd_word() {
    check::section(17, "a thread's number at an odd address");
    static WORDS: [AtomicU32; 2] = [const { AtomicU32::new(u32::MAX) }; 2];
    let ends = thread::spawn(|| {
        // The library's own word is not cleared then, so that nobody may wait for the thread by it.
        let _ = call(nr::SET_TID_ADDRESS, [at(&WORDS) + 1, 0, 0]);
        sys::exit_thread(0)
    });
    std::mem::forget(ends);
    let deadline = Instant::now() + Duration::from_secs(10);
    while WORDS[0].load(Ordering::Acquire) == u32::MAX && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    let words = WORDS.each_ref().map(|word| word.load(Ordering::Acquire));
    require!(words == [0xff, u32::MAX << 8], "the words are {words:x?}");
}
