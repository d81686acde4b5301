//! Threads that change mappings and fault at the same time: `mapstorm [ITERATIONS] [SEED]`.
//!
//! Each thread has a range of its own, which must behave as in `mmaps` whatever the others do, and
//! all of them fight over a common range, where only survival and plausible answers can be asked.
//! Allocation and short-lived threads go on beside it.

use programs::memory::Area;
use programs::model::Model;
use programs::random::Random;
use programs::sys::{PAGE, errno, map, nr, syscall};
use programs::{check, require};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const COMMON_PAGES: usize = 32;

fn main() {
    check::start("mapstorm");
    check::section(10, "a storm of mappings");
    let iterations = check::number_argument(1, 2_000);
    let seed = check::number_argument(2, 1);
    let threads = thread::available_parallelism().map_or(4, |n| n.get().max(4)) as u64;
    println!("mapstorm: seed {seed}, {iterations} iterations, {threads} threads");
    let common = Area::new(COMMON_PAGES * PAGE, map::RW);
    let written = AtomicU64::new(0);
    thread::scope(|scope| {
        for number in 0..threads {
            let (common, written) = (&common, &written);
            scope.spawn(move || storm(seed * 1000 + number, iterations, common, written));
        }
    });
    let written = written.load(Ordering::Relaxed);
    require!(
        iterations < 100 || written > 0,
        "some write to the common range succeeded"
    );
    check::pass();
}

fn storm(seed: u64, iterations: u64, common: &Area, written: &AtomicU64) {
    let mut model = Model::new(48, seed);
    let mut random = Random::new(!seed);
    for iteration in 0..iterations {
        model.step();
        if iteration % 32 == 0 {
            model.check(iteration % 128 == 0);
        }
        fight(common, &mut random, written);
        match random.below(256) {
            0..8 => churn(&mut random),
            8 => short_thread(seed),
            _ => {}
        }
    }
    model.check(true);
}

/// One random operation on the common range, where pages come and go.
fn fight(common: &Area, random: &mut Random, written: &AtomicU64) {
    let start = random.index(COMMON_PAGES) * PAGE;
    let len = (1 + random.index(8)).min(COMMON_PAGES - start / PAGE) * PAGE;
    let prot = [map::RW, map::RW, map::PROT_READ, map::PROT_NONE][random.index(4)];
    let answer = match random.below(8) {
        0 => common.map_over(start, len, prot).min(0),
        1 => common.unmap(start, len),
        2 => common.protect(start, len, prot),
        3 => common.advise(start, len, map::MADV_DONTNEED),
        _ => {
            let args = [common.addr(start), 64, 0, 0, 0, 0];
            // SAFETY: random bytes go to the common range, where nobody expects anything.
            let got = unsafe { syscall(nr::GETRANDOM, args) };
            written.fetch_add(u64::from(got == 64), Ordering::Relaxed);
            require!(
                got == 64 || got == -errno::EFAULT,
                "getrandom answers {got}"
            );
            0
        }
    };
    require!(
        answer == 0 || answer == -errno::ENOMEM,
        "an operation answers {answer}"
    );
}

fn churn(random: &mut Random) {
    let len = 1 << (10 + random.below(11));
    let mark = random.next_u64() as u8;
    let block = vec![mark; len];
    thread::yield_now();
    require!(
        block.iter().all(|byte| *byte == mark),
        "a block of {len} bytes changed"
    );
}

fn short_thread(seed: u64) {
    let result = thread::spawn(move || seed.wrapping_mul(3)).join();
    require!(
        result.is_ok_and(|value| value == seed.wrapping_mul(3)),
        "a short-lived thread"
    );
}
