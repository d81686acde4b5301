//! Unmapping: why, what of an entry outlives it (law 9), and how a locked table is emptied.

use core::ops::Range;

use arm64::addr::Pfn;
use arm64::geometry::Level;
use arm64::pte::Pte;
use sync::planted::{self, Fault};

use crate::cells::Cells;
use crate::contpte::{each_of_block, with_ad_of};
use crate::gather::{Flush, Gather};
use crate::leaf::Leaf;
use crate::machine::Machine;
use crate::space::User;

/// Why something is unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZapReason {
    /// The area goes: nobody is left whom a mark could concern.
    RegionGone,
    /// The space ends.
    Exit,
    /// The program gives the contents up and keeps the area.
    DontNeed,
    /// The object became shorter than the page.
    ObjectTruncated,
    /// A hole was made in the object.
    Punch,
    /// The memory is wanted elsewhere; the page comes back on the next access.
    Reclaim,
    /// The page moves to another frame.
    Migrate,
}

impl ZapReason {
    /// Whether the userfaultfd marks of what is unmapped stay, as markers. An object may fill the page
    /// again behind the monitor's back; giving up anonymous memory gives up its mark as well, as
    /// the contents are zeros afterwards whoever writes there.
    pub const fn keeps_marks(self, object_backed: bool) -> bool {
        match self {
            Self::RegionGone | Self::Exit => false,
            Self::DontNeed => object_backed,
            Self::ObjectTruncated | Self::Punch | Self::Reclaim | Self::Migrate => true,
        }
    }

    /// Whether entries stay whose access is answered with a bus error.
    pub const fn keeps_poison(self) -> bool {
        !matches!(self, Self::RegionGone | Self::Exit | Self::DontNeed)
    }
}

/// An unmapping: why, and what kind of memory is unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zap {
    /// Why.
    pub reason: ZapReason,
    /// Whether an object stands behind the area: another than the memory of this space alone.
    pub object_backed: bool,
    /// Whether frames remember that an entry was dirty: for space that may show pages of which
    /// somebody asks whether they were written.
    pub records_writes: bool,
}

impl Zap {
    /// Of whatever kind of area, which goes as well.
    pub const REGION_GONE: Self = Self::anonymous(ZapReason::RegionGone);

    /// Of anonymous memory, or whatever the area is where the reason does not ask.
    pub const fn anonymous(reason: ZapReason) -> Self {
        Self {
            reason,
            object_backed: false,
            records_writes: false,
        }
    }

    /// Of an area with an object behind it.
    pub const fn of_object(reason: ZapReason) -> Self {
        Self {
            reason,
            object_backed: true,
            records_writes: false,
        }
    }

    /// The same, and frames remember writes if `records`.
    #[must_use]
    #[inline(always)]
    pub const fn recording(self, records: bool) -> Self {
        Self {
            records_writes: records,
            ..self
        }
    }

    /// Whether anything of an entry may outlive it.
    const fn keeps_anything(self) -> bool {
        self.keeps_marks() || self.reason.keeps_poison()
    }

    const fn keeps_marks(self) -> bool {
        self.reason.keeps_marks(self.object_backed)
    }

    /// What stays of the entry.
    fn remains(self, pte: Pte) -> Pte {
        let unseen = self.reason == ZapReason::Punch && planted::is(Fault::PunchUnseen);
        let marks = self.keeps_marks() && !planted::is(Fault::DropMarkOnZap) && !unseen;
        pte.remains(marks, self.reason.keeps_poison())
    }
}

impl<M: Machine> Leaf<'_, User, M> {
    /// Takes the pages of the part out until it ends or `gather` is full; returns where to go on.
    /// Whole contiguous blocks stay folded until they are gone. What the reason keeps of an entry
    /// stays as a marker, which counts as an entry of the table: it is not reclaimed (UF-22).
    pub fn zap(&self, zap: Zap, gather: &mut Gather) -> u64 {
        match zap.keeps_anything() {
            _ if zap.records_writes => self.zap_and_record(zap, gather),
            true => self.zap_to(gather, |pte| zap.remains(pte), |_, _| {}),
            false => self.zap_to(gather, |_| Pte::NONE, |_, _| {}),
        }
    }

    /// As [`Self::zap`] where frames remember writes. The reference of the entry keeps the frame until
    /// then.
    #[inline(never)]
    fn zap_and_record(&self, zap: Zap, gather: &mut Gather) -> u64 {
        let frames = self.space.machine().frames();
        self.zap_to(
            gather,
            |pte| zap.remains(pte),
            |pte, pfn| {
                if pte.dirty() && !planted::is(Fault::ForgetDirtyOnZap) {
                    frames.set_written(pfn);
                }
            },
        )
    }

    /// As [`Self::zap`], leaving what `remains` says; `taken` is told of each entry that mapped a counted frame.
    #[inline(always)]
    fn zap_to(
        &self,
        gather: &mut Gather,
        remains: impl Fn(Pte) -> Pte + Copy,
        taken: impl Fn(Pte, Pfn) + Copy,
    ) -> u64 {
        let present = self.mapped();
        let (mut first, end) = self.indices();
        // The table is opened for writing only where there is something.
        while first < end && present != 0 && self.raw(first).is_none() {
            first += 1;
        }
        if first == end || present == 0 {
            return self.to;
        }
        let (left, at, flush) = self.write(|change| {
            let (mut left, mut flush) = (present, Flush::NOTHING);
            let mut i = first;
            // What is left of the table may be empty before the part ends.
            let cells = change.words();
            while i < end && left != 0 && gather.has_frame_room() {
                let group = change.group_end(i, end);
                let whole = cells.raw(i).is_contiguous()
                    && (change.is_whole(i, end)
                        || change.run(i, end - i, self.va_of(i), Fault::ZapWithoutUnfold) != 1);
                let (emptied, mapped) = match whole {
                    true => self.take_block(cells, i, gather, remains, taken),
                    false => self.take_pages(cells, i..group, gather, remains, taken),
                };
                if mapped {
                    flush.add(i, group - i);
                }
                left -= emptied;
                i = group;
            }
            (left, if left == 0 { end } else { i }, flush)
        });
        self.add_entries(left as i32 - present as i32);
        flush.tell(gather, |index| self.va_of(index));
        self.va_of(at)
    }

    /// Empties single entries; how many are none now and were not, and whether one mapped a frame.
    #[inline(always)]
    fn take_pages(
        &self,
        cells: Cells<'_, M>,
        indices: Range<usize>,
        gather: &mut Gather,
        remains: impl Fn(Pte) -> Pte,
        taken: impl Fn(Pte, Pfn),
    ) -> (u32, bool) {
        let format = self.space.machine().format();
        let (mut emptied, mut mapped) = (0, false);
        gather.tear_pages(indices.filter_map(|i| {
            // What the hardware may change meanwhile has no part in what remains.
            let raw = cells.raw(i);
            let rest = remains(raw);
            if rest == raw {
                return None;
            }
            let pte = cells.exchange(i, rest);
            if !rest.is_none() {
                self.space.stats().count_mark_kept();
            }
            emptied += u32::from(rest.is_none());
            // Not only what is valid: another CPU may have made it invalid and not flushed yet.
            let maps_frame = pte.maps_frame(Level::L3);
            mapped |= maps_frame;
            (maps_frame && !pte.special()).then(|| {
                let pfn = format.pa(pte, Level::L3).pfn();
                taken(pte, pfn);
                pfn
            })
        }));
        (emptied, mapped)
    }

    /// Empties the folded block at `first`.
    #[inline(always)]
    fn take_block(
        &self,
        cells: Cells<'_, M>,
        first: usize,
        gather: &mut Gather,
        remains: impl Fn(Pte) -> Pte,
        taken: impl Fn(Pte, Pfn),
    ) -> (u32, bool) {
        let block = self.table.shape().cont_entries();
        let pte = cells.raw(first);
        let rest = remains(pte);
        let mut all = pte;
        each_of_block(block, |i| {
            all = with_ad_of(all, cells.exchange(first + i, rest));
            if !rest.is_none() {
                self.space.stats().count_mark_kept();
            }
        });
        if !pte.special() {
            let pfn = self.space.machine().format().pa(pte, Level::L3).pfn();
            // What one entry says of the block holds for all of it (law 6).
            each_of_block(block, |i| taken(all, pfn.add(i as u64)));
            gather.tear_folio(pfn, block as u32);
        }
        (if rest.is_none() { block as u32 } else { 0 }, true)
    }
}
