//! The end of the program while its threads wait in every way that there is.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use programs::memory::Area;
use programs::require;
use programs::sys::{self, PAGE, map, nr};

/// What the program ends with.
const STATUS: i32 = 7;

static READY: AtomicU32 = AtomicU32::new(0);
static WORDS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

/// Starts the threads, gives them time to fall asleep, and ends the program.
pub fn end() -> ! {
    let ways: [fn(); 8] = [
        || futex(&WORDS[0], 128, 0),
        || futex(&WORDS[0], 0, far().as_ptr() as usize),
        || futex(&WORDS[1], 128, 0),
        || thread::sleep(Duration::from_secs(1000)),
        poll,
        read,
        || loop {
            std::hint::spin_loop();
        },
        change,
    ];
    for way in ways.into_iter().cycle().take(40) {
        thread::spawn(move || {
            READY.fetch_add(1, Ordering::AcqRel);
            way();
        });
    }
    while READY.load(Ordering::Acquire) != 40 {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(40));
    // Some of those who wait for the second word wait for the first one from here on.
    let [from, to] = WORDS.each_ref().map(|word| word.as_ptr() as usize);
    // SAFETY: a requeue changes no memory.
    let moved = unsafe { sys::futex([from, 3 | 128, 0, 2, to, 0]) };
    require!(moved >= 0, "a requeue answers {moved}");
    std::process::exit(STATUS);
}

fn far() -> &'static [i64; 2] {
    &[1000, 0]
}

fn futex(word: &AtomicU32, operation: usize, limit: usize) {
    let args = [word.as_ptr() as usize, operation, 0, limit, 0, 0];
    // SAFETY: a wait changes nothing.
    unsafe { sys::futex(args) };
}

/// Of no descriptor, for ever.
fn poll() {
    // SAFETY: the call is given no memory.
    unsafe { sys::syscall(nr::PPOLL, [0, 0, 0, 0, 0, 0]) };
}

/// From the console, where nobody types; then for ever, if that is a file.
fn read() {
    let mut byte = [0u8];
    let args = [0, byte.as_mut_ptr() as usize, 1, 0, 0, 0];
    // SAFETY: the call writes to the buffer.
    unsafe { sys::syscall(nr::READ, args) };
    poll();
}

/// Maps, touches and unmaps, for ever: it is often in the midst of it, or waits for another one.
fn change() {
    let area = Area::unmapped(64 * PAGE);
    loop {
        area.map_over(0, 64 * PAGE, map::RW);
        area.map_over(0, 64 * PAGE, map::PROT_NONE);
    }
}
