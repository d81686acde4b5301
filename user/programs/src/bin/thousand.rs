//! A thousand threads: 500 in waves of 50, then 500 at once, each with work of its own.

use programs::{check, require};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

const WAVES: u64 = 10;
const PER_WAVE: u64 = 50;
const AT_ONCE: u64 = 500;

fn main() {
    check::start("thousand");
    waves();
    at_once();
    check::pass();
}

/// Touches a few pages of its own stack and returns a number that depends on all of them.
fn work(number: u64) -> u64 {
    let mut block = [0u64; 2048];
    for (index, slot) in block.iter_mut().enumerate() {
        *slot = number.wrapping_mul(index as u64 + 1);
    }
    std::hint::black_box(&block)
        .iter()
        .copied()
        .fold(0, u64::wrapping_add)
}

/// What [`work`] returns.
const fn expected(number: u64) -> u64 {
    number.wrapping_mul(2048 * 2049 / 2)
}

fn waves() {
    check::section(10, "500 threads in waves of 50");
    let total = Arc::new(AtomicU64::new(0));
    for wave in 0..WAVES {
        let threads: Vec<_> = (0..PER_WAVE)
            .map(|index| {
                let total = Arc::clone(&total);
                let number = wave * PER_WAVE + index;
                thread::spawn(move || {
                    total.fetch_add(1, Ordering::Relaxed);
                    work(number)
                })
            })
            .collect();
        for (index, thread) in (0..).zip(threads) {
            let number = wave * PER_WAVE + index;
            let got = thread.join().expect("a thread panicked");
            require!(got == expected(number), "thread {number} returned {got}");
        }
    }
    let total = total.load(Ordering::Relaxed);
    require!(total == WAVES * PER_WAVE, "{total} threads ran");
}

fn at_once() {
    check::section(11, "500 threads at once");
    let all_there = Arc::new(Barrier::new(AT_ONCE as usize + 1));
    let sum = Arc::new(Mutex::new(0u64));
    let threads: Vec<_> = (0..AT_ONCE)
        .map(|number| {
            let (all_there, sum) = (Arc::clone(&all_there), Arc::clone(&sum));
            thread::spawn(move || {
                all_there.wait();
                let result = work(number);
                *sum.lock().unwrap() += number;
                result
            })
        })
        .collect();
    // Nobody passes before the last one has arrived, so all of them exist at the same time.
    all_there.wait();
    for (number, thread) in (0..).zip(threads) {
        let got = thread.join().expect("a thread panicked");
        require!(got == expected(number), "thread {number} returned {got}");
    }
    let sum = *sum.lock().unwrap();
    require!(sum == AT_ONCE * (AT_ONCE - 1) / 2, "the sum is {sum}");
}
