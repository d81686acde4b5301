//! The map list, in the form of `/proc/PID/maps`.

use core::fmt;

use alloc::vec::Vec;
use arm64::attrs::Prot;
use pgtable::Machine;

use crate::space::Space;
use crate::vma::{Backing, Vma, VmaFlags};

impl<M: Machine> Space<M> {
    /// Writes the areas in the form of `/proc/PID/maps`.
    ///
    /// # Errors
    /// Those of `out`. The areas are copied first, so `out` may be slow; when there is no memory
    /// for the copy, a line says so.
    pub fn maps(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let mut areas = Vec::new();
        {
            let map = self.map().lock();
            if areas.try_reserve_exact(map.areas.len()).is_err() {
                return writeln!(out, "(no memory for a copy of {} areas)", map.areas.len());
            }
            areas.extend(map.areas.iter().cloned());
        }
        areas.iter().try_for_each(|area| line(area, out))
    }
}

fn line(area: &Vma, out: &mut dyn fmt::Write) -> fmt::Result {
    let mut asked = area.prot;
    asked.set(
        Prot::READ,
        asked.contains(Prot::READ) && !area.flags.contains(VmaFlags::UNREAD),
    );
    let has = |bit, sign| if asked.contains(bit) { sign } else { '-' };
    let (offset, inode) = match &area.backing {
        Backing::Anon(_) => (0, 0),
        Backing::Object { object, offset, .. } => (*offset, object.number()),
        Backing::Device { base } => (*base, 0),
    };
    let name = match &area.backing {
        _ if area.flags.contains(VmaFlags::STACK) => "[stack]",
        _ if area.flags.contains(VmaFlags::HEAP) => "[heap]",
        Backing::Anon(_) => "",
        Backing::Object { object, .. } => object.name(),
        Backing::Device { .. } => "[device]",
    };
    let shared = if area.is_shared() { 's' } else { 'p' };
    write!(out, "{:08x}-{:08x} ", area.start, area.end)?;
    write!(out, "{}{}", has(Prot::READ, 'r'), has(Prot::WRITE, 'w'))?;
    write!(
        out,
        "{}{shared} {offset:08x} 00:00 {inode}",
        has(Prot::EXEC, 'x')
    )?;
    match name {
        "" => writeln!(out),
        name => writeln!(out, "          {name}"),
    }
}
