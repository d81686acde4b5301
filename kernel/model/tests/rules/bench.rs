//! A space of three levels, told event by event.

use arm64::addr::{Pfn, PhysAddr};
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Level;
use arm64::pte::{Format, Pte};
use model::{Mmu, Rule, Setup};
use pgtable::activation::{Activation, Step};
use pgtable::{Invalidation, Owner, SpaceKind, TableDesc};

pub const ROOT: u64 = 0x10_0000;
pub const MIDDLE: u64 = 0x10_1000;
pub const LEAVES: u64 = 0x10_2000;
pub const SPARE: u64 = 0x10_3000;
pub const ASID: u16 = 5;
pub const T0SZ: u8 = 25;
const FORMAT: Format = Format::NORMAL;

/// The model and a list of what entries hold.
pub struct Bench {
    pub mmu: Mmu,
    words: std::collections::HashMap<u64, Pte>,
}

pub fn page(pa: u64) -> Pte {
    let attrs = Attrs::user(Prot::RW).with_young(true).with_dirty(true);
    FORMAT.leaf(PhysAddr::new(pa), attrs, Level::L3)
}

pub fn block(pa: u64) -> Pte {
    let attrs = Attrs::user(Prot::RW).with_young(true).with_dirty(true);
    FORMAT.leaf(PhysAddr::new(pa), attrs, Level::L2)
}

pub fn read_only(pa: u64) -> Pte {
    page(pa).with_prot(Prot::READ | Prot::USER)
}

/// Place of entry `index` of a table.
pub fn entry(table: u64, index: u64) -> u64 {
    table + 8 * index
}

pub fn describe(pa: u64, level: Level, id: u32, kind: SpaceKind) -> TableDesc {
    TableDesc {
        pa: PhysAddr::new(pa),
        level,
        owner: Owner { id, kind },
    }
}

impl Bench {
    /// CPUs 0 and 1 have the space loaded; its first 2 MiB have a table of pages.
    pub fn new() -> Self {
        Self::with(false)
    }

    pub fn with(bbm2: bool) -> Self {
        let setup = Setup {
            cpus: 2,
            lpa2: false,
            bbm2,
        };
        let mut bench = Self {
            mmu: Mmu::new(setup),
            words: std::collections::HashMap::new(),
        };
        bench.construct(ROOT, Level::L1);
        bench.construct(MIDDLE, Level::L2);
        bench.construct(LEAVES, Level::L3);
        bench.table(ROOT, Level::L1, MIDDLE);
        bench.table(MIDDLE, Level::L2, LEAVES);
        for cpu in 0..2 {
            bench.activate(cpu, ROOT, T0SZ, ASID);
        }
        bench.mmu.begin_operation();
        bench
    }

    pub fn construct(&mut self, pa: u64, level: Level) {
        let desc = describe(pa, level, 9, SpaceKind::User);
        self.mmu.constructed(&desc, |_| 0);
    }

    pub fn destruct(&mut self, pa: u64, level: Level) {
        self.mmu
            .destructed(&describe(pa, level, 9, SpaceKind::User));
    }

    pub fn activate(&mut self, cpu: usize, root: u64, t0sz: u8, asid: u16) {
        let root = PhysAddr::new(root);
        let steps = [
            Step::ReservedRoot,
            Step::Isb,
            Step::Tcr(t0sz),
            Step::Isb,
            Step::Root(Activation { root, t0sz, asid }),
            Step::Isb,
        ];
        steps.into_iter().for_each(|step| self.mmu.step(cpu, step));
    }

    pub fn store(&mut self, at: u64, level: Level, new: Pte) {
        let old = self.words.insert(at, new).unwrap_or(Pte::NONE);
        self.mmu.stored(PhysAddr::new(at), level, old, new);
    }

    /// Entry `index` of the table of pages.
    pub fn put(&mut self, index: u64, new: Pte) {
        self.store(entry(LEAVES, index), Level::L3, new);
    }

    pub fn take(&mut self, index: u64) {
        self.put(index, Pte::NONE);
    }

    /// Entry 0 of `parent` names `child`.
    pub fn table(&mut self, parent: u64, level: Level, child: u64) {
        self.store(parent, level, FORMAT.table(PhysAddr::new(child)));
    }

    /// Sixteen entries from `index` on, contiguous.
    pub fn put_block(&mut self, index: u64, pa: u64) {
        for i in 0..16 {
            self.put(index + i, page(pa + 0x1000 * i).with_contiguous(true));
        }
    }

    pub fn flush_of(&mut self, pages: std::ops::Range<u64>, level: Level, tables: bool) {
        let (start, end) = (pages.start << 12, pages.end << 12);
        self.mmu.before_invalidate();
        self.mmu.invalidate(&Invalidation::Range {
            asid: ASID,
            start,
            end,
            level,
            tables,
        });
    }

    pub fn flush(&mut self, pages: std::ops::Range<u64>) {
        self.flush_of(pages, Level::L3, false);
    }

    pub fn release(&mut self, pa: u64) {
        self.mmu.released(Pfn::new(pa >> 12));
    }

    /// Ends the operation: nothing was broken.
    #[track_caller]
    pub fn right(mut self) {
        self.mmu.end_operation();
        let broken = self.mmu.take_violations();
        assert!(broken.is_empty(), "{broken:#?}");
    }

    /// Ends the operation: `rule` was broken (and perhaps others by the same mistake).
    #[track_caller]
    pub fn wrong(mut self, rule: Rule) {
        self.mmu.end_operation();
        let broken = self.mmu.take_violations();
        let named = broken.iter().find(|violation| violation.rule == rule);
        let told = named.map(ToString::to_string);
        assert!(
            told.is_some_and(|told| told.contains(rule.law())),
            "{broken:#?}"
        );
    }
}
