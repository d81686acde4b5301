//! A space that two CPUs have loaded.

use arm64::addr::{VaRange, VirtAddr};
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Geometry;
use frame::UserFrame;
use model::descriptor::Leaf;
use model::{ModelMachine, Records, Setup};
use pgtable::activation::Needs;
use pgtable::{
    Gather, Graveyard, LockError, Machine, Marking, PageTable, Pause, ReadSide, User, Value, Visit,
    Zap,
};

pub const PAGE: u64 = 4096;
/// Where most scripts play: the beginning of a leaf table.
pub const BASE: u64 = 0x1000_0000;
pub const ASID: u16 = 5;

pub struct Stage {
    pub machine: &'static ModelMachine,
    pub space: PageTable<User, ModelMachine>,
    pub graves: Graveyard,
}

pub fn range(start: u64, pages: u64) -> VaRange {
    VaRange::from_len(VirtAddr::new(start), pages * PAGE).expect("a range")
}

/// A machine of two CPUs that record accesses by themselves.
pub fn machine() -> &'static ModelMachine {
    let setup = Setup {
        cpus: 2,
        lpa2: false,
        bbm2: false,
    };
    let records = Records {
        access: true,
        dirty: true,
    };
    ModelMachine::new(4096, setup, records)
}

impl Stage {
    pub fn new() -> Self {
        let machine = machine();
        let space = PageTable::new(machine, 9, Geometry::for_va_bits(39)).expect("a root");
        space.asid_cell().set(ASID);
        (0..2).for_each(|cpu| machine.activate(cpu, &space, Needs::default()));
        let graves = Graveyard::new();
        Self {
            machine,
            space,
            graves,
        }
    }

    /// A new folio of `1 << order` pages.
    pub fn folio(&self, order: u8) -> UserFrame {
        let fresh = self.machine.frames().alloc_fresh(order, false);
        fresh.expect("memory").into_user()
    }

    pub fn install(&self, va: u64, frame: UserFrame, prot: Prot) -> Result<(), LockError> {
        let stay = ();
        let section = self.machine.read_side(&stay);
        let leaf = self.space.lock_leaf(va, &section, || true)?;
        let installed = leaf.install(va, frame, Attrs::user(prot));
        assert!(installed.is_ok(), "nothing is at {va:#x}");
        Ok(())
    }

    /// A new page at `va`.
    pub fn fill(&self, va: u64, prot: Prot) {
        let page = self.folio(0);
        self.machine
            .operation(|| self.install(va, page, prot))
            .expect("a table for it");
    }

    /// Sixteen pages of one folio from `va` on, installed at once and folded.
    pub fn fill_block(&self, va: u64, prot: Prot) {
        let stay = ();
        let section = self.machine.read_side(&stay);
        let folio = self.folio(4);
        self.machine.operation(|| {
            let leaf = self
                .space
                .lock_leaf(va, &section, || true)
                .expect("a table");
            let installed = leaf.install_folio(va, folio, 16, Attrs::user(prot), None);
            assert!(installed.is_ok(), "nothing is at {va:#x}");
        });
        assert!(self.leaf(va).expect("just mapped").contiguous);
    }

    pub fn flush(&self, gather: &mut Gather) {
        let flushed = gather.flush(&self.space);
        gather.release(self.machine, &self.graves, &flushed);
    }

    pub fn zap(&self, start: u64, pages: u64) {
        self.zap_for(start, pages, Zap::REGION_GONE);
    }

    pub fn zap_for(&self, start: u64, pages: u64, zap: Zap) {
        self.in_steps(start, pages, |rest, gather, section| {
            self.space.zap(rest, zap, gather, section)
        });
    }

    fn in_steps(
        &self,
        start: u64,
        pages: u64,
        step: impl Fn(VaRange, &mut Gather, &ReadSide<'_>) -> u64,
    ) {
        let end = start + pages * PAGE;
        self.machine.operation(|| {
            let mut at = start;
            while at < end {
                let stay = ();
                let section = self.machine.read_side(&stay);
                let mut gather = Gather::new();
                at = step(range(at, (end - at) / PAGE), &mut gather, &section);
                self.flush(&mut gather);
            }
        });
    }

    pub fn protect(&self, start: u64, pages: u64, prot: Prot) {
        self.in_steps(start, pages, |rest, gather, section| {
            self.space.protect(rest, prot, gather, section)
        });
    }

    /// The entry of `va` as the engine shows it.
    pub fn look(&self, va: u64) -> Value {
        let stay = ();
        let section = self.machine.read_side(&stay);
        self.space.look(va, &section).value
    }

    /// Does `act` to the leaf table of `va`, made if it is missing; then flushes.
    pub fn with_leaf<R>(
        &self,
        va: u64,
        act: impl FnOnce(&pgtable::Leaf<'_, User, ModelMachine>, &mut Gather) -> R,
    ) -> R {
        let stay = ();
        let section = self.machine.read_side(&stay);
        self.machine.operation(|| {
            let mut gather = Gather::new();
            let leaf = self.space.lock_leaf(va, &section, || true);
            let result = act(&leaf.expect("a table"), &mut gather);
            self.flush(&mut gather);
            result
        })
    }

    /// Marks the pages of a range.
    pub fn mark(&self, start: u64, pages: u64, marking: Marking) {
        let stay = ();
        let section = self.machine.read_side(&stay);
        self.machine.operation(|| {
            let mut gather = Gather::new();
            let mut cursor = self.space.cursor(range(start, pages), &section);
            while let Some(visit) = cursor.visit() {
                if let Visit::Table(leaf) = visit {
                    leaf.mark_uffd_wp(marking, &mut gather);
                }
            }
            self.flush(&mut gather);
        });
    }

    /// What the hardware finds at `va`.
    pub fn leaf(&self, va: u64) -> Option<Leaf> {
        let (tables, word) = (self.machine.tables(), self.space.root_word());
        let found = tables.walk(word.root(), word.root_level(), va);
        tables.gathered(&found)
    }

    /// What other CPUs do at `place`, once.
    pub fn once_at(&self, place: Pause, act: impl FnOnce() + Send + 'static) {
        let mut act = Some(act);
        self.machine.set_hook(Some(Box::new(move |at| {
            if at == place
                && let Some(act) = act.take()
            {
                act();
            }
        })));
    }

    /// Nothing was broken.
    #[track_caller]
    pub fn right(&self) {
        let broken = self.machine.take_violations();
        assert!(broken.is_empty(), "{}", broken[0]);
    }

    /// Every grace period that was waited for is over: what was buried is destructed.
    pub fn settle(&self) {
        while !self.graves.is_empty() {
            self.graves.reap(self.machine, 99);
            self.machine.pass_grace_period();
        }
    }
}
