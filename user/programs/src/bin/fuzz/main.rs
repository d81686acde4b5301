//! Random calls at both doors of the kernel: `fuzz [SEED] [COUNT]` (1, 20000).
//!
//! The program starts processes of itself, several at a time and each with several threads, within
//! limits; they make the calls. Most calls exist and most arguments mean something: handles that were
//! answered before, addresses of mapped memory, structures with plausible contents, short time-outs.
//! What becomes of these processes is not foreseen: they change their own registers, unmap their own
//! memory and end themselves, and are ended from here at random. The kernel and this process have to
//! survive all of it, with nothing lost. Some of what happens to them is sent here and answered at
//! random.
//!
//! A seed decides which calls are made, and in which order by each thread; how the threads meet is the
//! machine's affair. It runs on Tessera only.

mod child;
mod linux;
mod native;
mod parent;
mod servers;
mod tally;
mod world;

use programs::{check, sys};

fn main() {
    check::start("fuzz");
    check::aarch64_only();
    if !sys::is_tessera() {
        check::usage("runs on Tessera only");
    }
    if std::env::args().nth(1).as_deref() == Some(parent::CHILD) {
        let [seed, count, place] = [2, 3, 4].map(|at| check::number_argument(at, 0));
        child::run(seed, count, place);
    }
    parent::run(
        check::number_argument(1, 1),
        check::number_argument(2, 20_000),
    );
}
