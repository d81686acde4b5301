//! `mincore`: which pages are in memory.

use arm64::addr::PAGE_SIZE;
use arm64::geometry::Level;
use pgtable::{Machine, Walked};

use crate::error::MmError;
use crate::space::Space;
use crate::vma::{Backing, Vma};

impl<M: Machine> Space<M> {
    /// Says of each page from `addr` on whether it is in memory: a byte each in `pages`, 1 or 0. A
    /// page of an object is there if the object has it, whoever mapped it. Returns how many pages
    /// there are before a hole or an area that is being changed.
    ///
    /// # Errors
    /// [`MmError::NoMemory`] at a hole, [`MmError::Busy`] where a change is under way.
    pub fn mincore(&self, addr: u64, pages: &mut [u8]) -> Result<usize, MmError> {
        let mut done = 0;
        while done < pages.len() {
            let va = addr + done as u64 * PAGE_SIZE;
            let area = match self.area_at(va) {
                Err(_) if done > 0 => break,
                other => other?,
            };
            let left = ((area.end - va) / PAGE_SIZE) as usize;
            let count = left.min(pages.len() - done);
            self.residency(&area, va, &mut pages[done..done + count]);
            done += count;
        }
        Ok(done)
    }

    /// The area at `va`, as it is now.
    pub(crate) fn area_at(&self, va: u64) -> Result<Vma, MmError> {
        let map = self.map().lock();
        match map.areas.find(va) {
            None => Err(MmError::NoMemory),
            Some(_) if map.is_busy(va) => Err(MmError::Busy),
            Some(area) => Ok(area.clone()),
        }
    }

    fn residency(&self, area: &Vma, start: u64, pages: &mut [u8]) {
        pages.fill(0);
        let end = start + pages.len() as u64 * PAGE_SIZE;
        let stay = ();
        let section = self.machine().read_side(&stay);
        let mut at = start;
        self.table().walk_range(start, end, &section, |va, walked| {
            let (value, level) = match walked {
                Walked::Seen { value, level, .. } | Walked::Miss { value, level } => (value, level),
            };
            // Present to software is in memory, too.
            let present = u8::from(value.maps_frame(level));
            let behind = (va & !(level.size() - 1)).saturating_add(level.size());
            while at < behind.min(end) {
                pages[((at - start) / PAGE_SIZE) as usize] = present;
                at += PAGE_SIZE;
            }
            debug_assert!(level <= Level::L3);
        });
        let Backing::Object { object, offset, .. } = &area.backing else {
            return;
        };
        for (i, page) in pages.iter_mut().enumerate() {
            let index = area.page_index(*offset, start + i as u64 * PAGE_SIZE);
            *page |= u8::from(object.is_resident(index));
        }
    }
}
