//! The machines that tests are run on.

use std::path::Path;

use xtask::machine::{Machine, TagStorage};

/// One machine of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// QEMU's CPU model.
    pub cpu: &'static str,
    /// CPUs.
    pub cpus: u32,
}

const fn cell(cpu: &'static str, cpus: u32) -> Cell {
    Cell { cpu, cpus }
}

/// Everything there is (LPA2, MTE, BBM), hardware AF and dirty without BBM, and neither: each with
/// one CPU and with four.
pub const ALL: &[Cell] = &[
    cell("max", 1),
    cell("max", 4),
    cell("cortex-a76", 1),
    cell("cortex-a76", 4),
    cell("cortex-a72", 1),
    cell("cortex-a72", 4),
];

/// A server CPU, on which the kernel tests itself too.
pub const NEOVERSE: &[Cell] = &[cell("neoverse-n2", 1), cell("neoverse-n2", 4)];

/// For storms of walkers inside the kernel: alone, and in parallel. Without range invalidations the
/// emulator takes minutes for them.
pub const STORMS: &[Cell] = &[cell("max", 1), cell("max", 4)];

/// With allocation tags.
pub const TAGS: &[Cell] = &[cell("max", 1), cell("max", 4), cell("neoverse-n2", 1)];

/// For tests in which the CPU model makes no difference.
pub const ONE: &[Cell] = &[cell("max", 1)];

/// For tests of several threads.
pub const FOUR: &[Cell] = &[cell("max", 4), cell("cortex-a72", 4)];

/// For tests that need hardware of different kinds but only one CPU.
pub const SINGLE: &[Cell] = &[cell("max", 1), cell("cortex-a76", 1), cell("cortex-a72", 1)];

/// Addresses of 52 bits (LPA2).
pub const WIDE: &[Cell] = &[cell("max", 1), cell("max", 4)];

/// Addresses of 48 bits.
pub const NARROW: &[Cell] = &[
    cell("cortex-a76", 1),
    cell("cortex-a76", 4),
    cell("cortex-a72", 1),
    cell("cortex-a72", 4),
];

impl Cell {
    /// For the names of tests: `max-4`.
    pub fn name(self) -> String {
        format!("{}-{}", self.cpu, self.cpus)
    }

    /// The machine, with a token of its own. Without `icount` its CPUs run in parallel.
    pub fn machine(self, kernel: &Path, icount: bool) -> Machine {
        Machine::new(kernel)
            .cpu(self.cpu)
            .smp(self.cpus)
            .icount(icount)
            .tag_storage(TagStorage::Enough)
            .token(&xtask::control::token())
    }
}
