//! T4: the kernel's own tests, in the checked kernel, on every machine of the matrix.

use std::path::Path;

use anyhow::Result;
use libtest_mimic::Trial;
use xtask::machine::Machine;

use crate::matrix::{ALL, Cell, NEOVERSE, STORMS};
use crate::outcome::{self, Reported};
use crate::runner::{Boot, Limits, Listener};
use crate::{env, trial};

/// Boot arguments each machine is booted with once: hardware AF and dirty state as the CPU has
/// them, software's instead, a bank of RAM that comes online later, page tables that anybody can
/// write, hardly any identifiers for address spaces, and contiguous blocks repainted without a flush.
const VARIANTS: [(&str, &[&str]); 6] = [
    ("", &[]),
    ("-softaf", &["tessera.af=0"]),
    ("-hold", &["tessera.hold=64M"]),
    ("-unprotected", &["tessera.protect_pgtables=off"]),
    ("-asid4", &["tessera.asid_bits=4"]),
    ("-bbm2", &["tessera.bbm=2"]),
];

/// Whether the words change anything on this machine: a CPU without hardware AF has nothing to
/// switch off, and only `max` and Neoverse N2 have BBM level 2.
fn applies(suffix: &str, cell: Cell) -> bool {
    match suffix {
        "-softaf" => cell.cpu != "cortex-a72",
        "-bbm2" => cell.cpu == "max" || cell.cpu == "neoverse-n2",
        _ => true,
    }
}

/// The tests of this tier.
pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for &cell in ALL.iter().chain(NEOVERSE) {
        for (suffix, words) in VARIANTS.iter().filter(|variant| applies(variant.0, cell)) {
            let name = format!("t4::selftest::{}{suffix}", cell.name());
            trials.push(trial(name.clone(), move || run(&name, cell, words)));
        }
    }
    trials.extend(STORMS.iter().map(|&cell| {
        let name = format!("stress::selftest_walkers[{}]", cell.name());
        trial(name.clone(), move || storm(&name, cell))
    }));
    trials
}

fn run(name: &str, cell: Cell, words: &[&str]) -> Result<()> {
    let kernel = env::checked_image()?;
    let machine = words.iter().fold(machine(cell, &kernel), |machine, word| {
        machine.bootarg(*word)
    });
    judge(name, machine, Limits::FUNCTIONAL)
}

/// Walkers against folding and unfolding, 16 000 rounds, on CPUs that run in parallel.
fn storm(name: &str, cell: Cell) -> Result<()> {
    let machine = cell.machine(&env::checked_image()?, false);
    let machine = machine.bootarg("tessera.selftest=walkers_see");
    judge(name, machine, Limits::STRESS)
}

fn judge(name: &str, machine: Machine, limits: Limits) -> Result<()> {
    let booted = Boot::new(name, machine, limits).run(&mut Listener)?;
    if let Ok(tests) = outcome::reported(&booted.ended) {
        eprint!("{}", report(name, &tests));
    }
    booted.verdict(outcome::self_tests(&booted.ended))
}

fn machine(cell: Cell, kernel: &Path) -> Machine {
    cell.machine(kernel, true).bootarg("tessera.selftest=1")
}

/// One line per test inside the kernel, as a test runner would print it.
fn report(name: &str, tests: &[Reported]) -> String {
    let word = |test: &Reported| if test.passed { "ok" } else { "FAILED" };
    tests
        .iter()
        .map(|test| format!("  {name} > {} ... {}\n", test.name, word(test)))
        .collect()
}
