//! What the boot image and the kernel give each other.

use core::mem::offset_of;

use super::{ImageLayout, Region, Root};

/// What a CPU loads to turn its MMU on and enter the kernel. Read by assembly with the MMU off, so
/// it must be in memory, not only in a cache.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct EntryRecord {
    /// MAIR_EL1.
    pub mair: u64,
    /// TCR_EL1.
    pub tcr: u64,
    /// TTBR0_EL1: the identity map.
    pub ttbr0: u64,
    /// TTBR1_EL1: the kernel's tables.
    pub ttbr1: u64,
    /// SCTLR_EL1 with the MMU on.
    pub sctlr: u64,
    /// Stack pointer.
    pub stack: u64,
    /// TPIDR_EL1: the CPU's own block.
    pub per_cpu: u64,
    /// Address of the function to enter.
    pub entry: u64,
    /// Its argument.
    pub argument: u64,
}

/// Where boot's assembly finds the fields: three pairs, then three single words (`sctlr` with
/// `stack`, `per_cpu` with `entry`).
const _: () = {
    assert!(offset_of!(EntryRecord, mair) == 0 && offset_of!(EntryRecord, tcr) == 8);
    assert!(offset_of!(EntryRecord, ttbr0) == 16 && offset_of!(EntryRecord, ttbr1) == 24);
    assert!(offset_of!(EntryRecord, sctlr) == 32 && offset_of!(EntryRecord, stack) == 40);
    assert!(offset_of!(EntryRecord, per_cpu) == 48 && offset_of!(EntryRecord, entry) == 56);
    assert!(offset_of!(EntryRecord, argument) == 64);
};

/// What boot tells the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Handoff {
    /// Physical address of the device tree, as it came in x0; 0 for none.
    pub tree: u64,
    /// Exception level that the boot CPU was entered at.
    pub entry_level: u64,
    /// Where the image is.
    pub image: ImageLayout,
    /// The chunk of boot tables.
    pub boot_tables: Region,
    /// Tables of it in use.
    pub boot_tables_used: u32,
    /// Tables in TTBR1: the image, and the chunk of boot tables in the direct map.
    pub kernel_root: Root,
    /// Tables in TTBR0: one page of the image at its physical address.
    pub idmap_root: Root,
    /// An empty table.
    pub reserved_root: Root,
    /// What the boot CPU was entered with; the others' records are made from it.
    pub record: EntryRecord,
    /// Physical address at which firmware starts a secondary CPU, with the physical address of
    /// its [`EntryRecord`] in x0.
    pub secondary_entry: u64,
}
