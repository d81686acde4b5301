//! Operations that take out and change what is mapped.

use arm64::attrs::Prot;
use model::descriptor::right;
use model::ghost::Page;
use pgtable::{Gather, Machine, Marking, Visit, Zap, ZapReason};

use crate::cpus::rights;
use crate::world::{PAGE, Range, State, World};

const RIGHTS: [Prot; 4] = [Prot::READ, Prot::RW, Prot::RX, Prot::empty()];
const MARKINGS: [Marking; 3] = [Marking::Present, Marking::Every, Marking::Clear];
const REASONS: [ZapReason; 8] = [
    ZapReason::RegionGone,
    ZapReason::RegionGone,
    ZapReason::Exit,
    ZapReason::DontNeed,
    ZapReason::ObjectTruncated,
    ZapReason::Punch,
    ZapReason::Reclaim,
    ZapReason::Migrate,
];

impl World {
    pub fn zap_some(&self) {
        let zap = self.random(|rng| Zap {
            reason: rng.pick(&REASONS),
            object_backed: rng.once_in(2),
            records_writes: rng.once_in(2),
        });
        self.describe(&format!("{zap:?}"));
        if !self.random(|rng| rng.once_in(5)) {
            return self.with_range(40, |range| self.zap(range, zap));
        }
        if let Some(range) = self.claim_all() {
            self.describe("everything");
            self.zap(range, zap);
            self.finished(range);
        }
    }

    pub fn zap(&self, range: Range, zap: Zap) {
        let stay = ();
        let section = self.machine.read_side(&stay);
        let table = &self.spaces[range.space].table;
        let (mut at, mut stuck) = (range.start, 0);
        while at < range.end && stuck < 3 {
            let mut gather = Gather::new();
            let rest = Range { start: at, ..range };
            let next = table.zap(rest.va(), zap, &mut gather, &section);
            self.gather(range.space, &mut gather);
            stuck = if next == at { stuck + 1 } else { 0 };
            at = next;
        }
        self.told_unmapped(Range { end: at, ..range }, zap);
    }

    /// The ghost of a page loses it; its folio loses a reference.
    pub fn told_gone(&self, space: usize, va: u64) -> Option<Page> {
        let mut state = self.state();
        let State {
            ghosts, references, ..
        } = &mut *state;
        let page = ghosts[space].unmap(va)?;
        if !page.special {
            // The folio may be free now, and its description gone: it is one of those known.
            let known = references.range_mut(..=page.pa >> 12).next_back();
            let (&folio, count) = known.expect("what is mapped was counted");
            *count -= 1;
            if *count == 0 {
                references.remove(&folio);
            }
        }
        Some(page)
    }

    pub fn told_unmapped(&self, range: Range, zap: Zap) {
        let Range { space, start, end } = range;
        let keeps = zap.reason.keeps_marks(zap.object_backed);
        let ghost = self.state().ghosts[space].clone();
        for va in ghost.markers(start, end) {
            self.state().ghosts[space].set_marker(va, keeps);
        }
        for (va, page) in ghost.range(start, end) {
            self.told_gone(space, va);
            if page.mark && keeps {
                self.state().ghosts[space].set_marker(va, true);
            }
        }
    }

    pub fn protect(&self, range: Range) {
        let prot = self.random(|rng| rng.pick(&RIGHTS));
        let stay = ();
        let section = self.machine.read_side(&stay);
        let table = &self.spaces[range.space].table;
        let (mut at, mut stuck) = (range.start, 0);
        while at < range.end && stuck < 3 {
            let mut gather = Gather::new();
            let rest = Range { start: at, ..range };
            let next = table.protect(rest.va(), prot, &mut gather, &section);
            self.gather(range.space, &mut gather);
            stuck = if next == at { stuck + 1 } else { 0 };
            at = next;
        }
        let mut state = self.state();
        for page in state.ghosts[range.space].range_mut(range.start, at) {
            page.rights = rights(prot);
            if page.mark || page.special {
                page.rights &= !right::WRITE;
            }
        }
    }

    /// Does `act` to the leaf tables of the range, blocks split first; returns where it ended.
    pub fn each_leaf(
        &self,
        range: Range,
        act: impl Fn(&pgtable::Leaf<'_, pgtable::User, model::ModelMachine>, &mut Gather),
    ) -> u64 {
        let stay = ();
        let section = self.machine.read_side(&stay);
        let table = &self.spaces[range.space].table;
        let mut cursor = table.cursor(range.va(), &section);
        loop {
            let mut gather = Gather::new();
            match cursor.visit() {
                None => return range.end,
                Some(Visit::Absent(_)) => {}
                Some(Visit::Table(leaf)) => act(&leaf, &mut gather),
                Some(Visit::Block(block)) => {
                    let va = block.from();
                    drop(block);
                    if let Err(error) = table.split_block(va, &section) {
                        self.expect_shortage(error);
                        return va;
                    }
                    cursor.seek(va);
                }
            }
            self.gather(range.space, &mut gather);
        }
    }

    pub fn write_protect(&self, range: Range) {
        let end = self.each_leaf(range, |leaf, gather| leaf.write_protect(gather));
        let mut state = self.state();
        for page in state.ghosts[range.space].range_mut(range.start, end) {
            page.rights &= !right::WRITE;
        }
    }

    pub fn mark(&self, range: Range) {
        let marking = self.random(|rng| rng.pick(&MARKINGS));
        if marking == Marking::Every {
            let stay = ();
            let section = self.machine.read_side(&stay);
            // With or without a table to put markers in.
            let table = &self.spaces[range.space].table;
            let _made = table.lock_leaf(range.start, &section, || true);
        }
        self.each_leaf(range, |leaf, gather| {
            leaf.mark_uffd_wp(marking, gather);
            let (start, end) = (leaf.from(), leaf.to());
            self.told_marked(
                Range {
                    start,
                    end,
                    ..range
                },
                marking,
            );
        });
    }

    fn told_marked(&self, range: Range, marking: Marking) {
        let mut state = self.state();
        let ghost = &mut state.ghosts[range.space];
        for page in ghost.range_mut(range.start, range.end) {
            page.mark = marking != Marking::Clear;
            if page.mark {
                page.rights &= !right::WRITE;
            }
        }
        for va in (range.start..range.end).step_by(PAGE as usize) {
            match marking {
                Marking::Every if ghost.is_none(va) => ghost.set_marker(va, true),
                Marking::Clear => ghost.set_marker(va, false),
                _ => {}
            }
        }
    }

    pub fn clear_young(&self, range: Range) {
        let end = self.each_leaf(range, |leaf, gather| {
            leaf.clear_young(gather);
        });
        // A contiguous block ages as a whole.
        let (start, end) = (range.start & !0xffff, (end + 0xffff) & !0xffff);
        let mut state = self.state();
        for page in state.ghosts[range.space].range_mut(start, end) {
            page.young = false;
        }
    }
}
