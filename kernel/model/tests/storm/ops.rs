//! The operations of a storm: each done by the engine, then told to the ghost.

use pgtable::{LockError, Machine, TableError};

use crate::world::{PLAYED, Range, World};

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

    pub fn end_of_shortage(&self) {
        self.machine.frames().fail_after(u64::MAX);
        self.machine.host().refuse_after(u64::MAX);
    }

    /// What CPUs do between operations.
    pub fn between(&self) {
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
        let what = self.random(|rng| rng.below(if nested { 14 } else { 25 }));
        if !nested {
            self.state().last = format!("kind {what}");
        }
        self.machine.operation(|| match what {
            0..2 => self.map_page(),
            2..4 => self.map_folio(),
            4 => self.map_folio_by_pages(),
            5..7 => self.zap_some(),
            7..9 => self.with_range(40, |range| self.protect(range)),
            9 => self.with_range(24, |range| self.write_protect(range)),
            10 => self.pin(),
            11 => self.replace(),
            12 => self.map_special(),
            13..15 => self.map_around(),
            15..17 => self.with_range(24, |range| self.mark(range)),
            17 => self.with_range(24, |range| self.clear_young(range)),
            18 => self.touch(true),
            19 => self.map_block(),
            20 => self.collapse(),
            21 => self.move_page(),
            22 => self.move_block(),
            23 => self.grow(),
            _ => self.unpin(),
        });
    }

    pub fn with_range(&self, most_pages: u64, act: impl FnOnce(Range)) {
        if let Some(range) = self.claim(most_pages) {
            self.describe(&format!("{range:x?}"));
            act(range);
            self.finished(range);
        }
    }

    pub fn describe(&self, what: &str) {
        let mut state = self.state();
        state.last.push(' ');
        state.last.push_str(what);
    }

    pub fn locked_out(&self, error: LockError) {
        match error {
            LockError::Table(TableError::Occupied) => {}
            LockError::Table(error) => self.expect_shortage(error),
            LockError::Retired => self.fail("retired"),
        }
    }

    pub fn grow(&self) {
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
    pub fn pin(&self) {
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

    pub fn unpin(&self) {
        let mut state = self.state();
        let keep = state.pins.len() / 2;
        let pins = state.pins.split_off(keep);
        drop(state);
        drop(pins);
    }
}
