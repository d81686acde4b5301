//! Costs by PMCCNTR_EL0, one `name value` line each, for scripts to compare.
//!
//! The first line is `unit instructions` under icount, `unit clock` otherwise. The kernel has to
//! let EL0 read the counter. `bench ROUNDS` sets the number of rounds (1000).

use programs::memory::Area;
use programs::pmu::{self, Unit};
use programs::sys::{self, PAGE, map, nr};
use programs::{check, require};
use std::sync::mpsc;

fn main() {
    check::start("bench");
    check::aarch64_only();
    check::section(10, "the counter");
    let rounds = check::number_argument(1, 1000).max(1);
    let unit = pmu::unit();
    require!(unit != Unit::Nothing, "the cycle counter stands still");
    println!(
        "unit {}",
        if unit == Unit::Instruction {
            "instructions"
        } else {
            "clock"
        }
    );
    print("null_syscall", pmu::call_cost(nr::GETPPID, rounds));
    print("unknown_syscall", pmu::call_cost(4000, rounds.min(100)));
    print("sched_yield", pmu::call_cost(nr::SCHED_YIELD, rounds));
    faults();
    mappings(rounds);
    futexes(rounds);
    threads(rounds.div_ceil(20));
}

fn print(name: &str, value: u64) {
    println!("{name} {value}");
}

fn faults() {
    check::section(11, "faults");
    print(
        "anon_write_fault",
        pmu::fault_cost(&Area::new(1024 * PAGE, map::RW)),
    );
    let area = Area::new(512 * PAGE, map::RW);
    let mut next = 0;
    let mut read = |_| {
        std::hint::black_box(area.get((next % 512) * PAGE));
        next += 1;
    };
    // One warm-up and 511 rounds: every page once, then every page again.
    print("anon_read_fault", pmu::cost(511, &mut read));
    print("present_read", pmu::cost(511, &mut read));
    let area = Area::new(512 * PAGE, map::RW);
    area.fill(0, 512 * PAGE, 1);
    let start = pmu::now();
    area.advise(0, 512 * PAGE, map::MADV_DONTNEED);
    print("dontneed_page", pmu::now().wrapping_sub(start) / 512);
    let start = pmu::now();
    area.protect(0, 512 * PAGE, map::PROT_READ);
    print("protect_empty_2mib", pmu::now().wrapping_sub(start));
}

fn mappings(rounds: u64) {
    check::section(12, "mappings");
    let area = Area::unmapped(PAGE);
    print(
        "mmap_munmap",
        pmu::cost(rounds, |_| {
            area.map_over(0, PAGE, map::RW);
            area.unmap(0, PAGE);
        }),
    );
    print(
        "mmap_touch_munmap",
        pmu::cost(rounds, |_| {
            area.map_over(0, PAGE, map::RW);
            area.set(0, 1);
            area.unmap(0, PAGE);
        }),
    );
    area.map_over(0, PAGE, map::RW);
    print(
        "mprotect_pair",
        pmu::cost(rounds, |_| {
            area.protect(0, PAGE, map::PROT_READ);
            area.protect(0, PAGE, map::RW);
        }),
    );
    area.set(0, 1);
    print(
        "mprotect_pair_present",
        pmu::cost(rounds, |_| {
            area.protect(0, PAGE, map::PROT_READ);
            area.protect(0, PAGE, map::RW);
        }),
    );
}

fn futexes(rounds: u64) {
    check::section(13, "futexes");
    let word = 5u32;
    let addr = (&raw const word) as usize;
    // SAFETY: waking and a wait for another value change no memory.
    let call = |operation, value| unsafe {
        sys::futex([addr, operation, value, 0, 0, 0]);
    };
    print("futex_wake_none", pmu::cost(rounds, |_| call(129, 1)));
    print("futex_wait_eagain", pmu::cost(rounds, |_| call(128, 6)));
}

fn threads(rounds: u64) {
    check::section(14, "threads");
    let join = |_| {
        let joined = std::thread::spawn(|| {}).join();
        require!(joined.is_ok(), "a thread panicked");
    };
    print("thread_create_join", pmu::cost(rounds, join));
    let (there, here) = (mpsc::channel::<u64>(), mpsc::channel::<u64>());
    let echo = std::thread::spawn(move || there.1.iter().try_for_each(|v| here.0.send(v)));
    let ping = |round| {
        let answer = there.0.send(round).ok().and_then(|()| here.1.recv().ok());
        require!(answer == Some(round), "the echo answers {answer:?}");
    };
    print("channel_round_trip", pmu::cost(rounds, ping));
    drop(there.0);
    require!(echo.join().is_ok(), "the echo thread panicked");
}
