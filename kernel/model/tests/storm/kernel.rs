//! A storm over the kernel's tables: ranges come, change and go under the edit token while every
//! CPU may hold what it could see before. Nothing is ever contiguous (XC-13), and after each
//! operation no CPU translates by anything that is gone.

use std::collections::BTreeMap;

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::{Geometry, Level};
use model::ModelMachine;
use model::descriptor::right;
use pgtable::{Kernel, Machine, PageTable, TableError, Walked};

use crate::rng::Rng;
use crate::world::PAGE;

/// Two places for blocks of 2 MiB, and some pages around them.
const FIRST: u64 = 0xffff_9000_0020_0000 - 32 * PAGE;
const PAGES: u64 = 32 + 1024 + 32;
const BLOCK: u64 = Level::L2.size() / PAGE;
/// Memory that nobody else has.
const MEMORY: u64 = 1 << 40;

/// One mapped page: where, with which rights, by an entry of which level.
#[derive(Clone, Copy, Debug)]
struct Page {
    pa: u64,
    prot: Prot,
    level: Level,
}

pub struct KernelStorm {
    machine: &'static ModelMachine,
    space: PageTable<Kernel, ModelMachine>,
    pages: BTreeMap<u64, Page>,
    rng: Rng,
    seed: u64,
}

fn va(page: u64) -> u64 {
    FIRST + page * PAGE
}

fn range(start: u64, end: u64) -> VaRange {
    VaRange::new(VirtAddr::new(va(start)), VirtAddr::new(va(end))).expect("a range")
}

impl KernelStorm {
    pub fn new(machine: &'static ModelMachine, seed: u64) -> Self {
        let shape = Geometry::for_va_bits(48);
        let space = PageTable::new(machine, 1, shape).expect("a root");
        machine.mmu().load_kernel(space.root_word().root());
        Self {
            machine,
            space,
            pages: BTreeMap::new(),
            rng: Rng::new(seed),
            seed,
        }
    }

    pub fn step(&mut self) {
        let anywhere = self.rng.below(PAGES);
        let start = self.rng.pick(&[0, 32, 32 + BLOCK, anywhere]);
        let count = self.rng.pick(&[1, 3, 16, 64, BLOCK, 2 * BLOCK]);
        let end = (start + count).min(PAGES);
        match self.rng.below(3) {
            0 => self.map(start, end),
            1 => self.protect(start, end),
            _ => self.unmap(start, end),
        }
        self.check();
    }

    fn prot(&mut self) -> Prot {
        self.rng.pick(&[Prot::READ, Prot::RW, Prot::RX])
    }

    fn map(&mut self, start: u64, end: u64) {
        // Aligned like the address, or one page off.
        let off = self.rng.pick(&[0, 0, 1]) * PAGE + self.rng.below(4) * Level::L2.size();
        let pa = |page: u64| MEMORY + off + (va(page) & 0xfff_ffff);
        let prot = self.prot();
        let attrs = Attrs::kernel(prot, MemType::Normal);
        let done = self.machine.operation(|| {
            let mut edit = self.space.edit();
            edit.map(range(start, end), PhysAddr::new(pa(start)), attrs)
        });
        let expected = match self.pages.range(start..end).next() {
            Some(_) => Err(TableError::Occupied),
            None => Ok(()),
        };
        if done != expected {
            self.fail(&format!("mapping {start} to {end}: {done:?}"));
        }
        for page in (start..end).filter(|_| done.is_ok()) {
            let level = self.level_of(page);
            let pa = pa(page);
            self.pages.insert(page, Page { pa, prot, level });
        }
    }

    /// Blocks are changed as a whole.
    fn whole(&self, mut start: u64, mut end: u64) -> (u64, u64) {
        let is_block = |page| {
            let page = self.pages.get(&page);
            page.is_some_and(|page| page.level == Level::L2)
        };
        let into = |page: u64| va(page) / PAGE % BLOCK;
        if is_block(start) {
            start -= into(start);
        }
        if is_block(end - 1) {
            end += BLOCK - 1 - into(end - 1);
        }
        (start, end)
    }

    fn protect(&mut self, start: u64, end: u64) {
        let (start, end) = self.whole(start, end);
        let prot = self.prot();
        self.machine.operation(|| {
            let _nothing_to_free = self.space.edit().protect(range(start, end), prot);
        });
        let changed = self.pages.range_mut(start..end);
        changed.for_each(|(_, page)| page.prot = prot);
    }

    fn unmap(&mut self, start: u64, end: u64) {
        let (start, end) = self.whole(start, end);
        self.machine.operation(|| {
            let _nothing_to_free = self.space.edit().unmap(range(start, end));
        });
        self.pages.retain(|page, _| !(start..end).contains(page));
    }

    fn level_of(&self, page: u64) -> Level {
        let stay = ();
        match self.space.walk(va(page), &self.machine.read_side(&stay)) {
            Walked::Seen { level, .. } | Walked::Miss { level, .. } => level,
        }
    }

    fn check(&mut self) {
        if let Some(broken) = self.machine.take_violations().first() {
            self.fail(&broken.to_string());
        }
        let (tables, word) = (self.machine.tables(), self.space.root_word());
        let (mut mapped, mut contiguous) = (0, 0);
        tables.each(word.root(), word.root_level(), &mut |_, found| {
            if let Some(leaf) = found.desc.as_leaf() {
                mapped += leaf.size / PAGE;
                contiguous += u32::from(leaf.contiguous);
            }
        });
        if contiguous != 0 {
            self.fail(&format!("XC-13: {contiguous} contiguous entries"));
        }
        if mapped != self.pages.len() as u64 {
            let expected = self.pages.len();
            self.fail(&format!("{mapped} pages mapped, not {expected}"));
        }
        for cpu in 0..self.machine.cpus() {
            let page = self.rng.below(PAGES);
            for page in [0, 31, 32, 32 + BLOCK, page] {
                self.check_page(cpu, page);
            }
        }
    }

    /// A CPU translates the page to what it is, and to nothing else.
    fn check_page(&self, cpu: usize, page: u64) {
        let expected = self.pages.get(&page);
        let found = self.machine.translations(cpu, va(page));
        let right = |pa: u64, rights: u8| {
            expected.is_some_and(|page| {
                let write = page.prot.contains(Prot::WRITE) == (rights & right::WRITE != 0);
                let exec = page.prot.contains(Prot::EXEC) == (rights & right::EXEC_EL1 != 0);
                let outside = rights & (right::EL0 | right::EXEC_EL0) != 0;
                pa & !(PAGE - 1) == page.pa && write && exec && !outside
            })
        };
        let wrong = found.iter().find(|seen| !right(seen.pa, seen.leaf.rights));
        if wrong.is_some() || found.is_empty() != expected.is_none() {
            self.fail(&format!(
                "CPU {cpu} has {found:x?} for page {page}, {expected:x?}"
            ));
        }
    }

    /// Takes everything away.
    pub fn end(mut self) {
        self.unmap(0, PAGES);
        self.check();
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        panic!("TESSERA_SEED={}: {what}", self.seed);
    }
}
