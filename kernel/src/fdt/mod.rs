//! What the device tree says about the machine.
//!
//! The tree is read once, by `dtoolkit`, into a plain value ([`Facts`]). Everything the kernel
//! knows about RAM, CPUs and devices comes from here; a tree that lacks something the kernel cannot
//! do without gives a [`Refusal`] that says so.

mod read;
mod tag_storage;
#[cfg(test)]
mod tests;

use core::fmt;

use crate::early::{List, MAX_BANKS, Region};
use dtoolkit::error::FdtParseError;
use frame::MAX_TAG_REGIONS;
use sync::MAX_CPUS;

pub use read::read;
pub use tag_storage::{TagRefusal, TagStorage};

/// Largest device tree the boot protocol allows (Linux, "Booting AArch64 Linux").
pub const MAX_TREE: usize = 2 << 20;
/// Most descriptions of tag storage whose refusal is told.
pub const MAX_TAG_REFUSALS: usize = 8;
/// Most ranges of reserved memory that are read.
pub const MAX_FIRMWARE: usize = 24;

/// How firmware is called (PSCI `method`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// `hvc #0`.
    Hvc,
    /// `smc #0`.
    Smc,
}

/// A device's registers and interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device {
    /// Registers.
    pub registers: Region,
    /// Interrupt number (INTID), if it has one.
    pub interrupt: Option<u32>,
    /// Rate of its first clock in Hz, if that is fixed and known.
    pub clock: Option<u32>,
}

/// The interrupt controller, GICv3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gic {
    /// Distributor.
    pub distributor: Region,
    /// Redistributors of the first region, which has those of the CPUs we use.
    pub redistributors: Region,
}

/// A range that firmware keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Firmware {
    /// Where.
    pub region: Region,
    /// Must not be mapped.
    pub no_map: bool,
}

/// What the device tree says.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// RAM, as listed.
    pub memory: List<Region, MAX_BANKS>,
    /// Banks of RAM that did not fit in `memory`.
    pub memory_ignored: usize,
    /// Reserved memory, of both kinds.
    pub firmware: List<Firmware, MAX_FIRMWARE>,
    /// Tag storage, each description of which is right by itself.
    pub tag_storage: List<TagStorage, MAX_TAG_REGIONS>,
    /// Where descriptions of tag storage begin that are refused, and why.
    pub tag_refusals: List<(u64, Option<TagRefusal>), MAX_TAG_REFUSALS>,
    /// Affinity (MPIDR_EL1 fields) of the CPUs we use, as listed.
    pub cpus: List<u64, MAX_CPUS>,
    /// How many CPUs the machine has.
    pub cpu_total: usize,
    /// The console.
    pub uart: Option<Device>,
    /// The interrupt controller.
    pub gic: Option<Gic>,
    /// There is a GICv2, which we do not drive.
    pub gic_v2: bool,
    /// INTID of the virtual timer.
    pub timer: Option<u32>,
    /// How CPUs are started.
    pub psci: Option<Conduit>,
    /// Real-time clock (PL031).
    pub rtc: Option<Device>,
    /// Initial RAM disk, byte-exact.
    pub initrd: Option<Region>,
    /// Command line; empty if there is none.
    pub bootargs: &'a str,
    /// Random bytes from firmware, the first 32 of them.
    pub rng_seed: Option<[u8; 32]>,
}

/// Why the kernel cannot run on this machine. Ends in exit status 78 (EX_CONFIG).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No device tree was passed in x0.
    NoTree,
    /// The address in x0 cannot hold a device tree.
    BadAddress(u64),
    /// What x0 points to is not a device tree.
    NotATree(u64),
    /// The device tree is damaged.
    BadTree(FdtParseError),
    /// The tree says it is this long.
    TreeTooLong(usize),
    /// Reserved ranges do not fit the table for them.
    TooManyReserved,
    /// No memory is listed.
    NoMemory,
    /// The memory listed does not contain the kernel's image.
    ForeignMemory,
    /// RAM is too small: in KiB, how much there is.
    NotEnoughMemory(u64),
    /// RAM is in more pieces than the boot tables can map.
    TooFragmented,
    /// No CPU is listed.
    NoCpus,
    /// No GICv3; the flag says whether there is a GICv2.
    NoGic {
        /// A GICv2 was found.
        v2: bool,
    },
    /// The GICv3 is not usable, and why.
    BadGic(&'static str),
    /// No virtual timer interrupt.
    NoTimer,
    /// No PL011 console.
    NoUart,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTree => f.write_str(
                "no device tree was passed in x0: boot the flat Image, not the ELF, with a loader \
                 that speaks the arm64 Linux boot protocol",
            ),
            Self::BadAddress(at) => write!(f, "the device tree's address, {at:#x}, is not usable"),
            Self::NotATree(at) => {
                write!(f, "there is no device tree at {at:#x}, the address in x0")
            }
            Self::BadTree(error) => write!(f, "the device tree is damaged: {error}"),
            Self::TreeTooLong(len) => {
                write!(
                    f,
                    "the device tree is {len} bytes long; at most {MAX_TREE} are allowed"
                )
            }
            Self::TooManyReserved => f.write_str("the device tree reserves too many ranges of RAM"),
            Self::NoMemory => f.write_str("the device tree lists no memory"),
            Self::ForeignMemory => {
                f.write_str("the kernel's image is outside of the RAM that the device tree lists")
            }
            Self::NotEnoughMemory(kib) => {
                write!(f, "{kib} KiB of RAM are not enough for the kernel")
            }
            Self::TooFragmented => f.write_str("RAM is in more pieces than boot tables can map"),
            Self::NoCpus => f.write_str("the device tree lists no CPU"),
            Self::NoGic { v2: true } => f.write_str(
                "the machine has a GICv2; Tessera needs a GICv3 (QEMU: -machine gic-version=3)",
            ),
            Self::NoGic { v2: false } => f.write_str("the device tree lists no GICv3"),
            Self::BadGic(reason) => f.write_str(reason),
            Self::NoTimer => f.write_str("the device tree lists no virtual timer interrupt"),
            Self::NoUart => f.write_str("the device tree lists no PL011 console"),
        }
    }
}
