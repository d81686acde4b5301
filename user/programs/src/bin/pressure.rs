//! Threads that fault, unmap, protect, discard, punch and cut at once, in the same tables and the
//! same objects: `pressure [ROUNDS] [SEED]`.
//!
//! Each thread owns every fourth page and knows what must be in it: a number, in the first and in
//! the last word. A number that is lost, torn or somebody else's ends the program.

use programs::memfile::MemFile;
use programs::memory::{Area, writable};
use programs::random::Random;
use programs::sys::{PAGE, errno, map};
use programs::{check, require, require_result};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

const THREADS: usize = 4;
/// Pages of each memory that is worked on.
const PAGES: usize = 256;
const LEN: usize = PAGES * PAGE;

fn main() {
    check::start("pressure");
    let rounds = check::number_argument(1, 1500);
    let seed = check::number_argument(2, 1);
    check::section(10, "private memory");
    private(rounds, seed);
    check::section(11, "a file, mapped three times");
    file(rounds, seed);
    check::section(12, "reading into memory that goes away");
    reading(rounds);
    check::pass();
}

/// The pages of one thread, and the number each of them holds.
struct Stripe<'a> {
    area: &'a Area,
    thread: usize,
    holds: Vec<u64>,
    random: Random,
    next: u64,
}

impl<'a> Stripe<'a> {
    fn new(area: &'a Area, thread: usize, seed: u64) -> Self {
        Self {
            area,
            thread,
            holds: vec![0; PAGES / THREADS],
            random: Random::new(seed * 100 + thread as u64),
            next: (thread as u64 + 1) << 32,
        }
    }

    /// One of the thread's pages, by its number among them, and its offset.
    fn pick(&mut self) -> (usize, usize) {
        let own = self.random.index(self.holds.len());
        (own, (own * THREADS + self.thread) * PAGE)
    }

    fn write(&mut self, own: usize, at: usize) {
        self.next += 1;
        self.holds[own] = self.next;
        self.area.set_u64(at, self.next);
        self.area.set_u64(at + PAGE - 8, self.next);
    }

    fn check(&self, own: usize, at: usize) {
        let got = [0, PAGE - 8].map(|place| self.area.get_u64(at + place));
        let wanted = self.holds[own];
        require!(
            got == [wanted; 2],
            "thread {}: page {} holds {got:x?}, not {wanted:x}",
            self.thread,
            at / PAGE
        );
    }

    fn check_all(&self) {
        (0..self.holds.len()).for_each(|own| self.check(own, (own * THREADS + self.thread) * PAGE));
    }

    /// The right to write goes and comes.
    fn protect(&mut self, own: usize, at: usize) {
        require_result!(self.area.protect(at, PAGE, map::PROT_READ), 0, "mprotect");
        require!(!writable(self.area, at + 64), "written without a right");
        self.check(own, at);
        require_result!(self.area.protect(at, PAGE, map::RW), 0, "mprotect");
        self.write(own, at);
    }
}

/// Runs one closure in each thread, all at once.
fn together(work: impl Fn(usize) + Sync) {
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                work(number);
            });
        }
    });
}

fn private(rounds: u64, seed: u64) {
    let area = Area::new(LEN, map::RW);
    together(|thread| {
        let mut stripe = Stripe::new(&area, thread, seed);
        for round in 0..rounds {
            let (own, at) = stripe.pick();
            stripe.check(own, at);
            match stripe.random.below(8) {
                0 => stripe.protect(own, at),
                1 => {
                    let got = area.advise(at, PAGE, map::MADV_DONTNEED);
                    require_result!(got, 0, "DONTNEED");
                    stripe.holds[own] = 0;
                }
                2 => {
                    require_result!(area.unmap(at, PAGE), 0, "munmap");
                    let got = area.map_over(at, PAGE, map::RW);
                    require_result!(got, area.addr(at) as isize, "mmap");
                    stripe.holds[own] = 0;
                }
                _ => stripe.write(own, at),
            }
            stripe.check(own, at);
            if round % 128 == 0 {
                stripe.check_all();
            }
        }
        stripe.check_all();
    });
}

/// Pages behind those of the threads, which the first thread cuts off and gives back.
const TAIL: usize = 8;

fn file(rounds: u64, seed: u64) {
    let bytes = LEN + TAIL * PAGE;
    let file = MemFile::new(bytes);
    let (area, other, copies) = (
        Area::unmapped(bytes),
        Area::unmapped(bytes),
        Area::unmapped(bytes),
    );
    file.map(&area, 0, bytes, map::RW, map::SHARED);
    file.map(&other, 0, bytes, map::RW, map::SHARED);
    file.map(&copies, 0, bytes, map::RW, map::PRIVATE);
    together(|thread| {
        let mut stripe = Stripe::new(&area, thread, seed);
        for round in 0..rounds {
            let (own, at) = stripe.pick();
            stripe.check(own, at);
            match stripe.random.below(10) {
                0 => stripe.protect(own, at),
                1 => {
                    // What is dropped of a shared mapping is in the object.
                    let got = area.advise(at, PAGE, map::MADV_DONTNEED);
                    require_result!(got, 0, "DONTNEED");
                }
                2 => {
                    require_result!(file.punch(at, PAGE), 0, "a hole");
                    stripe.holds[own] = 0;
                }
                3 => {
                    require_result!(other.unmap(at, PAGE), 0, "munmap");
                    let got = area_again(&area, &other, at);
                    require_result!(got, other.addr(at) as isize, "mapped again");
                }
                4 if thread == 0 => cut(&file, &area, round),
                5 => copy(&copies, at, stripe.holds[own]),
                _ => stripe.write(own, at),
            }
            stripe.check(own, at);
            let got = other.get_u64(at);
            require!(got == stripe.holds[own], "the other mapping has {got:x}");
            if round % 128 == 0 {
                stripe.check_all();
            }
        }
        stripe.check_all();
    });
}

/// Maps the page at `at` of one mapping into the same place of another one.
fn area_again(area: &Area, other: &Area, at: usize) -> isize {
    use programs::sys::{nr, syscall};
    let flags = map::MREMAP_MAYMOVE | map::MREMAP_FIXED;
    let args = [area.addr(at), 0, PAGE, flags, other.addr(at), 0];
    // SAFETY: the target is a page of `other` that is not mapped.
    unsafe { syscall(nr::MREMAP, args) }
}

/// A private copy shows what was there when it was made, then what is written to it, and when it
/// is discarded the file's page again.
fn copy(copies: &Area, at: usize, holds: u64) {
    require!(copies.get_u64(at) == holds, "the file's page");
    copies.set_u64(at, 7);
    let got = (copies.get_u64(at), copies.get_u64(at + PAGE - 8));
    require!(got == (7, holds), "the copy holds {got:x?}, not {holds:x}");
    let got = copies.advise(at, PAGE, map::MADV_DONTNEED);
    require_result!(got, 0, "DONTNEED");
    require!(copies.get_u64(at) == holds, "the file's page again");
}

/// Cuts the tail off and gives it back: it holds zeros, whatever was in it.
fn cut(file: &MemFile, area: &Area, round: u64) {
    for page in 0..TAIL {
        area.set_u64(LEN + page * PAGE, round + 1);
    }
    require_result!(file.resize(LEN), 0, "cut");
    require!(!writable(area, LEN + PAGE), "written beyond the end");
    require_result!(file.resize(LEN + TAIL * PAGE), 0, "extended");
    for page in 0..TAIL {
        let got = area.get_u64(LEN + page * PAGE);
        require!(got == 0, "page {page} of the tail holds {got}");
    }
}

/// Pages that are read into.
const TARGET: usize = 16;
/// The byte that is read.
const BYTE: u8 = 0xa5;
/// Where in the first page reading begins.
const INTO: usize = 100;
/// No page of the target is protected, and all are; between them, the number of the first that is.
const MOVING: usize = usize::MAX;

/// The kernel writes into memory that another thread write-protects and unmaps (D4). As long as
/// nothing changes, a call returns exactly the bytes before the first page that cannot be written;
/// and nothing is ever written to a frame that the target has given up.
fn reading(rounds: u64) {
    let file = MemFile::new(TARGET * PAGE);
    require_result!(
        file.write_at(&[BYTE; TARGET * PAGE], 0),
        (TARGET * PAGE) as isize,
        "pwrite"
    );
    let (target, state) = (Area::new(TARGET * PAGE, map::RW), AtomicUsize::new(TARGET));
    let (stop, changes) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS - 1 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    read_once(&file, &target, &state, &changes);
                    thread::yield_now();
                }
            });
        }
        let mut random = Random::new(rounds);
        for _ in 0..rounds / 16 {
            state.store(MOVING, Ordering::SeqCst);
            changes.fetch_add(1, Ordering::SeqCst);
            let first = change(&target, &mut random);
            state.store(first, Ordering::SeqCst);
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

fn read_once(file: &MemFile, target: &Area, state: &AtomicUsize, changes: &AtomicUsize) {
    let (change, first) = (changes.load(Ordering::SeqCst), state.load(Ordering::SeqCst));
    let len = TARGET * PAGE - INTO;
    let got = file.read_into(target, INTO, len, 0);
    let same = changes.load(Ordering::SeqCst) == change && first != MOVING;
    if !same {
        require!(
            got == -errno::EFAULT || (1..=len as isize).contains(&got),
            "pread: {got}"
        );
        return;
    }
    let expected = match first {
        0 => -errno::EFAULT,
        first => (first * PAGE - INTO) as isize,
    };
    require!(got == expected, "pread: {got}, not {expected}");
}

/// Unmaps the target, sees that what is mapped elsewhere stays zero, and maps the target again with
/// all of it writable, or up to a page; the number of that.
fn change(target: &Area, random: &mut Random) -> usize {
    require_result!(target.unmap(0, target.len()), 0, "munmap");
    let elsewhere = Area::new(target.len(), map::RW);
    for page in 0..TARGET {
        elsewhere.set(page * PAGE, 1);
    }
    thread::yield_now();
    for page in 0..TARGET {
        let clean = (8..PAGE)
            .step_by(8)
            .all(|at| elsewhere.get_u64(page * PAGE + at) == 0);
        require!(
            clean,
            "page {page} was written through a mapping that is gone"
        );
    }
    let got = target.map_over(0, target.len(), map::RW);
    require_result!(got, target.addr(0) as isize, "mmap");
    let first = random.index(TARGET + 1);
    if first < TARGET {
        let (at, len) = (first * PAGE, (TARGET - first) * PAGE);
        require_result!(target.protect(at, len, map::PROT_READ), 0, "mprotect");
    }
    first
}
