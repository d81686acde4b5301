//! What is compared after every operation.

use pgtable::Machine;

use crate::world::World;

impl World {
    /// The model has nothing to report.
    #[track_caller]
    pub fn expect_no_violation(&self) {
        let broken = self.machine.take_violations();
        if let Some(first) = broken.first() {
            self.fail(&format!("{first}\n({} in all)", broken.len()));
        }
    }

    /// Tables against ghosts, references against mappings, caches against both.
    #[track_caller]
    pub fn check(&self) {
        self.expect_no_violation();
        for (number, space) in self.spaces.iter().enumerate() {
            let word = space.table.root_word();
            let tables = self.machine.tables();
            let compared =
                self.state().ghosts[number].compare(&tables, word.root(), word.root_level());
            if let Err(difference) = compared {
                self.fail(&format!("space {number}: {difference}"));
            }
        }
        self.check_references();
        (0..4).for_each(|_| self.check_translations());
    }

    fn check_references(&self) {
        let state = self.state();
        let mut expected = state.references.clone();
        for pin in state.pins.iter().chain(&state.zero) {
            *expected.entry(pin.block().raw()).or_default() += 1;
        }
        let frames = self.machine.frames();
        let wrong = expected.into_iter().find_map(|(folio, wanted)| {
            let meta = frames.meta(arm64::addr::Pfn::new(folio))?;
            let found = meta.references();
            (found != wanted).then_some((folio, found, wanted))
        });
        drop(state);
        if let Some((folio, found, wanted)) = wrong {
            self.fail(&format!(
                "folio {folio:#x}: {found} references, {wanted} mappings"
            ));
        }
    }

    /// A CPU may translate a page to nothing else than what the ghost has.
    fn check_translations(&self) {
        let mut state = self.state();
        let cpu = state.rng.below(self.cpus as u64) as usize;
        let va = 0x1000_0000 + (state.rng.below(64) << 12);
        let Some((space, _)) = state.loaded[cpu] else {
            return;
        };
        let page = state.ghosts[space].get(va);
        drop(state);
        let wrong = self
            .machine
            .translations(cpu, va)
            .into_iter()
            .find(|found| {
                page.is_none_or(|page| {
                    page.pa != found.pa & !0xfff || found.leaf.rights & 0b1011 & !page.rights != 0
                })
            });
        if let Some(found) = wrong {
            self.fail(&format!(
                "CPU {cpu} may translate {va:#x} by {found:x?}, not {page:x?}"
            ));
        }
    }
}
