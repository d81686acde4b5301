//! Fault-around: the resident neighbours of a page, mapped where nothing is.

use core::ops::Range;

use arm64::addr::PhysAddr;
use arm64::attrs::Attrs;
use arm64::geometry::Level;
use arm64::pte::Pte;
use frame::UserFrame;

use crate::contpte::{Change, each_of_block, page};
use crate::leaf::{BLOCK, Leaf, PAGE};
use crate::machine::{Conversion, Machine};
use crate::space::{SpaceKind, User};

/// What a batch around a fault did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Around {
    /// Pages that are mapped now and were not before.
    pub mapped: usize,
    /// Groups of them that came out contiguous.
    pub folded: usize,
}

/// The new entries of a group, before any of them is written; none where there is no new one.
type Entries = [Pte; BLOCK];

/// What is known of the new entries of a group.
#[derive(Clone, Copy)]
struct Found {
    /// How many there are.
    count: usize,
    /// What the words have in common, and what any of them has, each taken back to where its block
    /// would begin: equal, they follow each other.
    common: u64,
    any: u64,
}

impl Found {
    const NOTHING: Self = Self {
        count: 0,
        common: !0,
        any: 0,
    };

    #[inline(always)]
    fn with(self, place: usize, pte: Pte) -> Self {
        let start = pte.raw().wrapping_sub(place as u64 * PAGE);
        Self {
            count: self.count + 1,
            common: self.common & start,
            any: self.any | start,
        }
    }
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
    /// `attrs` say; its neighbours too, but old and clean where the hardware records accesses. Aligned
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
        // Where software records, a block is recorded as a whole: an entry that lags behind what
        // its siblings say would fault for ever (law 7).
        let plain = match machine.records_access() {
            true => attrs.with_young(false).with_dirty(false),
            false => attrs,
        };
        let born = Born {
            neighbour: page(machine, PhysAddr::new(0), plain),
            attrs,
        };
        let first = self.table.index(from);
        let end = first + ((to - from) / PAGE) as usize;
        let touched = first.wrapping_add((touched.wrapping_sub(from) / PAGE) as usize);
        self.write(|change| {
            let (mut i, mut entries) = (first, [Pte::NONE; BLOCK]);
            while i < end {
                let behind = change.group_end(i, end).min(i + BLOCK);
                let va = from + (i - first) as u64 * PAGE;
                let template = born.neighbour;
                let found = change.look_around(i..behind, va, template, &mut entries, &mut next);
                if found.count != 0 {
                    touch(
                        &mut entries[..behind - i],
                        touched.wrapping_sub(i),
                        born.attrs,
                    );
                    done.mapped += found.count;
                    done.folded += change.fill(i..behind, va, &entries, found);
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
        entries: &mut Entries,
        next: &mut impl FnMut(u64) -> Option<UserFrame>,
    ) -> Found {
        let (cells, format) = (self.words(), self.writer.machine().format());
        let (first, mut found) = (indices.start, Found::NOTHING);
        for (place, new) in entries[..indices.len()].iter_mut().enumerate() {
            *new = Pte::NONE;
            if cells.raw(first + place).is_none()
                && let Some(frame) = next(va + place as u64 * PAGE)
            {
                let pa = frame.into_entry().start();
                *new = format.with_pa(template, pa, Level::L3);
                found = found.with(place, *new);
            }
        }
        found
    }

    /// Writes the new entries of a group; how many contiguous blocks that made.
    #[inline(always)]
    fn fill(&self, indices: Range<usize>, va: u64, entries: &Entries, found: Found) -> usize {
        let (cells, first, block) = (self.words(), indices.start, self.block());
        let run = found.count == block && found.common == found.any;
        // All are there and follow each other: where the first begins, the block does.
        if run && self.is_block(entries[0]) {
            each_of_block(block, |i| {
                cells.put_new(first + i, entries[i].with_contiguous(true));
            });
            self.converted(Conversion::Fold, first);
            return 1;
        }
        for (i, &pte) in indices.zip(entries) {
            if !pte.is_none() {
                cells.put_new(i, pte);
            }
        }
        let last = self.group_end(first, self.table.entries()) - 1;
        usize::from(self.try_fold(last, va + (last - first) as u64 * PAGE))
    }

    /// Whether entries that follow each other from `start` on map one aligned part of a folio.
    #[inline(always)]
    fn is_block(&self, start: Pte) -> bool {
        let pa = self.writer.machine().format().pa(start, Level::L3);
        start.is_valid()
            && pa.is_aligned(Level::L3.size() * self.block() as u64)
            && self.is_one_folio(pa.pfn().raw(), self.block())
    }
}

/// The entry at `place`, if it is a new one, is of the page that was touched.
#[inline(always)]
fn touch(entries: &mut [Pte], place: usize, attrs: Attrs) {
    if let Some(pte) = entries.get_mut(place)
        && !pte.is_none()
    {
        *pte = if attrs.young { pte.mkyoung() } else { *pte };
        *pte = if attrs.dirty { pte.mkdirty() } else { *pte };
    }
}
