//! The kernel's memory: allocator, `init_mm`, heap, kernel stacks, device mappings, hot-added RAM.

pub mod hooks;
mod online;
pub mod protect;
mod report;
pub mod storage;
mod vmap;

use arm64::addr::Pfn;
use frame::Class;
use mm::MmContext;
use mm::context::INIT_MM;
use pgtable::asid::usable_bits;
use pgtable::{Graveyard, Kernel, PageTable, Special};
use sync::Once;

use crate::arch::frames as boot;
use crate::arch::mmu::{self, Hw, hw};
use crate::arch::{cpu, heap, time};
use crate::early::{BootInfo, Region, ReservedKind};
use crate::{bootargs, ipc, trace};

pub use mmu::{frames, grace};
pub use online::{OnlineError, held_bytes, online_held};
pub use report::{dump_kernel, report, snapshot_facts};
pub use vmap::{STACK_SIZE, alloc_kernel_stack, map_device};

/// An address space of this kernel.
pub type Space = mm::Space<Hw>;

/// Number of the identity map's space.
pub const IDMAP_ID: u32 = INIT_MM + 1;
/// Number of the reserved root's space.
pub const RESERVED_ID: u32 = INIT_MM + 2;
/// Number of the space that is the window on protected tables.
pub const WINDOW_ID: u32 = INIT_MM + 3;

/// Everything that lives as long as the machine.
struct Memory {
    info: BootInfo,
    init_mm: PageTable<Kernel, Hw>,
    idmap: PageTable<Special, Hw>,
    reserved: PageTable<Special, Hw>,
}

static MEMORY: Once<Memory> = Once::new();
static GRAVEYARD: Graveyard = Graveyard::new();
static CONTEXT: Once<MmContext<Hw>> = Once::new();

fn memory() -> &'static Memory {
    match MEMORY.get() {
        Some(memory) => memory,
        None => panic!("kernel memory was used before it was set up"),
    }
}

/// Tables that wait for their grace period.
pub fn graveyard() -> &'static Graveyard {
    &GRAVEYARD
}

/// What all address spaces share.
pub fn context() -> &'static MmContext<Hw> {
    match CONTEXT.get() {
        Some(context) => context,
        None => panic!("an address space was made before memory was set up"),
    }
}

/// What boot found out.
pub fn boot_info() -> &'static BootInfo {
    &memory().info
}

/// The kernel's own space.
pub fn init_mm() -> &'static PageTable<Kernel, Hw> {
    &memory().init_mm
}

/// The identity map, the reserved root, and the window on tables where they are protected.
pub fn special_spaces() -> impl Iterator<Item = &'static PageTable<Special, Hw>> {
    let boot = [&memory().idmap, &memory().reserved];
    boot.into_iter().chain(protect::window())
}

/// Takes memory over from boot: constructs the allocator, adopts every boot table (CTOR-11), gives
/// the heap its range. Called once on the boot CPU, of at most `cpus` that there will be.
///
/// # Panics
/// When the boot tables are not what boot said they are, or RAM does not suffice for the heap:
/// nothing can run then.
pub fn init(info: &BootInfo, cpus: usize) {
    boot::install(info);
    for reserved in info.reserved.iter() {
        frames().set_class(reserved.region.pfns(), class_of(reserved.kind));
    }
    for &bank in info.banks.iter() {
        release_free(info, bank);
    }
    boot::install_tag_storage(info);
    let adopted = boot::adopt(info, [INIT_MM, IDMAP_ID, RESERVED_ID]);
    let (init_mm, idmap, reserved) = match adopted {
        Ok(spaces) => spaces,
        Err(error) => panic!("law 8: boot tables could not be adopted: {error:?}"),
    };
    MEMORY.call_once(|| Memory {
        info: info.clone(),
        init_mm,
        idmap,
        reserved,
    });
    if bootargs::get().protect_pgtables {
        protect::start(info);
    }
    let total: u64 = info.banks.iter().map(Region::len).sum();
    boot::init_heap(vmap::map_heap(heap_size(total)));
    let (hardware, wanted) = (cpu::features().asid_bits, bootargs::get().asid_bits);
    let asid_bits = usable_bits(hardware, wanted, cpus);
    if wanted.is_some_and(|wanted| wanted != asid_bits) {
        log::warn!("{asid_bits} bits of address-space identifiers are used");
    }
    let args = bootargs::get();
    let traced = trace::init(args.trace, cpus, args.trace_events as usize);
    let context = CONTEXT.call_once(|| {
        MmContext::new(hw(), &GRAVEYARD, asid_bits, cpus, time::instructions)
            .traced_by(trace::keep, traced)
            .reclaimed_by(ipc::pager::reclaim)
    });
    let policy = context.policy();
    policy.set_anon(args.thp_anon);
    policy.set_shmem(args.thp_shmem);
    policy.set_fault_around(args.fault_around);
    policy.set_uffd_around(args.uffd_around);
    policy.set_storage(args.tag_storage);
    policy.set_tag_range(args.tag_range);
    context.set_max_map_count(args.max_map_count);
    log::debug!(
        "memory: {} KiB of RAM, heap {:?}",
        total >> 10,
        heap::usage()
    );
}

/// One thirty-second of RAM, within 2 and 16 MiB, in whole 2 MiB blocks.
fn heap_size(total: u64) -> u64 {
    (total / 32).clamp(2 << 20, 16 << 20) & !((2 << 20) - 1)
}

fn class_of(kind: ReservedKind) -> Class {
    match kind {
        ReservedKind::Firmware | ReservedKind::NoMap | ReservedKind::TagStorage => Class::Reserved,
        ReservedKind::Image | ReservedKind::BootTables => Class::Image,
        ReservedKind::DeviceTree => Class::Kernel,
        ReservedKind::Initrd => Class::Initrd,
        ReservedKind::MemMap => Class::MemMap,
    }
}

/// Releases what is not reserved in `bank`.
fn release_free(info: &BootInfo, bank: Region) {
    let mut at = bank.start;
    while at < bank.end {
        let rest = Region::new(at, bank.end);
        let overlapping = info
            .reserved
            .iter()
            .map(|r| r.region)
            .filter(|r| r.overlaps(&rest));
        let next = overlapping.min_by_key(|region| region.start);
        let (free_end, resume) = match next {
            Some(taken) => (taken.start.max(at), taken.end),
            None => (bank.end, bank.end),
        };
        if free_end > at {
            boot::release(Region::new(at, free_end));
        }
        at = resume;
    }
}

/// Whether `pfn` lies in a bank that is in use.
pub fn is_ram(pfn: Pfn) -> bool {
    frames().meta(pfn).is_some()
}
