//! `init_mm` as the MMU and the engine see it.

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::{Attrs, MemType, Prot};
use core::fmt::Write;
use frame::{Class, TableState};
use pgtable::{Kind, Machine, PageTable, Walked};

use super::{Outcome, check};
use crate::arch::mmu::{Hw, hw};
use crate::arch::probe::{As, translate};
use crate::early::Region;
use crate::memory::{self, boot_info, frames, init_mm};
use crate::percpu;

/// First address of the kernel image's mapping.
const KIMAGE: u64 = 0xffff_8000_0000_0000;
const DIRECT_MAP: u64 = 0xffff_0000_0000_0000;

fn constructed<K: Kind>(space: &PageTable<K, Hw>) -> Result<u64, super::Failure> {
    let (stay, owner) = ((), space.owner());
    let (mut count, mut wrong) = (0, None);
    space.each_table(&hw().read_side(&stay), |level, pa| {
        count += 1;
        let fine = frames().meta(pa.pfn()).is_some_and(|meta| {
            meta.class() == Class::Table
                && meta.table_state() == TableState::Constructed
                && meta.table_level() == Some(level)
                && meta.owner() == owner.id
                && meta.space_kind() == Some(owner.kind)
        });
        if !fine {
            wrong = Some(pa.raw());
        }
    });
    match wrong {
        Some(pa) => check(false, "law 8: a table is not constructed", pa).map(|()| 0),
        None => Ok(count),
    }
}

pub(super) fn every_table_under_every_root_is_constructed() -> Outcome {
    let mut found = constructed(init_mm())?;
    for special in memory::special_spaces() {
        found += constructed(special)?;
    }
    let live = hw().stats().live();
    check(
        found == live,
        "tables found differ from tables made, less freed",
        live,
    )?;
    let (made, ended) = memory::hooks::calls();
    check(
        made - ended == live,
        "hook calls differ from live tables",
        made,
    )
}

/// Passes text through, looking for one word.
struct Finder {
    found: bool,
}

impl Write for Finder {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.found |= text.contains("WRITABLE AND EXECUTABLE");
        Ok(())
    }
}

pub(super) fn no_mapping_is_both_writable_and_executable() -> Outcome {
    let stay = ();
    let mut finder = Finder { found: false };
    let dumped = init_mm().dump(&mut finder, &hw().read_side(&stay));
    check(
        dumped.is_ok() && !finder.found,
        "W^X is broken in init_mm",
        0,
    )
}

fn image_address(part: &Region) -> u64 {
    KIMAGE + (part.start - boot_info().image.text.start)
}

pub(super) fn text_and_constants_cannot_be_written() -> Outcome {
    let image = boot_info().image;
    for part in [&image.text, &image.rodata] {
        let va = image_address(part);
        check(
            translate(va, As::KernelRead) == Some(part.base()),
            "image is not mapped",
            va,
        )?;
        check(
            translate(va, As::KernelWrite).is_none(),
            "image can be written",
            va,
        )?;
    }
    let va = image_address(&image.data);
    check(
        translate(va, As::KernelWrite) == Some(image.data.base()),
        "data is not writable",
        va,
    )
}

pub(super) fn data_and_direct_map_cannot_be_executed() -> Outcome {
    let stay = ();
    let section = hw().read_side(&stay);
    let image = boot_info().image;
    let direct = DIRECT_MAP + image.text.start;
    for va in [
        image_address(&image.data),
        image_address(&image.rodata),
        direct,
    ] {
        if let Walked::Seen { value, .. } = init_mm().walk(va, &section) {
            check(!value.prot().contains(Prot::EXEC), "executable", va)?;
        }
    }
    let text = image_address(&image.text);
    let executable = matches!(init_mm().walk(text, &section),
        Walked::Seen { value, .. } if value.prot().contains(Prot::EXEC));
    check(executable, "text is not executable", text)
}

pub(super) fn kernel_stacks_lie_between_unmapped_pages() -> Outcome {
    let Some(top) = memory::alloc_kernel_stack() else {
        return check(false, "no stack", 0);
    };
    let (top, size) = (top.raw(), memory::STACK_SIZE);
    check(
        translate(top - 8, As::KernelWrite).is_some(),
        "stack is not mapped",
        top,
    )?;
    check(
        translate(top - size, As::KernelWrite).is_some(),
        "stack is too small",
        top,
    )?;
    check(
        translate(top - size - 8, As::KernelRead).is_none(),
        "no guard below",
        top,
    )?;
    check(
        translate(top, As::KernelRead).is_none(),
        "no guard above",
        top,
    )?;
    let own = percpu::this()
        .kernel_stack
        .load(core::sync::atomic::Ordering::Relaxed);
    check(
        translate(own, As::KernelRead).is_none(),
        "this CPU's stack has no guard",
        own,
    )
}

pub(super) fn user_mode_cannot_reach_the_kernel() -> Outcome {
    let image = boot_info().image;
    let stack = percpu::this()
        .kernel_stack
        .load(core::sync::atomic::Ordering::Relaxed)
        - 8;
    for va in [
        image_address(&image.text),
        image_address(&image.data),
        DIRECT_MAP + image.data.start,
        stack,
    ] {
        check(
            translate(va, As::UserRead).is_none(),
            "EL0 could read the kernel",
            va,
        )?;
        check(
            translate(va, As::UserWrite).is_none(),
            "EL0 could write the kernel",
            va,
        )?;
    }
    Ok(())
}

pub(super) fn a_mapping_comes_and_goes_for_the_mmu_too() -> Outcome {
    let Ok(frame) = frames().alloc_kernel(0, Class::Kernel) else {
        return check(false, "no frame", 0);
    };
    let va = 0xffff_b000_0000_0000;
    let Some(range) = VaRange::from_len(VirtAddr::new(va), 4096) else {
        return check(false, "no range", va);
    };
    let attrs = Attrs::kernel(Prot::READ | Prot::WRITE, MemType::Normal);
    let mapped = init_mm().edit().map(range, frame.pfn().start(), attrs);
    check(mapped.is_ok(), "cannot map", va)?;
    let seen = translate(va + 8, As::KernelWrite);
    check(
        seen == Some(PhysAddr::new(frame.pfn().start().raw() + 8)),
        "wrong translation",
        va,
    )?;
    let _flushed = init_mm().edit().unmap(range);
    check(
        translate(va, As::KernelRead).is_none(),
        "a translation survived its flush",
        va,
    )
}

pub(super) fn held_memory_comes_online_in_constructed_tables() -> Outcome {
    let held = memory::held_bytes();
    let Some(bank) = boot_info().held.filter(|_| held != 0) else {
        // Nothing was held back in this boot: bringing it online is then an error.
        return check(
            memory::online_held().is_err(),
            "memory came from nowhere",
            0,
        );
    };
    let before = frames().stats();
    let direct = DIRECT_MAP + bank.start;
    check(
        translate(direct, As::KernelRead).is_none(),
        "held memory was mapped",
        direct,
    )?;
    check(
        memory::online_held() == Ok(held),
        "it does not come online",
        held,
    )?;
    check(
        translate(direct, As::KernelWrite) == Some(bank.base()),
        "it is not mapped",
        direct,
    )?;
    let after = frames().stats();
    check(
        after.total == before.total + held / 4096,
        "total",
        after.total,
    )?;
    check(
        after.free > before.free + held / 4096 * 9 / 10,
        "free",
        after.free,
    )?;
    check(memory::online_held().is_err(), "it came online twice", 0)?;
    every_table_under_every_root_is_constructed()
}
