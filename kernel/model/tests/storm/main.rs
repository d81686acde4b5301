//! Random storms of operations over the page-table engine, on the model's MMU: after every
//! operation the tables are compared with the ghost space, reference counts with its mappings, and
//! the model is asked what was broken. The seed is printed; `TESSERA_SEED=… cargo test -p model
//! storm` runs that storm again, `TESSERA_STORMS=…` runs more of them.

mod change;
mod check;
mod cpus;
mod kernel;
mod map;
mod moves;
mod ops;
mod rng;
mod schedule;
mod world;

use std::time::Instant;

use kernel::KernelStorm;
use model::{ModelMachine, Records, Setup};
use rng::Rng;
use world::World;

/// Operations of one storm, after which its spaces end and every frame must be back.
const OPERATIONS: u32 = 300;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seed() -> u64 {
    setting("TESSERA_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| now.as_nanos() as u64)
    })
}

fn storm(name: &str, setup: Setup, records: Records, storms: u64) {
    let machine = ModelMachine::new(6144, setup, records);
    let first = seed();
    let storms = match setting("TESSERA_SEED") {
        Some(_) => 1,
        None => setting("TESSERA_STORMS").unwrap_or(storms),
    };
    let (begin, mut operations) = (Instant::now(), 0u64);
    for number in 0..storms {
        let seed = first.wrapping_add(number.wrapping_mul(0x9e37_79b9));
        println!("{name}: TESSERA_SEED={seed}");
        let world = World::new(machine, Rng::new(seed), seed);
        for _ in 0..OPERATIONS {
            world.step();
        }
        operations += u64::from(OPERATIONS);
        World::end(world);
    }
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    println!(
        "{name}: {operations} operations compared in full, {:.0} per minute",
        operations as f64 / minutes
    );
}

const BY_HARDWARE: Records = Records {
    access: true,
    dirty: true,
};
const BY_SOFTWARE: Records = Records {
    access: false,
    dirty: false,
};

fn setup(cpus: usize) -> Setup {
    Setup {
        cpus,
        lpa2: false,
        bbm2: false,
    }
}

#[test]
fn storm_on_one_cpu() {
    storm("one CPU", setup(1), BY_HARDWARE, 8);
}

#[test]
fn storm_on_four_cpus() {
    storm("four CPUs", setup(4), BY_HARDWARE, 16);
}

#[test]
fn storm_with_software_records() {
    storm("software AF and dirty", setup(2), BY_SOFTWARE, 8);
}

#[test]
fn storm_with_level_2_of_break_before_make() {
    let setup = Setup {
        bbm2: true,
        ..setup(2)
    };
    storm("FEAT_BBM level 2", setup, BY_HARDWARE, 8);
}

#[test]
fn storm_with_52_bits() {
    let setup = Setup {
        lpa2: true,
        ..setup(2)
    };
    storm("LPA2", setup, BY_HARDWARE, 8);
}

#[test]
fn storm_over_the_kernels_tables() {
    let machine = ModelMachine::new(512, setup(4), BY_HARDWARE);
    let seed = seed();
    println!("kernel: TESSERA_SEED={seed}");
    let mut storm = KernelStorm::new(machine, seed);
    (0..OPERATIONS).for_each(|_| storm.step());
    storm.end();
}
