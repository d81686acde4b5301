//! Operations that move entries, and make blocks of tables.

use pgtable::{Gather, Machine, Visit};

use crate::world::{Range, World};

impl World {
    pub fn collapse(&self) {
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

    pub fn move_page(&self) {
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

    pub fn move_between(&self, space: usize, from: u64, to: u64) {
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
            let ghost = &mut state.ghosts[space];
            if let Some(page) = ghost.unmap(from) {
                ghost.map(to, page);
            }
            if ghost.has_marker(from) {
                ghost.set_marker(from, false);
                ghost.set_marker(to, true);
            }
        }
        self.gather(space, &mut gather);
    }

    /// A block moves to the next 2 MiB and back, so that it meets its own old translations.
    pub fn move_block(&self) {
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

    pub fn told_moved(&self, space: usize, from: u64, to: u64) {
        let mut state = self.state();
        let pages: Vec<_> = state.ghosts[space].range(from, from + (2 << 20)).collect();
        for (va, page) in pages {
            state.ghosts[space].unmap(va);
            state.ghosts[space].map(va - from + to, page);
        }
    }
}
