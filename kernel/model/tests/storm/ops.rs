//! The operations of a storm: each done by the engine, then told to the ghost.

use arm64::addr::{VaRange, VirtAddr};
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Level;
use frame::UserFrame;
use model::descriptor::right;
use model::ghost::Page;
use pgtable::{Gather, LockError, Machine, TableError, Visit};

use crate::cpus::rights;
use crate::world::{PAGE, PLAYED, Range, State, World};

const RIGHTS: [Prot; 4] = [Prot::READ, Prot::RW, Prot::RX, Prot::empty()];

impl Range {
    fn va(&self) -> VaRange {
        let (start, end) = (VirtAddr::new(self.start), VirtAddr::new(self.end));
        VaRange::new(start, end).expect("a range")
    }
}

impl World {
    /// One operation, with everything that may happen around it, and the comparison.
    pub fn step(&self) {
        if self.random(|rng| rng.once_in(12)) {
            let (allocations, tables) = self.random(|rng| (rng.below(4), rng.below(3)));
            match self.random(|rng| rng.once_in(2)) {
                true => self.machine.frames().fail_after(allocations),
                false => self.machine.host().refuse_after(tables),
            }
        }
        self.random_operation(false);
        self.end_of_shortage();
        self.check();
        self.between();
        self.state().done += 1;
    }

    fn end_of_shortage(&self) {
        self.machine.frames().fail_after(u64::MAX);
        self.machine.host().refuse_after(u64::MAX);
    }

    /// What CPUs do between operations.
    fn between(&self) {
        let all = self.spaces.len() as u64;
        let (cpu, space, what) = self.random(|rng| {
            let most = if rng.once_in(3) { all } else { PLAYED };
            (
                rng.below(self.cpus as u64) as usize,
                rng.below(most),
                rng.below(24),
            )
        });
        self.machine.quiescent(cpu);
        match what {
            0..3 => self.activate(cpu, space as usize),
            3 => self.deactivate(cpu),
            4..10 => {
                self.graves.reap(self.machine, 4);
            }
            _ => (0..3).for_each(|_| self.touch(true)),
        }
        self.expect_no_violation();
    }

    pub fn random_operation(&self, nested: bool) {
        let what = self.random(|rng| rng.below(if nested { 11 } else { 20 }));
        if !nested {
            self.state().last = format!("kind {what}");
        }
        self.machine.operation(|| match what {
            0..2 => self.map_page(),
            2..4 => self.map_folio(),
            4 => self.map_folio_by_pages(),
            5..7 => self.with_range(40, |range| self.zap(range)),
            7..9 => self.with_range(40, |range| self.protect(range)),
            9 => self.with_range(24, |range| self.write_protect(range)),
            10 => self.pin(),
            11 => self.with_range(24, |range| self.mark(range)),
            12 => self.with_range(24, |range| self.clear_young(range)),
            13 => self.touch(true),
            14 => self.map_block(),
            15 => self.collapse(),
            16 => self.move_page(),
            17 => self.move_block(),
            18 => self.grow(),
            _ => self.unpin(),
        });
    }

    fn with_range(&self, most_pages: u64, act: impl FnOnce(Range)) {
        if let Some(range) = self.claim(most_pages) {
            self.describe(&format!("{range:x?}"));
            act(range);
            self.finished(range);
        }
    }

    fn describe(&self, what: &str) {
        let mut state = self.state();
        state.last.push(' ');
        state.last.push_str(what);
    }

    fn folio_of(&self, frame: u64) -> u64 {
        let meta = self.machine.frames().meta(arm64::addr::Pfn::new(frame));
        meta.map_or(frame, |meta| frame - meta.head_offset())
    }

    fn fresh(&self, order: u8) -> Option<UserFrame> {
        let fresh = self.machine.frames().alloc_fresh(order, false).ok()?;
        Some(fresh.into_user())
    }

    fn attrs(&self) -> (Attrs, Page) {
        let (prot, young, dirty) = self.random(|rng| {
            let prot = rng.pick(&[Prot::RW, Prot::RW, Prot::READ, Prot::RX]);
            (prot, rng.once_in(2), rng.once_in(3) && prot == Prot::RW)
        });
        let attrs = Attrs::user(prot).with_young(young).with_dirty(dirty);
        let page = Page {
            pa: 0,
            rights: rights(prot),
            young,
            dirty,
            mark: false,
        };
        (attrs, page)
    }

    /// Tells the ghost of `count` mapped pages.
    fn told_mapped(&self, space: usize, va: u64, frame: u64, count: u64, page: Page) {
        let folio = self.folio_of(frame);
        let mut state = self.state();
        for i in 0..count {
            let pa = (frame + i) << 12;
            state.mapped(space, va + i * PAGE, Page { pa, ..page }, folio);
        }
    }

    fn locked_out(&self, error: LockError) {
        match error {
            LockError::Table(TableError::Occupied) => {}
            LockError::Table(error) => self.expect_shortage(error),
            LockError::Retired => self.fail("retired"),
        }
    }

    fn map_page(&self) {
        self.with_range(1, |range| {
            let Some(frame) = self.fresh(0) else { return };
            let (attrs, page) = self.attrs();
            self.install(range.space, range.start, frame, attrs, page);
        });
    }

    /// Maps one page; false: something is there, or no memory.
    fn install(&self, space: usize, va: u64, frame: UserFrame, attrs: Attrs, page: Page) -> bool {
        let stay = ();
        let section = self.machine.read_side(&stay);
        let pfn = frame.pfn().raw();
        let installed = match self.spaces[space].table.lock_leaf(va, &section, || true) {
            Ok(leaf) => leaf.install(va, frame, attrs).is_ok(),
            Err(error) => {
                self.locked_out(error);
                return false;
            }
        };
        if installed != self.state().ghosts[space].get(va).is_none() {
            self.fail(&format!("installed at {va:#x}: {installed}"));
        }
        if installed {
            self.told_mapped(space, va, pfn, 1, page);
        }
        installed
    }

    fn map_folio(&self) {
        let Some(range) = self.claim(48) else { return };
        self.describe(&format!("folio {range:x?}"));
        let order = self.random(|rng| 4 + rng.below(2)) as u8;
        if let Some(folio) = self.fresh(order) {
            let skip = self.random(|rng| if rng.once_in(3) { rng.below(16) } else { 0 });
            let pages = (range.end - range.start) / PAGE;
            let in_table = 512 - (range.start / PAGE) % 512;
            let count = pages.min((1 << order) - skip).min(in_table);
            self.install_folio(range, &folio, skip, count);
        }
        self.finished(range);
    }

    fn install_folio(&self, range: Range, folio: &UserFrame, skip: u64, count: u64) {
        let (attrs, mut page) = self.attrs();
        let Range { space, start, .. } = range;
        let records = self.machine.records_access();
        let touched = records.then(|| start + self.random(|rng| rng.below(count)) * PAGE);
        let stay = ();
        let section = self.machine.read_side(&stay);
        let leaf = match self.spaces[space].table.lock_leaf(start, &section, || true) {
            Ok(leaf) => leaf,
            Err(error) => return self.locked_out(error),
        };
        let frame = folio.page(skip);
        let pfn = frame.pfn().raw();
        let installed = leaf.install_folio(start, frame, count as usize, attrs, touched);
        drop(leaf);
        if installed.is_err() {
            return;
        }
        let born = (page.young, page.dirty);
        if touched.is_some() {
            (page.young, page.dirty) = (false, false);
        }
        self.told_mapped(space, start, pfn, count, page);
        if let Some(page) = touched.and_then(|at| self.state().ghosts[space].get_mut(at).copied()) {
            let (young, dirty) = born;
            let at = touched.unwrap_or(start);
            self.state().ghosts[space].map(
                at,
                Page {
                    young,
                    dirty,
                    ..page
                },
            );
        }
    }

    /// Page by page, so that the engine folds by itself.
    fn map_folio_by_pages(&self) {
        let Some(range) = self.claim(32) else { return };
        self.describe(&format!("by pages {range:x?}"));
        let first = range.start / PAGE % 16;
        if let Some(folio) = self.fresh(5) {
            let (attrs, page) = self.attrs();
            let pages = ((range.end - range.start) / PAGE).min(32 - first);
            for i in 0..pages {
                let frame = folio.page(first + i);
                self.install(range.space, range.start + i * PAGE, frame, attrs, page);
            }
        }
        self.finished(range);
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

    fn told_unmapped(&self, range: Range) {
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

    fn protect(&self, range: Range) {
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
    fn each_leaf(
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

    fn write_protect(&self, range: Range) {
        let end = self.each_leaf(range, |leaf, gather| leaf.write_protect(gather));
        let mut state = self.state();
        for page in state.ghosts[range.space].range_mut(range.start, end) {
            page.rights &= !right::WRITE;
        }
    }

    fn mark(&self, range: Range) {
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

    fn clear_young(&self, range: Range) {
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

    fn map_block(&self) {
        let Some(range) = self.claim_block() else {
            return;
        };
        self.describe(&format!("block {range:x?}"));
        let Range { space, start, .. } = range;
        if let Some(folio) = self.fresh(9) {
            let (attrs, page) = self.attrs();
            let stay = ();
            let section = self.machine.read_side(&stay);
            let (pfn, pa) = (folio.pfn().raw(), folio.pfn().start());
            let table = &self.spaces[space].table;
            match table.map_block(start, Level::L2, pa, Some(folio), attrs, &section) {
                Ok(()) => self.told_mapped(space, start, pfn, 512, page),
                Err(error) => self.locked_out(error),
            }
        }
        self.finished(range);
    }

    fn collapse(&self) {
        let Some(range) = self.claim_block() else {
            return;
        };
        self.describe(&format!("collapse {range:x?}"));
        let stay = ();
        let section = self.machine.read_side(&stay);
        let table = &self.spaces[range.space].table;
        if self.random(|rng| rng.once_in(2)) {
            let _made_or_short = table.split_block(range.start, &section);
        }
        let mut gather = Gather::new();
        let _folded_or_not = table.collapse(range.start, &mut gather, &section);
        self.gather(range.space, &mut gather);
        self.finished(range);
    }

    fn move_page(&self) {
        let Some(from) = self.claim(1) else { return };
        if let Some(to) = self.claim(1) {
            self.describe(&format!("move {from:x?} {to:x?}"));
            if from.space == to.space {
                self.move_between(from.space, from.start, to.start);
            }
            self.finished(to);
        }
        self.finished(from);
    }

    fn move_between(&self, space: usize, from: u64, to: u64) {
        let stay = ();
        let section = self.machine.read_side(&stay);
        let table = &self.spaces[space].table;
        // The target's table first: it may fail (D3).
        match table.lock_leaf(to, &section, || true) {
            Ok(leaf) if leaf.is_empty(to, 1) => {}
            Ok(_) => return,
            Err(error) => return self.locked_out(error),
        }
        let mut gather = Gather::new();
        let moved = table
            .lock_existing(from, &section)
            .and_then(|leaf| leaf.take_moved(from, &mut gather));
        if let Some(moved) = moved {
            // Another CPU may have reclaimed the empty table meanwhile; the shortage is over.
            self.end_of_shortage();
            match table.lock_leaf(to, &section, || true) {
                Ok(leaf) => {
                    let put = leaf.put_moved(to, moved);
                    put.unwrap_or_else(|_| self.fail("the target was empty"));
                }
                Err(error) => self.fail(&format!("the target's table: {error:?}")),
            }
            let mut state = self.state();
            if let Some(page) = state.ghosts[space].unmap(from) {
                state.ghosts[space].map(to, page);
            }
        }
        self.gather(space, &mut gather);
    }

    /// A block moves to the next 2 MiB and back, so that it meets its own old translations.
    fn move_block(&self) {
        let Some(range) = self.claim_block() else {
            return;
        };
        self.describe(&format!("move block {range:x?}"));
        let stay = ();
        let section = self.machine.read_side(&stay);
        let table = &self.spaces[range.space].table;
        let to = range.start + (4 << 20);
        for (from, to) in [(range.start, to), (to, range.start)] {
            let from = Range {
                start: from,
                end: from + (2 << 20),
                ..range
            };
            let mut gather = Gather::new();
            let moved = match table.cursor(from.va(), &section).visit() {
                Some(Visit::Block(block)) if block.is_whole() => block.take_moved(&mut gather),
                _ => continue,
            };
            // Flushed before it is put: without memory for a table it has to go back.
            self.gather(range.space, &mut gather);
            let put = table.put_moved_block(to, moved, &section);
            if let Err((error, moved)) = put {
                self.locked_out(error);
                let back = table.put_moved_block(from.start, moved, &section);
                if back.is_err() {
                    self.fail("the way back was free");
                }
                break;
            }
            self.told_moved(range.space, from.start, to);
        }
        self.finished(range);
    }

    fn told_moved(&self, space: usize, from: u64, to: u64) {
        let mut state = self.state();
        let pages: Vec<_> = state.ghosts[space].range(from, from + (2 << 20)).collect();
        for (va, page) in pages {
            state.ghosts[space].unmap(va);
            state.ghosts[space].map(va - from + to, page);
        }
    }

    fn grow(&self) {
        if !self.random(|rng| rng.once_in(4)) {
            return self.touch(true);
        }
        let space = self.random(|rng| rng.below(PLAYED)) as usize;
        match self.spaces[space].table.grow() {
            Ok(_) | Err(TableError::BadRange) => {}
            Err(error) => self.expect_shortage(error),
        }
    }

    /// Pins a page: what comes back is mapped there.
    fn pin(&self) {
        let Some(range) = self.claim(1) else { return };
        let stay = ();
        let section = self.machine.read_side(&stay);
        let table = &self.spaces[range.space].table;
        // Other CPUs may do what they like to the page meanwhile.
        self.finished(range);
        if let Ok(frame) = table.pin(range.start, &section) {
            let mut state = self.state();
            let page = state.ghosts[range.space].get(range.start);
            let right = page.is_some_and(|page| page.pa >> 12 == frame.pfn().raw());
            if !right
                && !state
                    .busy
                    .iter()
                    .any(|busy| busy.holds(range.space, range.start))
            {
                drop(state);
                self.fail(&format!("pinned {frame:?}, mapped is {page:x?}"));
            }
            state.pins.push(frame);
        }
    }

    fn unpin(&self) {
        let mut state = self.state();
        let keep = state.pins.len() / 2;
        let pins = state.pins.split_off(keep);
        drop(state);
        drop(pins);
    }
}
