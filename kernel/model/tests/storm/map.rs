//! Operations that map.

use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Level;
use frame::{FramePins, UserFrame};
use model::descriptor::right;
use model::ghost::Page;
use pgtable::{Gather, Machine};

use crate::cpus::rights;
use crate::world::{PAGE, Range, World};

impl World {
    pub fn folio_of(&self, frame: u64) -> u64 {
        let meta = self.machine.frames().meta(arm64::addr::Pfn::new(frame));
        meta.map_or(frame, |meta| frame - meta.head_offset())
    }

    pub fn fresh(&self, order: u8) -> Option<UserFrame> {
        let fresh = self.machine.frames().alloc_fresh(order, false).ok()?;
        Some(fresh.into_user())
    }

    pub fn attrs(&self) -> (Attrs, Page) {
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
            special: false,
        };
        (attrs, page)
    }

    /// Tells the ghost of `count` mapped pages.
    pub fn told_mapped(&self, space: usize, va: u64, frame: u64, count: u64, page: Page) {
        let folio = self.folio_of(frame);
        let mut state = self.state();
        for i in 0..count {
            let pa = (frame + i) << 12;
            state.mapped(space, va + i * PAGE, Page { pa, ..page }, folio);
        }
    }

    pub fn map_page(&self) {
        self.with_range(1, |range| {
            let Some(frame) = self.fresh(0) else { return };
            let (attrs, page) = self.attrs();
            self.install(range.space, range.start, frame, attrs, page);
        });
    }

    /// Maps one page; false: something is there, or no memory.
    pub fn install(
        &self,
        space: usize,
        va: u64,
        frame: UserFrame,
        attrs: Attrs,
        page: Page,
    ) -> bool {
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
        if installed != self.state().ghosts[space].is_none(va) {
            self.fail(&format!("installed at {va:#x}: {installed}"));
        }
        if installed {
            self.told_mapped(space, va, pfn, 1, page);
        }
        installed
    }

    /// Another page, or the first one, where the tables say what they said a moment ago.
    pub fn replace(&self) {
        self.with_range(1, |range| {
            let Some(frame) = self.fresh(0) else { return };
            let (attrs, page) = self.attrs();
            let stay = ();
            let section = self.machine.read_side(&stay);
            let (space, va, pfn) = (range.space, range.start, frame.pfn().raw());
            let table = &self.spaces[space].table;
            let was = table.look(va, &section).value;
            let mut gather = Gather::new();
            let leaf = match table.lock_leaf(va, &section, || true) {
                Ok(leaf) => leaf,
                Err(error) => return self.locked_out(error),
            };
            if leaf.replace(va, was, frame, attrs, &mut gather).is_err() {
                self.fail("another operation changed a page that was claimed");
            }
            drop(leaf);
            self.gather(space, &mut gather);
            self.told_replaced(space, va, pfn, page);
        });
    }

    fn told_replaced(&self, space: usize, va: u64, pfn: u64, mut page: Page) {
        let old = self.told_gone(space, va);
        page.mark = old.is_some_and(|old| old.mark) || self.state().ghosts[space].has_marker(va);
        if page.mark {
            page.rights &= !right::WRITE;
        }
        self.state().ghosts[space].set_marker(va, false);
        self.told_mapped(space, va, pfn, 1, page);
    }

    /// The resident neighbours of a page: some of a folio, where nothing is.
    pub fn map_around(&self) {
        let Some(range) = self.claim(48) else { return };
        self.describe(&format!("around {range:x?}"));
        if let Some(folio) = self.fresh(6) {
            self.install_around(range, &folio);
        }
        self.finished(range);
    }

    fn install_around(&self, range: Range, folio: &UserFrame) {
        let (attrs, page) = self.attrs();
        let (holes, touched) = self.random(|rng| {
            let holes = if rng.once_in(2) {
                rng.next() & rng.next()
            } else {
                0
            };
            (holes, range.start + rng.below(48) * PAGE)
        });
        let resident = |va: u64| (holes >> (va / PAGE % 64) & 1 == 0).then_some(va / PAGE % 64);
        let stay = ();
        let section = self.machine.read_side(&stay);
        let table = &self.spaces[range.space].table;
        let (leaf, to) = match table.lock_leaf(range.start, &section, || true) {
            Ok(leaf) => {
                let to = range.end.min(leaf.to());
                (leaf, to)
            }
            Err(error) => return self.locked_out(error),
        };
        let ghost = self.state().ghosts[range.space].clone();
        let window = (range.start, range.end);
        let find = |va, wanted: u32, pins: &mut FramePins| {
            for place in (0..FramePins::PLACES).filter(|place| wanted >> place & 1 != 0) {
                if let Some(number) = resident(va + place as u64 * PAGE) {
                    pins.put(place, folio.page(number));
                }
            }
        };
        let done = leaf.install_around(window, attrs, touched, find);
        drop(leaf);
        let mut mapped = 0;
        for va in (range.start..to).step_by(PAGE as usize) {
            let Some(number) = resident(va).filter(|_| ghost.is_none(va)) else {
                continue;
            };
            let page = match va == touched {
                true => page,
                false => Page {
                    young: page.young && !self.machine.records_access(),
                    dirty: false,
                    ..page
                },
            };
            self.told_mapped(range.space, va, folio.pfn().raw() + number, 1, page);
            mapped += 1;
        }
        if done.mapped != mapped {
            self.fail(&format!("{done:?}, expected {mapped}"));
        }
    }

    /// The shared page of zeros.
    pub fn map_special(&self) {
        self.with_range(1, |range| {
            let (space, va) = (range.space, range.start);
            let zero = self.state().zero.as_ref().map(|zero| zero.pfn());
            let Some(pfn) = zero else { return };
            let stay = ();
            let section = self.machine.read_side(&stay);
            let leaf = match self.spaces[space].table.lock_leaf(va, &section, || true) {
                Ok(leaf) => leaf,
                Err(error) => return self.locked_out(error),
            };
            let installed = leaf.install_special(va, pfn, Attrs::user(Prot::RW));
            let mut state = self.state();
            if installed.is_ok() != state.ghosts[space].is_none(va) {
                drop(state);
                self.fail(&format!("zeros at {va:#x}: {installed:?}"));
            }
            if installed.is_ok() {
                let page = Page {
                    pa: pfn.start().raw(),
                    rights: rights(Prot::READ),
                    young: false,
                    dirty: false,
                    mark: false,
                    special: true,
                };
                state.ghosts[space].map(va, page);
            }
        });
    }

    pub fn map_folio(&self) {
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

    pub fn install_folio(&self, range: Range, folio: &UserFrame, skip: u64, count: u64) {
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
    pub fn map_folio_by_pages(&self) {
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

    pub fn map_block(&self) {
        let Some(range) = self.claim_block() else {
            return;
        };
        self.describe(&format!("block {range:x?}"));
        let Range { space, start, .. } = range;
        if let Some(folio) = self.fresh(9) {
            let (attrs, page) = self.attrs();
            let stay = ();
            let section = self.machine.read_side(&stay);
            let pfn = folio.pfn().raw();
            let table = &self.spaces[space].table;
            match table.map_block(start, Level::L2, folio, attrs, &section, || true) {
                Ok(()) => self.told_mapped(space, start, pfn, 512, page),
                Err((error, _)) => self.locked_out(error),
            }
        }
        self.finished(range);
    }
}
