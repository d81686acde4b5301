//! Random calls at both doors of the kernel, from EL0 and in several processes at once: nothing that
//! they do may harm the kernel, and all memory is back at their end.

use std::time::Duration;

use anyhow::Result;
use libtest_mimic::Trial;

use crate::matrix::{Cell, FOUR, SINGLE};
use crate::outcome::Ending;
use crate::runner::Limits;
use crate::stage::Stage;
use crate::{env, report, trial};

/// For runs of minutes.
const LONG: Limits = Limits {
    total: Duration::from_secs(3600),
    ..Limits::STRESS
};

/// Runs of minutes: seeds and counts, together more than ten million calls on `max`, and one million
/// on `cortex-a72`.
const LONG_RUNS: &[(&str, &str, &str)] = &[
    ("max", "11", "2600000"),
    ("max", "12", "2600000"),
    ("max", "13", "2600000"),
    ("max", "14", "2600000"),
    ("cortex-a72", "21", "1100000"),
];

/// The tests of this kind. The long ones are ignored but in full runs.
pub fn trials() -> Vec<Trial> {
    let counted = SINGLE.iter().map(|&cell| {
        let name = format!("t5::fuzz_1[{}]", cell.name());
        trial(name.clone(), move || counted(&name, cell))
    });
    let short = FOUR.iter().map(|&cell| {
        let name = format!("stress::fuzz_2[{}]", cell.name());
        let run = ["2", "150000"];
        trial(name.clone(), move || {
            parallel(&name, cell, run, Limits::STRESS)
        })
    });
    let long = LONG_RUNS.iter().map(|&(cpu, seed, count)| {
        let cell = Cell { cpu, cpus: 4 };
        let name = format!("long::fuzz_{seed}[{}]", cell.name());
        let run = [seed, count];
        let test = trial(name.clone(), move || parallel(&name, cell, run, LONG));
        test.with_ignored_flag(!env::is_full())
    });
    counted.chain(short).chain(long).collect()
}

/// With one CPU that counts instructions. How long it stays in the kernel is not judged: such calls
/// find ways that take longer than the bound (docs/STATUS.md, known gaps).
fn counted(name: &str, cell: Cell) -> Result<()> {
    let stage = Stage::program(name, cell, &["fuzz", "1", "20000"])?.witnessed();
    judge(stage, cell)
}

/// With CPUs that run in parallel, on the kernel with every assertion on.
fn parallel(name: &str, cell: Cell, [seed, count]: [&str; 2], limits: Limits) -> Result<()> {
    let kernel = env::checked_image()?;
    let stage = Stage::program(name, cell, &["fuzz", seed, count])?.witnessed();
    let stage = stage.machine(|machine| machine.other_kernel(&kernel));
    judge(stage.parallel().limits(limits), cell)
}

fn judge(stage: Stage, cell: Cell) -> Result<()> {
    stage.run()?.expect(Ending::Exit(0), |booted| {
        let output = String::from_utf8_lossy(&booted.ended.output);
        match output.contains("\nfuzz: pass (") {
            true => report::check(&booted.ended, cell, true),
            false => Err("the program has not said that it passes".into()),
        }
    })
}
