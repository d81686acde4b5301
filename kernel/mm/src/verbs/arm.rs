//! Watching a range for a userfaultfd, and marking pages against writing.

use pgtable::{Gather, Machine, Marking, Visit};

use super::range_end;
use crate::change::range;
use crate::error::MmError;
use crate::space::Space;
use crate::vma::VmaFlags;

/// What a table of level 3 translates.
const TABLE: u64 = 2 << 20;

impl<M: Machine> Space<M> {
    /// Watches the areas of `[addr, addr + len)` in `modes`, some of [`VmaFlags::UFFD`]; none stops
    /// watching. A fault planned before is planned again: none that begins after this returns goes
    /// by the former modes.
    ///
    /// # Errors
    /// [`MmError::Busy`] while a change owns the map; [`MmError::Invalid`] for a bad range, a range
    /// with a hole, minor mode where there is no object, or registers of a device; [`MmError::NoMemory`].
    pub fn arm(&self, addr: u64, len: u64, modes: VmaFlags) -> Result<(), MmError> {
        let mut map = self.map().lock();
        if map.owned {
            return Err(MmError::Busy);
        }
        map.areas.reserve(2)?;
        let end = range_end(&map, addr, len)?;
        let minor = modes.contains(VmaFlags::UFFD_MINOR);
        let fits = map
            .areas
            .overlapping(addr, end)
            .all(|area| !area.backing.is_device() && (!minor || !area.backing.is_anon()));
        if map.areas.covered_until(addr, end) < end || !fits {
            return Err(MmError::Invalid);
        }
        if !map.areas.may_cut(addr, end) {
            return Err(MmError::NoMemory);
        }
        map.areas.change(addr, end, |area| {
            area.flags.remove(VmaFlags::UFFD);
            area.flags.insert(modes & VmaFlags::UFFD);
        });
        self.epochs().retire(addr, end);
        Ok(())
    }

    /// Marks the pages of `[addr, addr + len)` against writing, or takes the marks away. In areas
    /// over an object, pages that are not mapped are marked too. Goes on from where it is told, a
    /// bounded piece at a time; returns where to go on.
    ///
    /// # Errors
    /// [`MmError::Busy`] where a change is under way; [`MmError::Invalid`] for a range that is not
    /// watched for writes.
    pub fn write_protect(&self, addr: u64, end: u64, on: bool) -> Result<u64, MmError> {
        let (stop, absent_too, epoch) = {
            let map = self.map().lock();
            let area = map.areas.find(addr).ok_or(MmError::Invalid)?;
            if map.is_busy(addr) {
                return Err(MmError::Busy);
            }
            if !area.flags.contains(VmaFlags::UFFD_WP) {
                return Err(MmError::Invalid);
            }
            let stop = area.end.min(end).min((addr | (TABLE - 1)) + 1);
            (stop, !area.backing.is_anon(), self.epochs().at(addr))
        };
        let marking = match (on, absent_too) {
            (true, true) => Marking::Every,
            (true, false) => Marking::Present,
            (false, _) => Marking::Clear,
        };
        let current = || self.epochs().at(addr) == epoch;
        let mut gather = Gather::new();
        let marked = self.mark_table(addr, stop, marking, current, &mut gather);
        self.release(&mut gather);
        marked.map(|()| stop)
    }

    /// Marks what one table translates. Blocks carry no marks: they are split.
    fn mark_table(
        &self,
        addr: u64,
        stop: u64,
        marking: Marking,
        current: impl Fn() -> bool,
        gather: &mut Gather,
    ) -> Result<(), MmError> {
        let stay = ();
        let section = self.machine().read_side(&stay);
        let range = range(addr, stop).ok_or(MmError::Invalid)?;
        if addr >= self.end() {
            return Ok(());
        }
        self.table().split_block(addr, &section)?;
        let leaf = match marking {
            Marking::Every => Some(self.table().lock_leaf(addr, &section, &current)?),
            _ => match self.table().cursor(range, &section).visit() {
                Some(Visit::Table(leaf)) => Some(leaf),
                _ => None,
            },
        };
        let Some(mut leaf) = leaf else { return Ok(()) };
        if !current() {
            return Err(MmError::Busy);
        }
        leaf.narrow(addr, stop);
        leaf.mark_uffd_wp(marking, gather);
        Ok(())
    }
}
