//! The tests that boot QEMU; `cargo xtask test` runs them.

use std::num::NonZero;
use std::thread::available_parallelism;

use libtest_mimic::Arguments;

fn main() {
    let mut arguments = Arguments::from_args();
    // Each boot keeps one CPU busy and more than that with `-smp 4`.
    let cores = available_parallelism().map_or(1, NonZero::get);
    arguments.test_threads.get_or_insert((cores / 2).max(1));
    if !tests::env::is_given() && !arguments.list {
        eprintln!("These tests boot QEMU and are ignored here: run cargo xtask test.");
    }
    libtest_mimic::run(&arguments, tests::trials()).exit();
}
