//! Fault-around: the resident neighbours of a page, mapped where nothing is.

use core::ops::Range;

use arm64::addr::PhysAddr;
use arm64::attrs::Attrs;
use arm64::geometry::Level;
use arm64::pte::Pte;
use frame::UserFrame;

use crate::contpte::{Change, page};
use crate::leaf::{BLOCK, Leaf, PAGE};
use crate::machine::Machine;
use crate::space::{SpaceKind, User};

/// What a batch around a fault did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Around {
    /// Pages that are mapped now and were not before.
    pub mapped: usize,
    /// Groups of them that came out contiguous.
    pub folded: usize,
}

/// The new entries of a group, before any of them is written.
struct Group {
    entries: [Pte; BLOCK],
    count: usize,
}

/// How pages are born.
#[derive(Clone, Copy)]
struct Born {
    neighbour: Pte,
    attrs: Attrs,
}

impl<M: Machine> Leaf<'_, User, M> {
    /// Maps what `next` gives for each page of `[from, to)` that lies in the table and whose entry is
    /// none, in one batch. Any other entry, be it a marker, is left alone, and `next` is not asked
    /// about it (UF-01: nothing but absent entries is added to). The page of `touched` is born as
    /// `attrs` say; its neighbours clean, and old where the hardware records accesses. Aligned
    /// groups that come out whole, of one folio and alike are contiguous.
    pub fn install_around(
        &self,
        (from, to): (u64, u64),
        attrs: Attrs,
        touched: u64,
        mut next: impl FnMut(u64) -> Option<UserFrame>,
    ) -> Around {
        let machine = self.space.machine();
        let (from, to) = (from.max(self.from), to.min(self.to));
        let mut done = Around::default();
        if from >= to {
            return done;
        }
        let young = attrs.young && !machine.records_access();
        let plain = attrs.with_young(young).with_dirty(false);
        let born = Born {
            neighbour: page(machine, PhysAddr::new(0), plain),
            attrs,
        };
        let first = self.table.index(from);
        let end = first + ((to - from) / PAGE) as usize;
        let touched = first.wrapping_add((touched.wrapping_sub(from) / PAGE) as usize);
        self.write(|change| {
            let mut i = first;
            while i < end {
                let behind = change.group_end(i, end).min(i + BLOCK);
                let va = from + (i - first) as u64 * PAGE;
                let group = change.look_around(i..behind, va, born.neighbour, &mut next);
                if group.count != 0 {
                    done.mapped += group.count;
                    done.folded += change.fill(i..behind, va, group, (touched, born.attrs));
                }
                i = behind;
            }
        });
        self.add_entries(done.mapped as i32);
        machine.publish(SpaceKind::User);
        done
    }
}

impl<M: Machine> Change<'_, '_, M> {
    /// Asks for a page for each empty entry of a group.
    #[inline(always)]
    fn look_around(
        &self,
        indices: Range<usize>,
        va: u64,
        template: Pte,
        next: &mut impl FnMut(u64) -> Option<UserFrame>,
    ) -> Group {
        let (cells, format) = (self.words(), self.writer.machine().format());
        let mut group = Group {
            entries: [Pte::NONE; BLOCK],
            count: 0,
        };
        let mut at = va;
        for (i, new) in indices.zip(&mut group.entries) {
            if cells.raw(i).is_none()
                && let Some(frame) = next(at)
            {
                let pa = frame.into_entry().start();
                *new = format.with_pa(template, pa, Level::L3);
                group.count += 1;
            }
            at += PAGE;
        }
        group
    }

    /// Writes the new entries of a group; how many contiguous blocks that made.
    #[inline(always)]
    fn fill(
        &self,
        indices: Range<usize>,
        va: u64,
        mut group: Group,
        (touched, attrs): (usize, Attrs),
    ) -> usize {
        let (cells, first) = (self.words(), indices.start);
        let whole = group.count == self.block() && self.is_block(&group.entries);
        if let Some(pte) = group.entries.get_mut(touched.wrapping_sub(first))
            && !pte.is_none()
        {
            *pte = if attrs.young { pte.mkyoung() } else { *pte };
            *pte = if attrs.dirty { pte.mkdirty() } else { *pte };
        }
        for (i, pte) in indices.zip(group.entries) {
            if !pte.is_none() {
                cells.put_new(i, pte.with_contiguous(whole));
            }
        }
        if whole {
            self.stats.count_fold();
            return 1;
        }
        let last = self.group_end(first, self.table.entries()) - 1;
        usize::from(self.try_fold(last, va + (last - first) as u64 * PAGE))
    }

    /// Whether the entries of a whole group, not accessed yet, map one aligned part of a folio.
    #[inline(always)]
    fn is_block(&self, entries: &[Pte; BLOCK]) -> bool {
        let (start, size) = (entries[0], Level::L3.size());
        let pa = self.writer.machine().format().pa(start, Level::L3);
        let mut expected = start;
        let mut differ = 0;
        for pte in &entries[..self.block().min(BLOCK)] {
            differ |= pte.raw() ^ expected.raw();
            expected = expected.further(size);
        }
        differ == 0
            && start.is_valid()
            && pa.is_aligned(size * self.block() as u64)
            && self.is_one_folio(pa.pfn().raw(), self.block())
    }
}
