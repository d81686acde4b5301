//! What an object asks a space: to take its pages out (D14).

use arm64::addr::Pfn;
use arm64::geometry::Level;
use arm64::pte::Entry;
use pgtable::{Gather, Leaf, Machine, User, Value, Visit, Zap, ZapReason};

use crate::change::range;
use crate::object::{Mapper, UnmapReason, Unmapping};
use crate::space::Space;
use crate::trace::Kind;

/// What looking at a table costs, in pages of the caller's budget.
const TABLE_COST: u32 = 32;
/// The same, of a few pages of it.
const SMALL_COST: u32 = 4;
/// Fewest and most pages that are made clean at a time (law 16).
const CLEANED: (u32, u32) = (16, 64);

impl<M: Machine> Mapper for Space<M> {
    fn id(&self) -> u32 {
        self.table().owner().id
    }

    fn unmap(&self, what: &Unmapping, budget: &mut u32) -> u64 {
        let stay = ();
        let section = self.machine().read_side(&stay);
        let end = what.end.min(self.end());
        let Some(range) = range(what.start, end) else {
            return what.end;
        };
        let why = Zap::of_object(match what.reason {
            UnmapReason::Truncated => ZapReason::ObjectTruncated,
            UnmapReason::Punch => ZapReason::Punch,
            UnmapReason::Clean => ZapReason::Reclaim,
            UnmapReason::Moved => ZapReason::Migrate,
        })
        .recording(self.records_writes());
        *budget = budget.saturating_sub(TABLE_COST);
        let mut gather = Gather::new();
        let reached = match what.copies {
            true => self.table().zap(range, why, &mut gather, &section),
            false => {
                let mut cursor = self.table().cursor(range, &section);
                match cursor.visit() {
                    Some(Visit::Table(leaf)) => self.unmap_pages(leaf, what, why, &mut gather),
                    // Objects are mapped by pages; a block has private copies only.
                    Some(Visit::Block(_) | Visit::Absent(_)) | None => cursor.at(),
                }
            }
        };
        self.tell(Kind::Zap, what.start, gather.page_count());
        *budget = budget.saturating_sub(gather.page_count() as u32);
        self.release(&mut gather);
        if reached < end { reached } else { what.end }
    }

    fn clean(&self, start: u64, end: u64, object: u32, budget: &mut u32) -> u64 {
        let stay = ();
        let section = self.machine().read_side(&stay);
        let most = u64::from((*budget).clamp(CLEANED.0, CLEANED.1));
        let stop = end.min(self.end()).min(start.saturating_add(most << 12));
        let Some(range) = range(start, stop) else {
            return end;
        };
        *budget = budget.saturating_sub(SMALL_COST);
        let frames = self.machine().frames();
        let mut gather = Gather::new();
        let mut cursor = self.table().cursor(range, &section);
        if let Some(Visit::Table(leaf)) = cursor.visit() {
            let pages = (leaf.to() - leaf.from()) >> 12;
            *budget = budget.saturating_sub(pages as u32);
            leaf.clean(
                &mut gather,
                |pfn| frames.owner_of(pfn) == object,
                |pfn| frames.set_written(pfn),
            );
        }
        let reached = cursor.at();
        self.release(&mut gather);
        if reached < end.min(self.end()) {
            reached
        } else {
            end
        }
    }
}

impl<M: Machine> Space<M> {
    /// Takes out the pages of one table that are the object's, and leaves private copies. Returns
    /// where to go on.
    fn unmap_pages(
        &self,
        mut leaf: Leaf<'_, User, M>,
        what: &Unmapping,
        why: Zap,
        gather: &mut Gather,
    ) -> u64 {
        let (mut at, end) = (leaf.from(), leaf.to());
        while at < end {
            let run = self.run_of(&leaf, at, end, what);
            if run == at {
                at += 1 << 12;
                continue;
            }
            leaf.narrow(at, run);
            let reached = leaf.zap(why, gather);
            if reached < run {
                return reached;
            }
            at = run;
        }
        end
    }

    /// The end of the run of pages to be taken out that begins at `at`.
    fn run_of(&self, leaf: &Leaf<'_, User, M>, at: u64, end: u64, what: &Unmapping) -> u64 {
        let is_meant = |value: Value| {
            let spared = what.reason == UnmapReason::Clean && value.dirty();
            !spared
                && self
                    .frame_of(value)
                    .is_some_and(|pfn| self.machine().frames().owner_of(pfn) == what.object)
        };
        let mut va = at;
        while va < end && is_meant(leaf.get(va)) {
            va += 1 << 12;
        }
        va
    }

    fn frame_of(&self, value: Value) -> Option<Pfn> {
        match value.decode(self.machine().format(), Level::L3) {
            Entry::Leaf { pa, .. } | Entry::PresentInvalid { pa, .. } => Some(pa.pfn()),
            _ => None,
        }
    }
}
