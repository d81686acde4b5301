//! One entry for another: copy-on-write, the first write to a page of zeros, a page for a marker.

use arm64::attrs::Attrs;
use arm64::geometry::Level;
use arm64::pte::Pte;
use frame::Page;
use sync::planted::{self, Fault};

use crate::contpte::{Change, page};
use crate::gather::Gather;
use crate::leaf::{Leaf, PAGE};
use crate::machine::{Machine, Pause};
use crate::slot::ptep_get;
use crate::space::{SpaceKind, User};
use crate::value::Value;
use crate::writer::Writer;

impl<M: Machine> Leaf<'_, User, M> {
    /// Maps `frame` at `va` in place of `was`, the entry that this was decided from, if it still is
    /// there but for accessed and dirty (D5, check 3). Another frame is broken, invalidated and then
    /// made (law 5), as a single page; the reference of the old one goes to `gather`, which owes no
    /// flush for it. What `frame` holds was copied before: `was` is an entry that nobody could write
    /// through, or its contents do not matter. A userfaultfd mark is handed on, and what carries it is not writable (law 10):
    /// the mark is taken away by [`Self::mark_uffd_wp`] alone.
    ///
    /// # Errors
    /// The frame comes back if the entry is another one by now, or `gather` is full.
    pub fn replace<F: Page>(
        &self,
        va: u64,
        was: Value,
        frame: F,
        attrs: Attrs,
        gather: &mut Gather,
    ) -> Result<(), F> {
        if !gather.has_frame_room() {
            return Err(frame);
        }
        let old = self.replace_entry(va, was, frame, attrs)?;
        if old.is_none() {
            self.add_entries(1);
        }
        if old.maps_frame(Level::L3) && !old.special() {
            let pfn = self.space.machine().format().pa(old, Level::L3).pfn();
            gather.tear_pages(core::iter::once(pfn));
        }
        Ok(())
    }

    /// As [`Self::replace`] where `was` maps a frame that is not counted: there is no reference to
    /// give up.
    ///
    /// # Errors
    /// The frame comes back if the entry is another one by now, or `was` is no such entry.
    #[inline(always)]
    pub fn replace_special<F: Page>(
        &self,
        va: u64,
        was: Value,
        frame: F,
        attrs: Attrs,
    ) -> Result<(), F> {
        if !was.special() {
            return Err(frame);
        }
        self.replace_entry(va, was, frame, attrs).map(drop)
    }

    #[inline(always)]
    fn replace_entry<F: Page>(
        &self,
        va: u64,
        was: Value,
        frame: F,
        attrs: Attrs,
    ) -> Result<Pte, F> {
        let (slot, machine) = (self.slot(va), self.space.machine());
        let still = ptep_get(&slot, &self.guard).is_still(was);
        if !(still || planted::is(Fault::ReplaceUnchecked)) {
            return Err(frame);
        }
        let kept = was.uffd_wp() && !planted::is(Fault::DropMarkOnMap);
        let attrs = attrs.with_uffd_wp(attrs.uffd_wp || kept);
        let new = page(machine, frame.into_entry().start(), attrs, F::MEM);
        let writer = Writer::open(machine);
        let change = self.change(&writer);
        let old = change.repaint(slot.index, va, new);
        let end = change.group_end(slot.index, self.table.entries()) - 1;
        change.try_fold(end, va + (end - slot.index) as u64 * PAGE);
        drop(writer);
        machine.publish(SpaceKind::User);
        Ok(old)
    }
}

impl<M: Machine> Change<'_, '_, M> {
    /// Writes `new` over the entry at `index`, taken out of its block, by break before make; the entry
    /// that was there.
    #[inline(always)]
    fn repaint(&self, index: usize, va: u64, new: Pte) -> Pte {
        let cells = self.words();
        let old = cells.raw(index);
        // Not only what is valid: another CPU may have made it invalid and not flushed yet.
        if !old.maps_frame(Level::L3) {
            cells.put(index, new);
            return old;
        }
        self.unfold(index, va);
        if planted::is(Fault::ReplaceWithoutBreak) {
            cells.update(index, |_| Some(new));
            return old;
        }
        let old = cells.take(index);
        self.writer.machine().pause(Pause::Repaint);
        if !planted::is(Fault::ReplaceWithoutFlush) {
            self.flush_page(va);
        }
        cells.put(index, new);
        old
    }
}
