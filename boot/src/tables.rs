//! The first translation tables, made with the MMU off.
//!
//! Data accesses are to Device memory here, so everything is aligned; addresses of symbols are
//! physical; and nothing may panic, as there is nobody to tell.

use core::arch::asm;
use core::mem::MaybeUninit;

use arm64::addr::{PAGE_SIZE, PhysAddr};
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::regs::{Features, KERNEL_T1SZ, Sctlr, Tcr, mair, ttbr};
use kernel::arch::{cpu, start};
use kernel::early::handoff::{EntryRecord, Handoff};
use kernel::early::layout::DIRECT_MAP;
use kernel::early::tables::{CHUNK_SIZE, MapError, Tables};
use kernel::early::{ImageLayout, Region, Root};
use kernel::percpu;

use crate::head::{boot_stack_top, secondary_entry, to_kernel};

// SAFETY: linker.ld defines these symbols; only their addresses are taken.
unsafe extern "C" {
    safe static __image_start: u8;
    safe static __idmap_start: u8;
    safe static __text_end: u8;
    safe static __rodata_end: u8;
    safe static __bss_start: u8;
    safe static __bss_end: u8;
    safe static __boot_guard_start: u8;
    safe static __boot_guard_end: u8;
    safe static __data_end: u8;
    safe static __boot_tables_start: u8;
}

/// What the kernel is told. In zeroed data, so that it exists from the start.
static mut HANDOFF: MaybeUninit<Handoff> = MaybeUninit::uninit();

fn address(symbol: &'static u8) -> u64 {
    core::ptr::from_ref(symbol).addr() as u64
}

fn layout() -> ImageLayout {
    let (start, idmap) = (address(&__image_start), address(&__idmap_start));
    let (text, rodata) = (address(&__text_end), address(&__rodata_end));
    ImageLayout {
        text: Region::new(start, text),
        rodata: Region::new(text, rodata),
        data: Region::new(rodata, address(&__data_end)),
        idmap: Region::new(idmap, idmap.wrapping_add(PAGE_SIZE)),
    }
}

/// Makes the first tables. Returns the address of the record to turn the MMU on with, or 0 if
/// the CPU cannot run with them.
pub(crate) extern "C" fn make(tree: u64, entry_level: u64) -> u64 {
    let features = cpu::detect();
    if !features.granule_4k {
        return 0;
    }
    let Ok(handoff) = build(tree, entry_level, &features) else {
        return 0;
    };
    let place = (&raw mut HANDOFF).cast::<Handoff>();
    // SAFETY: one CPU runs, and nobody has seen the place yet.
    let record = unsafe {
        place.write(handoff);
        (&raw const (*place).record).addr() as u64
    };
    drop_stale_lines(address(&__bss_start), address(&__bss_end));
    let tables = handoff.boot_tables.start;
    drop_stale_lines(
        tables,
        tables + u64::from(handoff.boot_tables_used) * PAGE_SIZE,
    );
    record
}

fn build(tree: u64, entry_level: u64, features: &Features) -> Result<Handoff, MapError> {
    let image = layout();
    let chunk = Region::from_len(address(&__boot_tables_start), CHUNK_SIZE);
    // SAFETY: the linker script sets the chunk aside; with the MMU off it is at its address.
    let mut tables = unsafe { Tables::new(features.format(), chunk.start, 0, 0) };
    let kernel_root = tables.table()?;
    let idmap_root = tables.table()?;
    let reserved_root = tables.table()?;
    map_image(&mut tables, kernel_root, &image)?;
    let direct = DIRECT_MAP.wrapping_add(chunk.start);
    let writable = Attrs::kernel(Prot::RW, MemType::Normal);
    tables.map(kernel_root, direct, chunk.start, CHUNK_SIZE, writable, true)?;
    // Not global: no CPU keeps it when it loads another TTBR0.
    let idmap = Attrs::kernel(Prot::RX, MemType::Normal).with_global(false);
    tables.map(
        idmap_root,
        image.idmap.start,
        image.idmap.start,
        PAGE_SIZE,
        idmap,
        false,
    )?;
    let root = |pa: PhysAddr, levels| Root { pa, levels };
    let format = features.format();
    Ok(Handoff {
        tree,
        entry_level,
        image,
        boot_tables: chunk,
        boot_tables_used: tables.used(),
        kernel_root: root(kernel_root, 4),
        idmap_root: root(idmap_root, 4),
        reserved_root: root(reserved_root, 3),
        record: EntryRecord {
            mair: mair(features),
            // Accessed and dirty state is the hardware's only once boot arguments are known.
            tcr: Tcr::kernel(features, KERNEL_T1SZ).with_hafdbs(0).raw(),
            ttbr0: ttbr(format, idmap_root, 0),
            ttbr1: ttbr(format, kernel_root, 0),
            sctlr: Sctlr::kernel(features).raw(),
            stack: to_kernel(boot_stack_top(), image.text.start),
            per_cpu: to_kernel(
                core::ptr::from_ref(percpu::of(0)).addr() as u64,
                image.text.start,
            ),
            entry: to_kernel(start::start as *const () as u64, image.text.start),
            argument: to_kernel((&raw const HANDOFF).addr() as u64, image.text.start),
        },
        secondary_entry: address(&secondary_entry),
    })
}

/// W^X from the first moment the MMU is on: text is not writable, nothing else executable. The page
/// below the boot stack is left out.
fn map_image(tables: &mut Tables, root: PhysAddr, image: &ImageLayout) -> Result<(), MapError> {
    let below = Region::new(image.data.start, address(&__boot_guard_start));
    let above = Region::new(address(&__boot_guard_end), image.data.end);
    let parts = [
        (image.text, Prot::RX),
        (image.rodata, Prot::READ),
        (below, Prot::RW),
        (above, Prot::RW),
    ];
    for (part, prot) in parts {
        let va = to_kernel(part.start, image.text.start);
        let attrs = Attrs::kernel(prot, MemType::Normal);
        tables.map(root, va, part.start, part.len(), attrs, false)?;
    }
    Ok(())
}

/// Drops cached copies of memory that was written with the caches off: a loader may have left old
/// ones (Arm ARM, “Behavior of caches at reset”).
fn drop_stale_lines(start: u64, end: u64) {
    let ctr: u64;
    // SAFETY: reading an identification register.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) }
    let line = 4u64 << (ctr >> 16 & 0xf);
    let mut at = start & !(line - 1);
    while at < end {
        // SAFETY: the lines hold nothing that is newer than memory: the caches have been off. A
        // line at an edge holds what the loader has written to memory, as the boot protocol asks.
        unsafe { asm!("dc ivac, {}", in(reg) at, options(nostack, preserves_flags)) }
        at += line;
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) }
}
