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
        });
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
            let run = self.run_of(&leaf, at, end, what.object);
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

    /// The end of the run of pages of `object` that begins at `at`.
    fn run_of(&self, leaf: &Leaf<'_, User, M>, at: u64, end: u64, object: u32) -> u64 {
        let mut va = at;
        while va < end
            && self
                .frame_of(leaf.get(va))
                .is_some_and(|pfn| self.machine().frames().owner_of(pfn) == object)
        {
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
