//! Memory in words and numbers: for the tour, the prompt and the host-side reader.

use core::fmt;

use arm64::geometry::Level;
use pgtable::Machine;

use super::{IDMAP_ID, RESERVED_ID, WINDOW_ID, boot, frames, init_mm, memory, protect};
use crate::arch::mmu::hw;
use crate::arch::{cpu, heap};
use crate::early::Region;
use mm::context::INIT_MM;

/// Writes what boot found and made: RAM, reservations, image, tables.
///
/// # Errors
/// Those of `out`.
pub fn report(out: &mut dyn fmt::Write) -> fmt::Result {
    let info = &memory().info;
    writeln!(out, "RAM")?;
    for bank in info.banks.iter() {
        writeln!(out, "  {bank}  {} KiB", bank.len() >> 10)?;
    }
    if let Some(held) = info.held {
        let left = super::held_bytes();
        let state = if left == 0 {
            "brought online"
        } else {
            "held back"
        };
        writeln!(out, "  {held}  {} KiB, {state}", held.len() >> 10)?;
    }
    writeln!(out, "taken at boot")?;
    for reserved in info.reserved.iter() {
        let Region { start, end } = reserved.region;
        let kib = (end - start) >> 10;
        writeln!(
            out,
            "  {}  {kib} KiB  {}",
            reserved.region,
            reserved.kind.name()
        )?;
    }
    writeln!(out, "kernel image")?;
    let image = &info.image;
    let parts = [("text, r-x", image.text), ("constants, r--", image.rodata)];
    for (name, part) in parts.into_iter().chain([("data, rw-", image.data)]) {
        writeln!(out, "  {part}  {} KiB  {name}", part.len() >> 10)?;
    }
    let stats = frames().stats();
    let (used, size) = heap::usage();
    writeln!(
        out,
        "frames: {} of {} free (4 KiB each)",
        stats.free, stats.total
    )?;
    writeln!(out, "kernel heap: {used} of {size} bytes in use")?;
    writeln!(
        out,
        "direct map: {} memory, descriptors {}",
        info.direct_map,
        descriptors()
    )?;
    writeln!(out, "cpu: {}", cpu::features())?;
    tables(out)
}

fn descriptors() -> &'static str {
    match hw().format().lpa2 {
        true => "with 52-bit output addresses (LPA2)",
        false => "with 48-bit output addresses",
    }
}

fn tables(out: &mut dyn fmt::Write) -> fmt::Result {
    let (all, kernel) = (hw().stats(), init_mm().stats());
    writeln!(
        out,
        "tables by level        made   freed  adopted at boot   of the kernel"
    )?;
    for level in Level::ALL {
        let (sum, own) = (all.at(level), kernel.at(level));
        if sum.made != 0 {
            let number = level.number();
            writeln!(
                out,
                "  level {number:>2}         {:>8} {:>7} {:>16} {:>15}",
                sum.made,
                sum.freed,
                sum.adopted,
                own.made - own.freed,
            )?;
        }
    }
    let (constructed, destructed) = super::hooks::calls();
    writeln!(
        out,
        "hook calls: {constructed} constructed, {destructed} destructed"
    )?;
    protect::report(out)
}

/// Writes the kernel's mappings as merged ranges.
///
/// # Errors
/// Those of `out`.
pub fn dump_kernel(out: &mut dyn fmt::Write) -> fmt::Result {
    let stay = ();
    init_mm().dump(out, &hw().read_side(&stay))
}

/// Writes what the host-side reader starts from: the kernel's root, where the metadata is, the
/// descriptor format and the special roots, as `key=value` words. The caller adds user roots.
///
/// # Errors
/// Those of `out`.
pub fn snapshot_facts(out: &mut dyn fmt::Write) -> fmt::Result {
    let memory = memory();
    let pgfmt = if hw().format().lpa2 { "lpa2" } else { "normal" };
    let word = memory.init_mm.root_word();
    write!(
        out,
        "ttbr1={:#x} vmemmap={:#x} pgfmt={pgfmt}",
        word.root().raw(),
        boot::VMEMMAP
    )?;
    let roots = [
        (INIT_MM, word),
        (IDMAP_ID, memory.idmap.root_word()),
        (RESERVED_ID, memory.reserved.root_word()),
    ];
    if protect::window().is_some() {
        write!(out, " tables=protected")?;
    }
    let window = protect::window().map(|window| (WINDOW_ID, window.root_word()));
    for (id, word) in roots.into_iter().chain(window) {
        write!(out, " root={id}:{:#x}:{}", word.root().raw(), word.levels())?;
    }
    Ok(())
}
