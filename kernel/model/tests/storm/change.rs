//! Operations that take out and change what is mapped.

use arm64::attrs::Prot;
use model::descriptor::right;
use pgtable::{Gather, Machine, Visit};

use crate::cpus::rights;
use crate::world::{Range, State, World};

const RIGHTS: [Prot; 4] = [Prot::READ, Prot::RW, Prot::RX, Prot::empty()];

impl World {
    pub fn zap_some(&self) {
        if !self.random(|rng| rng.once_in(5)) {
            return self.with_range(40, |range| self.zap(range));
        }
        if let Some(range) = self.claim_all() {
            self.describe("everything");
            self.zap(range);
            self.finished(range);
        }
    }

    pub fn zap(&self, range: Range) {
        let stay = ();
        let section = self.machine.read_side(&stay);
        let table = &self.spaces[range.space].table;
        let (mut at, mut stuck) = (range.start, 0);
        while at < range.end && stuck < 3 {
            let mut gather = Gather::new();
            let rest = Range { start: at, ..range };
            let next = table.zap(rest.va(), &mut gather, &section);
            self.gather(range.space, &mut gather);
            stuck = if next == at { stuck + 1 } else { 0 };
            at = next;
        }
        self.told_unmapped(Range { end: at, ..range });
    }

    pub fn told_unmapped(&self, range: Range) {
        let mut state = self.state();
        let State {
            ghosts, references, ..
        } = &mut *state;
        let gone: Vec<_> = ghosts[range.space].range(range.start, range.end).collect();
        for (va, page) in gone {
            ghosts[range.space].unmap(va);
            // The folio may be free now, and its description gone: it is one of those known.
            let known = references.range_mut(..=page.pa >> 12).next_back();
            let (&folio, count) = known.expect("what is mapped was counted");
            *count -= 1;
            if *count == 0 {
                references.remove(&folio);
            }
        }
    }

    pub fn protect(&self, range: Range) {
        let mut prot = self.random(|rng| rng.pick(&RIGHTS));
        let marked = self.state().ghosts[range.space]
            .range(range.start, range.end)
            .any(|(_, page)| page.mark);
        if marked && prot == Prot::RW {
            prot = Prot::READ;
        }
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
        let on = self.random(|rng| rng.once_in(2));
        let end = self.each_leaf(range, |leaf, gather| leaf.mark_uffd_wp(on, gather));
        let mut state = self.state();
        for page in state.ghosts[range.space].range_mut(range.start, end) {
            page.mark = on;
            if on {
                page.rights &= !right::WRITE;
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
