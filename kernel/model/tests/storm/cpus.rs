//! CPUs that load and leave spaces, and run programs in them.

use arm64::attrs::Prot;
use model::Touch;
use pgtable::activation::Needs;
use pgtable::{Accessed, Machine};

use crate::world::{Range, World};

impl World {
    /// `cpu` comes to `space` as it is now.
    pub fn activate(&self, cpu: usize, space: usize) {
        let table = &self.spaces[space].table;
        let switched = self.asids.switch_to(table.asid_cell(), cpu);
        let needs = Needs::new(switched, false);
        self.machine.activate(cpu, table, needs);
        self.state().loaded[cpu] = Some((space, table.root_word()));
    }

    /// `cpu` is left with the reserved root.
    pub fn deactivate(&self, cpu: usize) {
        self.machine.deactivate(cpu);
        self.state().loaded[cpu] = None;
    }

    /// A program on a random CPU touches a page; what it faults on is done for it if `may_fault`.
    pub fn touch(&self, may_fault: bool) {
        let (cpu, write, elsewhere) = self.random(|rng| {
            let cpu = rng.below(self.cpus as u64) as usize;
            (cpu, rng.once_in(2), rng.next())
        });
        let Some((space, word)) = self.state().loaded[cpu] else {
            return;
        };
        let Some(va) = self.some_page(space) else {
            return;
        };
        match self.machine.touch(cpu, va, write, elsewhere) {
            Touch::Done(pa) => self.touched(space, va, write, pa),
            Touch::Translation if word != self.spaces[space].table.root_word() && may_fault => {
                self.activate(cpu, space);
            }
            Touch::AccessFlag | Touch::Permission if may_fault => {
                self.mark_accessed(space, va, write);
            }
            _ => {}
        }
    }

    /// A page that the ghost has, or had a moment ago.
    fn some_page(&self, space: usize) -> Option<u64> {
        let mut state = self.state();
        let count = state.ghosts[space].len() as u64;
        if count == 0 {
            return None;
        }
        let at = state.rng.below(count.min(96)) as usize;
        let (va, _) = state.ghosts[space].range(0, !0).nth(at)?;
        Some(va)
    }

    fn touched(&self, space: usize, va: u64, write: bool, pa: u64) {
        let records = self.machine.records();
        let mut state = self.state();
        let busy = state.busy.iter().any(|range| range.holds(space, va));
        if let Some(page) = state.ghosts[space].get_mut(va) {
            page.young = true;
            page.dirty |= write && records.dirty;
            if page.pa != pa && !busy {
                drop(state);
                self.fail(&format!("a program at {va:#x} reached {pa:#x}"));
            }
        }
    }

    /// The access flag fault or the first write of a page, as the fault path handles it.
    pub fn mark_accessed(&self, space: usize, va: u64, write: bool) {
        let stay = ();
        let section = self.machine.read_side(&stay);
        let Some(leaf) = self.spaces[space].table.lock_existing(va, &section) else {
            return;
        };
        let accessed = leaf.mark_accessed(va, write);
        drop(leaf);
        let mut state = self.state();
        let Some(page) = state.ghosts[space].get_mut(va) else {
            return;
        };
        let allowed =
            page.rights != 0 && (!write || page.rights & model::descriptor::right::WRITE != 0);
        if allowed != (accessed != Accessed::NotAllowed) {
            let page = *page;
            drop(state);
            self.fail(&format!("{accessed:?} at {va:#x} for {page:x?}"));
        }
        if allowed {
            page.young = true;
            page.dirty |= write;
        }
    }
}

impl Range {
    pub fn holds(&self, space: usize, va: u64) -> bool {
        self.space == space && self.start <= va && va < self.end
    }
}

/// The rights that the hardware sees for `prot` of a user page.
pub fn rights(prot: Prot) -> u8 {
    use model::descriptor::right;
    if prot.is_no_access() {
        return 0;
    }
    let write = if prot.contains(Prot::WRITE) {
        right::WRITE
    } else {
        0
    };
    let exec = if prot.contains(Prot::EXEC) {
        right::EXEC_EL0
    } else {
        0
    };
    right::EL0 | write | exec
}
