//! Mappings made before the page-table engine runs: the device tree's window, the first console,
//! the direct map and the frame metadata.

use core::arch::asm;
use core::slice;

use arm64::addr::{PAGE_SIZE, VirtAddr};
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::regs::Features;
use frame::MAX_TAG_REGIONS;

use super::{cpu, memory_ops, mte, uart};
use crate::bootargs::BootArgs;
use crate::early::handoff::Handoff;
use crate::early::layout::{DIRECT_MAP, DIRECT_MAP_LEN, FIXMAP, TREE_WINDOW, VMEMMAP};
use crate::early::plan::{Plan, PlanError};
use crate::early::tables::{CHUNK_SIZE, MapError, Tables};
use crate::early::{BootInfo, List, MAX_BANKS, MAX_RESERVED, Region, Reserved, ReservedKind};
use crate::fdt::{Facts, MAX_TREE, Refusal, TagStorage};

/// Where most boards that run this have a PL011. Used only to complain when there is no device
/// tree to say where the console is.
const FALLBACK_UART: u64 = 0x0900_0000;
/// The page of the fixmap for the console, and the one for the test of tags.
const UART_SLOT: u64 = FIXMAP;
const TAG_SLOT: u64 = FIXMAP + PAGE_SIZE;
/// Block that the device tree's window is made of.
const BLOCK: u64 = 2 << 20;
/// First word of a device tree.
const TREE_MAGIC: usize = 0xd00d_feed;
/// RAM that must be free after boot: heap, stacks, tables, and something for a program.
const MIN_FREE: u64 = 24 << 20;

/// The boot tables and what they map.
pub(super) struct EarlyMap {
    handoff: &'static Handoff,
    tables: Tables,
}

impl EarlyMap {
    pub(super) fn new(handoff: &'static Handoff) -> Self {
        let (chunk, used) = (handoff.boot_tables.start, handoff.boot_tables_used);
        // SAFETY: boot made the first tables in this chunk, which is the boot tables' alone, and
        // mapped it in the direct map.
        let tables = unsafe { Tables::new(cpu::detect().format(), chunk, used, DIRECT_MAP) };
        Self { handoff, tables }
    }

    /// Maps in the kernel's tables; the next access sees it.
    fn map(&mut self, va: u64, pa: u64, len: u64, attrs: Attrs) -> Result<(), MapError> {
        let root = self.handoff.kernel_root.pa;
        self.tables.map(root, va, pa, len, attrs, true)?;
        // SAFETY: barriers.
        unsafe { asm!("dsb ishst", "isb", options(nostack, preserves_flags)) }
        Ok(())
    }

    fn unmap(&mut self, va: u64, len: u64) {
        // The only error is that nothing is mapped there, which is what is wanted.
        let _gone = self.tables.unmap(self.handoff.kernel_root.pa, va, len);
        // SAFETY: barriers and an invalidation; no other CPU runs yet.
        unsafe {
            asm!(
                "dsb ishst",
                "tlbi vmalle1",
                "dsb nsh",
                "isb",
                options(nostack, preserves_flags)
            );
        }
    }

    /// Finds the device tree and maps it in its window.
    pub(super) fn tree(&mut self) -> Result<Region, Refusal> {
        let at = self.handoff.tree;
        if at == 0 {
            return Err(Refusal::NoTree);
        }
        let limit = 1u64 << cpu::detect().output_bits();
        if !at.is_multiple_of(8) || at > limit - 2 * BLOCK {
            return Err(Refusal::BadAddress(at));
        }
        // The boot protocol keeps a tree within 2 MiB, and lets it be mapped by blocks.
        let base = at & !(BLOCK - 1);
        let attrs = Attrs::kernel(Prot::READ, MemType::Normal);
        self.map(TREE_WINDOW, base, 2 * BLOCK, attrs)
            .map_err(|_| Refusal::BadAddress(at))?;
        let header = self.window_bytes(&Region::from_len(at, 8));
        let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| header[at + i])) as usize;
        if word(0) != TREE_MAGIC {
            return Err(Refusal::NotATree(at));
        }
        match word(4) {
            len if len > MAX_TREE => Err(Refusal::TreeTooLong(len)),
            len => Ok(Region::from_len(at, len as u64)),
        }
    }

    /// The bytes of `region` through the window that [`EarlyMap::tree`] has opened around it.
    pub(super) fn window_bytes(&self, region: &Region) -> &'static [u8] {
        let start = TREE_WINDOW + region.start % BLOCK;
        let start = core::ptr::with_exposed_provenance::<u8>(start as usize);
        // SAFETY: mapped by `tree` (the region begins in the first of its two blocks and is at
        // most a block long), and nobody writes to a device tree. The window is closed only after
        // `move_out_of_window`, whose caller has nothing else of it.
        unsafe { slice::from_raw_parts(start, region.len() as usize) }
    }

    /// What was read of the tree, without references into the window: the tree is in the direct
    /// map now.
    pub(super) fn move_out_of_window(
        &self,
        facts: Facts<'static>,
        tree: &Region,
    ) -> Facts<'static> {
        let line = facts.bootargs;
        let offset = line.as_ptr().addr() - self.window_bytes(tree).as_ptr().addr();
        let offset = if line.is_empty() { 0 } else { offset };
        let at = (DIRECT_MAP + tree.start) as usize + offset;
        let start = core::ptr::with_exposed_provenance::<u8>(at);
        // SAFETY: all RAM is in the direct map, the tree is in RAM and reserved for good; its
        // bytes do not change.
        let bytes = unsafe { slice::from_raw_parts(start, line.len()) };
        Facts {
            bootargs: str::from_utf8(bytes).unwrap_or(""),
            ..facts
        }
    }

    pub(super) fn close_window(&mut self) {
        self.unmap(TREE_WINDOW, 2 * BLOCK);
    }

    /// Uses the PL011 at `pa` as the console, in the fixmap.
    pub(super) fn console(&mut self, pa: u64) {
        let page = pa & !(PAGE_SIZE - 1);
        let attrs = Attrs::kernel(Prot::RW, MemType::Device);
        if self.map(UART_SLOT, page, PAGE_SIZE, attrs).is_ok() {
            // SAFETY: just mapped, and said to be a PL011 by the device tree, or by convention
            // where there is none.
            unsafe { uart::init(VirtAddr::new(UART_SLOT + (pa - page)), None) };
        }
    }

    /// Uses the conventional console, for want of a device tree.
    pub(super) fn fallback_console(&mut self) {
        self.console(FALLBACK_UART);
    }

    /// What this CPU can do, less what does not work or was switched off.
    pub(super) fn usable_features(&mut self, args: &BootArgs<'_>) -> Features {
        let mut features = cpu::detect();
        if !args.hardware_af {
            features.hafdbs = 0;
        }
        if features.has_tags() && !self.tags_work() {
            log::warn!("allocation tags do not work on this machine (QEMU before 8.0?): not used");
            features.mte = 1;
        }
        features
    }

    /// Tries tags on the chunk's next free page, which is cleared before it becomes a table.
    fn tags_work(&mut self) -> bool {
        let free = self.handoff.boot_tables.start + u64::from(self.tables.used()) * PAGE_SIZE;
        let attrs = Attrs::kernel(Prot::RW, MemType::Tagged);
        if free >= self.handoff.boot_tables.start + CHUNK_SIZE
            || self.map(TAG_SLOT, free, PAGE_SIZE, attrs).is_err()
        {
            return false;
        }
        let works = mte::granules_are_apart(TAG_SLOT);
        self.unmap(TAG_SLOT, PAGE_SIZE);
        works
    }

    /// Maps all RAM but `no-map` ranges: kernel text and constants read-only, the rest writable,
    /// nothing executable.
    pub(super) fn direct(&mut self, plan: &Plan) -> Result<(), Refusal> {
        let image = &self.handoff.image;
        let constant = Region::new(image.text.start, image.rodata.end);
        let mut cuts = List::<Region, { MAX_RESERVED + 2 }>::new();
        let unmapped = plan
            .reserved
            .iter()
            .filter(|r| r.kind == ReservedKind::NoMap);
        let unmapped = unmapped.map(|r| r.region);
        for cut in unmapped.chain([constant, self.handoff.boot_tables]) {
            let _there_is_room = cuts.push(cut);
        }
        for storage in tag_storage(plan) {
            let _there_is_room = cuts.push(storage);
            // Pages, which are taken away one by one while they hold tags (D16).
            let attrs = Attrs::kernel(Prot::RW, MemType::Normal);
            let (root, va) = (self.handoff.kernel_root.pa, DIRECT_MAP + storage.start);
            self.tables
                .map(root, va, storage.start, storage.len(), attrs, false)
                .map_err(|_| Refusal::TooFragmented)?;
        }
        let mem = direct_map_type();
        plan.pieces(&cuts, |piece| {
            self.map_direct(piece, Attrs::kernel(Prot::RW, mem))
        })?;
        self.map_direct(constant, Attrs::kernel(Prot::READ, mem))
    }

    fn map_direct(&mut self, piece: Region, attrs: Attrs) -> Result<(), Refusal> {
        let mapped = self.map(DIRECT_MAP + piece.start, piece.start, piece.len(), attrs);
        mapped.map_err(|_| Refusal::TooFragmented)
    }

    /// Gives every frame of the banks its metadata: takes memory, maps it, clears it.
    pub(super) fn metadata(&mut self, plan: &mut Plan) -> Result<(), Refusal> {
        let mut ranges = List::<Region, MAX_BANKS>::new();
        plan.metadata(|range| ranges.push(range))
            .map_err(|_| Refusal::TooFragmented)?;
        for range in ranges.iter() {
            let total = plan.total();
            let pa = plan.alloc(range.len(), BLOCK, ReservedKind::MemMap);
            let pa = pa.map_err(|error| refusal(error, total))?;
            let (va, attrs) = (
                VMEMMAP + range.start,
                Attrs::kernel(Prot::RW, direct_map_type()),
            );
            self.map(va, pa, range.len(), attrs)
                .map_err(|_| Refusal::TooFragmented)?;
            let start = core::ptr::with_exposed_provenance_mut(va as usize);
            // SAFETY: just mapped, page-aligned, and nobody else's.
            unsafe { memory_ops::zero_pages(start, (range.len() / PAGE_SIZE) as usize) };
        }
        Ok(())
    }

    /// What memory and tables there are, for the memory module.
    pub(super) fn boot_info(&self, plan: &Plan, facts: &Facts<'_>) -> BootInfo {
        let handoff = self.handoff;
        BootInfo {
            banks: plan.banks,
            reserved: plan.reserved,
            tag_storage: used_tag_storage(plan, facts),
            held: plan.held,
            initrd: facts.initrd.filter(|initrd| plan.is_ram(initrd)),
            image: handoff.image,
            boot_tables: handoff.boot_tables,
            boot_tables_used: self.tables.used(),
            kernel_root: handoff.kernel_root,
            idmap_root: handoff.idmap_root,
            reserved_root: handoff.reserved_root,
            direct_map: direct_map_type(),
            format: self.tables.format(),
        }
    }
}

/// Decides who gets which RAM.
pub(super) fn plan(
    handoff: &Handoff,
    facts: &Facts<'_>,
    args: &BootArgs<'_>,
    tree: &Region,
) -> Result<Plan, Refusal> {
    let limit = DIRECT_MAP_LEN.min(1 << cpu::features().output_bits());
    let mut plan = Plan::new(&facts.memory, limit);
    let total = plan.total();
    let image = Region::new(handoff.image.text.start, handoff.image.data.end);
    if !plan.is_ram(&image) || !plan.is_ram(&handoff.boot_tables) || !plan.is_ram(tree) {
        return Err(Refusal::ForeignMemory);
    }
    let initrd = facts.initrd.unwrap_or_default();
    let firmware = facts.firmware.iter().map(|firmware| {
        (
            firmware.region,
            if firmware.no_map {
                ReservedKind::NoMap
            } else {
                ReservedKind::Firmware
            },
        )
    });
    let first = [
        (image, ReservedKind::Image),
        (handoff.boot_tables, ReservedKind::BootTables),
        (*tree, ReservedKind::DeviceTree),
        (initrd, ReservedKind::Initrd),
    ];
    for (region, kind) in first.into_iter().chain(firmware) {
        plan.reserve_rest(region, kind)
            .map_err(|error| refusal(error, total))?;
    }
    if cpu::features().has_tags() {
        for region in facts.tag_storage.iter() {
            if let Err(reason) = plan.reserve_tag_storage(&region.storage) {
                log::warn!(
                    "tag storage at {:#x} is not used: {reason}",
                    region.storage.start
                );
            }
        }
    }
    if args.hold != 0 && !plan.hold(args.hold) {
        log::warn!(
            "tessera.hold: {:#x} bytes at the end of RAM cannot be held back",
            args.hold
        );
    }
    let taken: u64 = plan
        .reserved
        .iter()
        .map(|reserved| reserved.region.len())
        .sum();
    if plan.total().saturating_sub(taken) < MIN_FREE {
        return Err(Refusal::NotEnoughMemory(total >> 10));
    }
    Ok(plan)
}

/// The ranges that are tag storage.
fn tag_storage(plan: &Plan) -> impl Iterator<Item = Region> + '_ {
    let is_storage = |reserved: &&Reserved| reserved.kind == ReservedKind::TagStorage;
    plan.reserved
        .iter()
        .filter(is_storage)
        .map(|reserved| reserved.region)
}

/// The regions whose storage was free.
fn used_tag_storage(plan: &Plan, facts: &Facts<'_>) -> List<TagStorage, MAX_TAG_REGIONS> {
    let mut used = facts.tag_storage;
    used.retain(|region| tag_storage(plan).any(|storage| storage == region.storage));
    used
}

fn refusal(error: PlanError, total: u64) -> Refusal {
    match error {
        PlanError::TooManyReserved => Refusal::TooManyReserved,
        PlanError::NotEnough { .. } => Refusal::NotEnoughMemory(total >> 10),
    }
}

/// The memory type of the direct map: with tags where they can be used (D16).
fn direct_map_type() -> MemType {
    if cpu::features().has_tags() {
        MemType::Tagged
    } else {
        MemType::Normal
    }
}
