//! Clocks and sleeping: never too early, never backwards, and sane.

use programs::{check, require};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

fn main() {
    check::start("timeprog");
    monotonic();
    sleeping();
    sleeping_together();
    wall_clock();
    parallelism();
    check::pass();
}

fn monotonic() {
    check::section(10, "Instant never goes back");
    let mut last = Instant::now();
    let mut moved = 0;
    for _ in 0..20_000 {
        let now = Instant::now();
        require!(now >= last, "the clock went back by {:?}", last - now);
        moved += u32::from(now > last);
        last = now;
    }
    require!(moved > 0, "the clock moves");

    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(Instant::now)).collect();
        threads
            .into_iter()
            .map(|t| t.join().expect("a thread panicked"))
            .collect()
    });
    let end = Instant::now();
    let early = results.iter().all(|seen| *seen >= last && *seen <= end);
    require!(early, "other CPUs read the same clock");
}

fn sleeping() {
    check::section(11, "a sleep lasts at least as long as asked");
    for micros in [0u64, 1, 50, 500, 1_000, 5_000, 20_000, 100_000] {
        let asked = Duration::from_micros(micros);
        let start = Instant::now();
        thread::sleep(asked);
        let slept = start.elapsed();
        require!(slept >= asked, "asked for {asked:?}, slept {slept:?}");
        // Wide, for hosts under load; it catches units mistaken for each other.
        let limit = asked * 20 + Duration::from_secs(2);
        require!(slept < limit, "asked for {asked:?}, slept {slept:?}");
    }
}

fn sleeping_together() {
    check::section(12, "many sleepers, the last one asked first");
    let start = Instant::now();
    thread::scope(|scope| {
        for number in (1..=20u32).rev() {
            scope.spawn(move || {
                let asked = Duration::from_millis(3) * number;
                let start = Instant::now();
                thread::sleep(asked);
                let slept = start.elapsed();
                require!(slept >= asked, "asked for {asked:?}, slept {slept:?}");
            });
        }
    });
    let all = start.elapsed();
    require!(
        all >= Duration::from_millis(60),
        "all were awake after {all:?}"
    );
    require!(
        all < Duration::from_secs(20),
        "the sleepers slept one after the other: {all:?}"
    );
}

fn wall_clock() {
    check::section(13, "SystemTime");
    let first = SystemTime::now();
    let since = first.duration_since(SystemTime::UNIX_EPOCH);
    require!(since.is_ok(), "the wall clock is after 1970");
    let start = Instant::now();
    thread::sleep(Duration::from_millis(20));
    let wall = SystemTime::now().duration_since(first).unwrap_or_default();
    let mono = start.elapsed();
    let far = wall.abs_diff(mono) > Duration::from_millis(500);
    require!(!far, "the wall clock moved {wall:?} while {mono:?} passed");
    println!(
        "timeprog: seconds since 1970: {}",
        since.unwrap_or_default().as_secs()
    );
}

fn parallelism() {
    check::section(14, "available_parallelism");
    match thread::available_parallelism() {
        Ok(count) => {
            require!((1..=1024).contains(&count.get()), "{count} CPUs");
            println!("timeprog: CPUs: {count}");
        }
        Err(error) => check::fail(file!(), line!(), &error.to_string()),
    }
}
