//! The ways in which a program ends, or does not, besides returning from `main`.
//!
//! `panics CASE`; the expected statuses are beside the cases in [`CASES`].

use programs::{check, require, sys};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Name, expected status (128 + signal for a signal), the deed.
const CASES: &[(&str, i32, fn())] = &[
    ("caught", 0, caught),
    ("uncaught", 101, || {
        panic!("this panic is meant to end the program")
    }),
    ("thread", 0, in_thread),
    ("poison", 0, poison),
    ("abort", 134, || std::process::abort()),
    ("nested", 134, nested),
    ("exit-from-thread", 33, exit_from_thread),
    ("group-spinning", 34, || group(34, Kind::Spinning)),
    ("group-sleeping", 35, || group(35, Kind::Sleeping)),
    ("group-waiting", 36, || group(36, Kind::Waiting)),
    ("group-mapping", 37, || group(37, Kind::Mapping)),
    ("main-returns", 0, || others(Kind::Waiting)),
    ("main-first", 39, main_first),
];

fn main() {
    check::start("panics");
    check::section(10, "start");
    let name = std::env::args().nth(1).unwrap_or_default();
    if name == "list" {
        for (name, status, _) in CASES {
            println!("{name} {status}");
        }
        return;
    }
    match CASES.iter().find(|case| case.0 == name) {
        Some((_, _, deed)) => deed(),
        None => check::usage("name a case; `panics list` prints them with their statuses"),
    }
}

struct SetsOnDrop<'a>(&'a AtomicU32);

impl Drop for SetsOnDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Unwinds through a few frames that have something to drop.
fn unwinds(depth: u32, dropped: &AtomicU32) {
    let _guard = SetsOnDrop(dropped);
    match depth {
        0 => std::panic::panic_any(depth + 42),
        _ => unwinds(depth - 1, dropped),
    }
    std::hint::black_box(dropped);
}

fn caught() {
    check::section(11, "a caught panic");
    for round in 1..=20 {
        let dropped = AtomicU32::new(0);
        let result = std::panic::catch_unwind(|| unwinds(9, &dropped));
        let payload = result
            .expect_err("it panicked")
            .downcast_ref::<u32>()
            .copied();
        require!(
            payload == Some(42),
            "round {round}: the payload is {payload:?}"
        );
        let dropped = dropped.load(Ordering::SeqCst);
        require!(dropped == 10, "round {round}: {dropped} destructors ran");
    }
    check::pass();
}

fn in_thread() {
    check::section(12, "a panic in a thread");
    let threads: Vec<_> = (0..8)
        .map(|number| {
            thread::spawn(move || {
                if number % 2 == 0 {
                    panic!("{number}")
                }
            })
        })
        .collect();
    let failed: Vec<_> = threads.into_iter().map(|t| t.join().is_err()).collect();
    require!(
        failed == [true, false].repeat(4),
        "join says who panicked: {failed:?}"
    );
    check::pass();
}

fn poison() {
    check::section(13, "a lock poisoned by a panic");
    static LOCK: Mutex<u32> = Mutex::new(1);
    let result = thread::spawn(|| {
        let mut value = LOCK.lock().unwrap();
        *value = 2;
        panic!("with the lock held");
    })
    .join();
    require!(
        result.is_err() && LOCK.is_poisoned(),
        "the lock is poisoned"
    );
    let value = LOCK
        .lock()
        .map_or_else(|error| *error.into_inner(), |value| *value);
    require!(value == 2, "and its value is {value}");
    check::pass();
}

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("a second panic while the first one unwinds");
    }
}

/// A panic while a panic unwinds ends in an abort.
fn nested() {
    let _guard = PanicsOnDrop;
    panic!("the first panic");
}

fn exit_from_thread() {
    let _ = thread::spawn(|| std::process::exit(33)).join();
    check::fail(file!(), line!(), "the process went on after exit");
}

/// What the other threads do when the process ends.
#[derive(Clone, Copy)]
enum Kind {
    Spinning,
    Sleeping,
    Waiting,
    Mapping,
}

static STARTED: AtomicU32 = AtomicU32::new(0);
const OTHERS: u32 = 12;

fn keep_busy(kind: Kind) {
    static LOCK: Mutex<()> = Mutex::new(());
    static NEVER: Condvar = Condvar::new();
    STARTED.fetch_add(1, Ordering::SeqCst);
    loop {
        match kind {
            Kind::Spinning => std::hint::spin_loop(),
            Kind::Sleeping => thread::sleep(Duration::from_secs(3600)),
            Kind::Waiting => drop(NEVER.wait(LOCK.lock().unwrap())),
            Kind::Mapping => {
                let area = vec![1u8; 1 << 20];
                std::hint::black_box(&area);
            }
        }
    }
}

/// Starts threads that never end, and waits until all of them run.
fn others(kind: Kind) {
    for _ in 0..OTHERS {
        thread::spawn(move || keep_busy(kind));
    }
    while STARTED.load(Ordering::SeqCst) < OTHERS {
        thread::sleep(Duration::from_millis(1));
    }
    // Gives them time to be in the middle of it.
    thread::sleep(Duration::from_millis(20));
}

fn group(status: i32, kind: Kind) {
    others(kind);
    std::process::exit(status);
}

/// The first thread ends alone, by the system call; the process lives on and ends, with the last
/// thread's status, when that one has ended the same way (Linux since 5.17).
fn main_first() {
    thread::spawn(|| {
        thread::sleep(Duration::from_millis(30));
        println!("the last thread still runs");
        sys::exit_thread(39);
    });
    sys::exit_thread(38);
}
