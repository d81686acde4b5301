//! Entries of memory that is to carry tags (`PAGE_FAULT_ON_ACCESS`, TAG-05, TAG-06).

use arm64::addr::Pfn;
use arm64::geometry::Level;
use arm64::pte::{Invalid, Pte};
use frame::{Frames, TagBacked, UserFrame};

use crate::block::Block;
use crate::contpte::Change;
use crate::leaf::{Leaf, PAGE};
use crate::machine::Machine;
use crate::space::{SpaceKind, User};

/// The entry of `frame`, of which it owns a reference, with access if it lacked nothing but tags and
/// the frame has them: decided for each page, also of a batch (TAG-06).
#[inline(always)]
pub(crate) fn settle(frames: &Frames, pte: Pte, frame: Pfn) -> Pte {
    match pte.invalid_reason() {
        Some(Invalid::NoTagStorage) if frames.is_tagged(frame) => pte.with_tag_storage(true),
        _ => pte,
    }
}

impl<M: Machine> Leaf<'_, User, M> {
    /// Gives the entry at `va` the access that it lacks, if it maps the frame of `proof` and lacks
    /// nothing but tags; whether it did. Accessed, dirty and marks stay. An entry that becomes valid
    /// owes no flush.
    pub fn give_tags(&self, va: u64, proof: &TagBacked<UserFrame>) -> bool {
        let (index, machine) = (self.table.index(va), self.space.machine());
        let raw = self.raw(index);
        let is_meant = raw.invalid_reason() == Some(Invalid::NoTagStorage)
            && machine.format().pa(raw, Level::L3).pfn() == proof.frame().pfn();
        if !is_meant {
            return false;
        }
        self.write(|change| self.give_at(change, index, proof.frame().pfn()));
        machine.publish(SpaceKind::User);
        true
    }

    /// A reference to the page at `va` whose entry lacks nothing but tags.
    pub fn hold(&self, va: u64) -> Option<UserFrame> {
        let raw = self.raw(self.table.index(va));
        let machine = self.space.machine();
        match raw.invalid_reason() {
            Some(Invalid::NoTagStorage) => {
                let pfn = machine.format().pa(raw, Level::L3).pfn();
                machine.frames().try_pin_user(pfn)
            }
            _ => None,
        }
    }

    /// Gives all entries of the part the access that they lack whose frames have tags by now; how many.
    pub fn give_tags_to_all(&self) -> u32 {
        let (first, end) = self.indices();
        let (format, mut given) = (self.space.machine().format(), 0);
        self.write(|change| {
            for index in first..end {
                let raw = self.raw(index);
                if raw.invalid_reason() == Some(Invalid::NoTagStorage) {
                    let pfn = format.pa(raw, Level::L3).pfn();
                    given += u32::from(self.give_at(change, index, pfn));
                }
            }
        });
        self.space.machine().publish(SpaceKind::User);
        given
    }

    /// Whether the entry got access. The group around it folds if it was the last one that lacked it
    /// (XC-03).
    fn give_at(&self, change: &Change<'_, '_, M>, index: usize, pfn: Pfn) -> bool {
        let (cells, frames) = (change.words(), self.space.machine().frames());
        let old = cells.raw(index);
        let new = settle(frames, old, pfn);
        if new == old {
            return false;
        }
        cells.put(index, new);
        let last = change.group_end(index, self.table.entries()) - 1;
        let va = self.va_of(index);
        change.try_fold(last, va + (last - index) as u64 * PAGE);
        true
    }
}

impl<M: Machine> Block<'_, User, M> {
    /// As [`Leaf::hold`], to the first page of the block.
    pub fn hold(&self) -> Option<UserFrame> {
        let (machine, raw) = (self.space.machine(), self.slot().raw());
        match raw.invalid_reason() {
            Some(Invalid::NoTagStorage) => {
                let pfn = machine.format().pa(raw, self.level()).pfn();
                machine.frames().try_pin_user(pfn)
            }
            _ => None,
        }
    }

    /// As [`Leaf::give_tags`], of a block all of whose frames have tags by now (TAG-20).
    pub fn give_tags(&self) -> bool {
        let (machine, level) = (self.space.machine(), self.level());
        let raw = self.slot().raw();
        let first = machine.format().pa(raw, level).pfn();
        let pages = level.size() >> 12;
        let lacks = raw.invalid_reason() == Some(Invalid::NoTagStorage);
        if !lacks || !(0..pages).all(|page| machine.frames().is_tagged(first.add(page))) {
            return false;
        }
        let writer = crate::writer::Writer::open(machine);
        self.slot()
            .update(&writer, |pte| Some(pte.with_tag_storage(true)));
        drop(writer);
        machine.publish(SpaceKind::User);
        true
    }
}
