//! Hands the memory described by [`BootInfo`] to the allocator and the boot tables to the engine.

use core::ptr::{self, NonNull};

use arm64::addr::{PAGE_SIZE, VaRange};
use arm64::geometry::Geometry;
use frame::{ChunkError, FrameMeta, Frames, PageOps, TagRegion, Window};
use pgtable::{Kernel, PageTable, Special, TableError};

use super::activate;
use super::mmu::{self, Hw, hw};
use super::{heap, memory_ops};
use crate::early::tables::GEOMETRY;
use crate::early::{BootInfo, Region, Root};

/// First address of the direct map.
pub const DIRECT_MAP: u64 = 0xffff_0000_0000_0000;
/// Bytes that the direct map can span.
pub const DIRECT_MAP_LEN: u64 = 1 << 46;
/// First address of the frame metadata: that of frame 0.
pub const VMEMMAP: u64 = 0xffff_7000_0000_0000;
/// Bytes of metadata for one frame.
pub const META_SIZE: u64 = size_of::<FrameMeta>() as u64;

/// Makes the allocator over the direct map and the metadata array, which boot has mapped and
/// zeroed for all RAM in `info`.
pub fn install(info: &BootInfo) {
    let base = ptr::with_exposed_provenance_mut::<u8>(DIRECT_MAP as usize);
    let meta = ptr::with_exposed_provenance_mut::<FrameMeta>(VMEMMAP as usize);
    let Some(meta) = NonNull::new(meta) else {
        return;
    };
    let window = Window {
        virt_base: base,
        phys_base: 0,
        len: DIRECT_MAP_LEN,
    };
    let ops = PageOps {
        zero_page: memory_ops::zero_page,
        zero_pages: memory_ops::zero_pages,
        copy_page: Some(memory_ops::copy_page),
        tags: super::cpu::features()
            .has_tags()
            .then_some(super::tag_memory::OPS),
    };
    // SAFETY: boot mapped all RAM of the banks at DIRECT_MAP and its metadata at VMEMMAP, both
    // writable and used by nobody else; only frames inside of added banks are ever touched.
    let frames = unsafe { Frames::new(window, meta, ops) };
    for bank in info.banks.iter() {
        // SAFETY: as above; the banks are disjoint and their metadata is zeroed.
        unsafe { add(&frames, *bank) };
    }
    mmu::install(frames, info.format);
    activate::set_reserved_root(info.reserved_root.pa);
}

/// Gives the allocator the tag storage that boot has set aside.
pub fn install_tag_storage(info: &BootInfo) {
    let regions = info.tag_storage.iter().map(|region| TagRegion {
        storage: region.storage.pfns(),
        tagged: region.tagged.pfns(),
        block_pages: (region.block / PAGE_SIZE) as u32,
    });
    if info.tag_storage.is_empty() {
        return;
    }
    // SAFETY: boot has set these frames aside for nothing else.
    unsafe { mmu::frames().add_tag_regions(regions) }
}

/// Adds a bank that was just mapped by the engine, metadata and all: zeroes the metadata, then
/// lets the allocator know. Its frames are reserved until they are released.
pub fn add_mapped_bank(bank: Region) {
    let start = VMEMMAP + (bank.start >> 12) * META_SIZE;
    let len = ((bank.len() >> 12) * META_SIZE) as usize;
    let start = ptr::with_exposed_provenance_mut::<u8>(start as usize);
    // SAFETY: the one caller (`memory::online`) has mapped both ranges writable, holds the lock
    // that lets a bank be added once, and nobody looks at metadata outside of added banks.
    unsafe {
        ptr::write_bytes(start, 0, len);
        add(mmu::frames(), bank);
    }
}

/// # Safety
/// As [`Frames::add_bank`].
unsafe fn add(frames: &Frames, bank: Region) {
    // SAFETY: by this function's contract.
    if let Err(error) = unsafe { frames.add_bank(bank.pfns()) } {
        log::warn!("RAM at {bank} is not used: {error:?}");
    }
}

/// Gives a reserved range, free by what boot knows, to the allocator.
pub fn release(region: Region) {
    // SAFETY: the callers (`memory::init`, `memory::online`) release what no reservation covers,
    // and what has just come online, once; the allocator checks that it was reserved.
    unsafe { mmu::frames().release(region.pfns()) };
}

/// Makes the region that boot set aside for its tables a chunk of the allocator's.
///
/// # Errors
/// Those of the allocator.
pub fn adopt_chunk(boot_tables: Region) -> Result<(), ChunkError> {
    // SAFETY: boot used the chunk for tables only, which have been adopted; the rest is unused.
    unsafe { mmu::frames().adopt_chunk(boot_tables.base().pfn()) }
}

/// The three spaces that boot made.
pub type BootSpaces = (
    PageTable<Kernel, Hw>,
    PageTable<Special, Hw>,
    PageTable<Special, Hw>,
);

/// Adopts the boot tables: kernel, identity map, reserved root, with these numbers.
///
/// # Errors
/// Those of the engine: a table outside of RAM, or reached twice.
pub fn adopt(info: &BootInfo, ids: [u32; 3]) -> Result<BootSpaces, TableError> {
    let geometry =
        |root: Root| Geometry::for_levels(root.levels.into()).ok_or(TableError::BadRange);
    let (kernel, idmap, reserved) = (info.kernel_root, info.idmap_root, info.reserved_root);
    // SAFETY: law 8: boot made these three trees out of its own chunk, they share no table, and
    // no other CPU runs yet. A tree adopted twice is found out by its first table.
    unsafe {
        Ok((
            PageTable::adopt(hw(), ids[0], GEOMETRY, kernel.pa)?,
            PageTable::adopt(hw(), ids[1], geometry(idmap)?, idmap.pa)?,
            PageTable::adopt(hw(), ids[2], geometry(reserved)?, reserved.pa)?,
        ))
    }
}

/// Gives the heap its range, which the memory module has just mapped.
pub fn init_heap(range: VaRange) {
    // SAFETY: freshly mapped, writable, nobody else's, never unmapped.
    unsafe { heap::init(range) };
}
