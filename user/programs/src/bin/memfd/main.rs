//! Memory files: what the calls on them mean and which errors they give, as on Linux.
//!
//! `memfd [SEED] [STEPS]`: directed checks, then STEPS (2000) random operations compared with a plain
//! vector of bytes, from the printed SEED.

mod codes;
mod contents;
mod file;
mod mapped;
mod maps;
mod model;
mod seals;
mod self_copy;
mod storm;

use programs::check;

fn main() {
    check::start("memfd");
    let seed = check::number_argument(1, 1);
    let steps = check::number_argument(2, 2000);
    codes::run();
    contents::run();
    seals::run();
    self_copy::run();
    maps::run();
    mapped::run();
    model::run(seed, steps);
    storm::run(seed, steps / 4);
    check::pass();
}
