//! Mappings: what they mean and which errors they give, as on Linux.
//!
//! `mmaps [SEED] [STEPS]`: directed checks, then STEPS (20000) random operations compared with a
//! simple model, from the printed SEED.

mod codes;
mod meaning;

use programs::check;
use programs::model::Model;

fn main() {
    check::start("mmaps");
    let seed = check::number_argument(1, 1);
    let steps = check::number_argument(2, 20_000);
    codes::run();
    meaning::run();
    random(seed, steps);
    check::pass();
}

fn random(seed: u64, steps: u64) {
    check::section(40, "random operations against a model");
    println!("mmaps: seed {seed}, {steps} steps");
    let mut model = Model::new(96, seed);
    for step in 0..steps {
        model.step();
        if step % 64 == 0 {
            model.check(step % 512 == 0);
        }
    }
    model.check(true);
}
