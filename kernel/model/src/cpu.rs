//! One CPU: TTBR0, TCR_EL1.T0SZ, and which identifiers it may have translations of.

use std::collections::HashMap;

use arm64::addr::PhysAddr;
use arm64::geometry::Level;

use crate::mmu::Mmu;
use crate::report::Rule;

/// One step of a CPU towards another root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// TTBR0_EL1 := the reserved, empty root.
    ReservedRoot,
    /// ISB: what was written to the registers is in use from here on, and nothing else.
    Isb,
    /// TCR_EL1.T0SZ := this.
    Tcr(u8),
    /// TLBI ASIDE1: this CPU's translations of one identifier, walk caches included.
    FlushAsid(u16),
    /// TLBI VMALLE1: all of this CPU's translations.
    FlushAll,
    /// DSB NSH: the invalidation is complete on this CPU.
    DsbNsh,
    /// TTBR0_EL1 := a root with an identifier.
    Root {
        /// The root table.
        root: PhysAddr,
        /// T0SZ that belongs to it.
        t0sz: u8,
        /// The identifier.
        asid: u16,
    },
}

/// What TTBR0 holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loaded {
    root: PhysAddr,
    asid: u16,
    space: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    Asid(u16),
    All,
}

/// The state of one CPU.
#[derive(Debug)]
pub(crate) struct Cpu {
    /// The register; none is the reserved root.
    ttbr: Option<Loaded>,
    /// What walks may still use beside it, until the next ISB.
    former: Option<Loaded>,
    t0sz: u8,
    size_settled: bool,
    flushes: Vec<Flush>,
    /// Translations of these identifiers may be cached: the space and the root they come from.
    cached: HashMap<u16, (u32, PhysAddr)>,
    /// Takes part in grace periods.
    pub(crate) in_kernel: bool,
    pub(crate) quiescent_states: u64,
}

impl Cpu {
    pub(crate) fn new() -> Self {
        Self {
            ttbr: None,
            former: None,
            t0sz: 0,
            size_settled: true,
            flushes: Vec::new(),
            cached: HashMap::new(),
            in_kernel: true,
            quiescent_states: 0,
        }
    }

    fn loaded(&self) -> impl Iterator<Item = Loaded> {
        [self.ttbr, self.former].into_iter().flatten()
    }

    /// Whether the CPU may translate under `asid` now.
    pub(crate) fn may_use(&self, asid: u16) -> bool {
        self.loaded().any(|loaded| loaded.asid == asid)
    }

    pub(crate) fn may_walk(&self, root: PhysAddr) -> bool {
        self.loaded().any(|loaded| loaded.root == root)
    }

    /// Whether walks from `root` go on, or their results may be cached.
    pub(crate) fn knows_root(&self, root: PhysAddr) -> bool {
        self.may_walk(root) || self.cached.values().any(|&(_, from)| from == root)
    }

    pub(crate) fn root(&self) -> Option<PhysAddr> {
        self.ttbr.map(|loaded| loaded.root)
    }

    /// The identifiers under which translations of `space` may be cached.
    pub(crate) fn identifiers_of(&self, space: u32) -> impl Iterator<Item = u16> {
        let cached = self.cached.iter();
        cached.filter_map(move |(&asid, &(of, _))| (of == space).then_some(asid))
    }

    /// All translations of `asid` are gone; those of a loaded root may come back at once.
    pub(crate) fn forget(&mut self, asid: u16) {
        if !self.may_use(asid) {
            self.cached.remove(&asid);
        }
    }
}

/// The level of the root for a T0SZ, 4 KiB granule.
fn root_level(t0sz: u8) -> Level {
    match 64 - t0sz {
        49.. => Level::Lm1,
        40..=48 => Level::L0,
        31..=39 => Level::L1,
        22..=30 => Level::L2,
        _ => Level::L3,
    }
}

impl Mmu {
    /// `cpu` carries out a step.
    pub fn step(&mut self, cpu: usize, step: Step) {
        match step {
            Step::ReservedRoot => {
                let cpu = &mut self.cpus[cpu];
                cpu.former = cpu.former.or(cpu.ttbr);
                cpu.ttbr = None;
            }
            Step::Isb => {
                let cpu = &mut self.cpus[cpu];
                (cpu.former, cpu.size_settled) = (None, true);
            }
            Step::Tcr(t0sz) => {
                let state = &mut self.cpus[cpu];
                let rooted = state.loaded().next().is_some();
                let changes = state.t0sz != t0sz;
                (state.t0sz, state.size_settled) = (t0sz, !changes);
                if rooted && changes {
                    self.broke(Rule::SizeUnderRoot, format!("T0SZ := {t0sz} on CPU {cpu}"));
                }
            }
            Step::FlushAsid(asid) => self.cpus[cpu].flushes.push(Flush::Asid(asid)),
            Step::FlushAll => self.cpus[cpu].flushes.push(Flush::All),
            Step::DsbNsh => {
                for flush in std::mem::take(&mut self.cpus[cpu].flushes) {
                    self.flush_local(cpu, flush);
                }
            }
            Step::Root { root, t0sz, asid } => self.load(cpu, root, t0sz, asid),
        }
    }

    fn flush_local(&mut self, cpu: usize, flush: Flush) {
        let hit = |asid: Option<u16>| match flush {
            Flush::All => true,
            Flush::Asid(flushed) => asid == Some(flushed),
        };
        for record in &mut self.records {
            record
                .holders
                .retain(|context| context.cpu != cpu || !hit(context.asid));
        }
        self.records.retain(|record| !record.holders.is_empty());
        let state = &mut self.cpus[cpu];
        let asids: Vec<u16> = state.cached.keys().copied().collect();
        for asid in asids.into_iter().filter(|&asid| hit(Some(asid))) {
            state.forget(asid);
        }
    }

    fn load(&mut self, cpu: usize, root: PhysAddr, t0sz: u8, asid: u16) {
        let Some(table) = self.tables.get(&root.pfn().raw()) else {
            return self.broke(
                Rule::TableLife,
                format!("CPU {cpu} loads {root:?}, no table"),
            );
        };
        let (space, level) = (table.owner, table.level);
        let state = &self.cpus[cpu];
        if !state.size_settled {
            let case = format!("CPU {cpu} loads {root:?} before the ISB after T0SZ");
            self.broke(Rule::SizeUnderRoot, case);
        }
        let state = &self.cpus[cpu];
        if state.t0sz != t0sz || root_level(t0sz) != level {
            let case = format!(
                "CPU {cpu}: root of {level:?} loaded for T0SZ {t0sz}, TCR has {}",
                state.t0sz
            );
            self.broke(Rule::SizeMismatch, case);
        }
        match self.cpus[cpu].cached.get(&asid).copied() {
            Some((other, _)) if other != space => {
                let case = format!("CPU {cpu} may hold space {other} under {asid}, loads {space}");
                self.broke(Rule::AsidReused, case);
            }
            Some((_, former)) if former != root => {
                let case = format!("CPU {cpu}, space {space}: {former:?} became {root:?}");
                self.broke(Rule::GrownWithoutFlush, case);
            }
            _ => {}
        }
        let shared = self.cpus.iter().enumerate().find_map(|(other, state)| {
            let theirs = state
                .loaded()
                .find(|it| it.asid == asid && it.space != space)?;
            (other != cpu).then_some((other, theirs.space))
        });
        if let Some((other, theirs)) = shared {
            let case = format!("{asid}: space {space} on CPU {cpu}, {theirs} on CPU {other}");
            self.broke(Rule::AsidShared, case);
        }
        self.identifiers.insert(space, asid);
        let state = &mut self.cpus[cpu];
        state.former = state.former.or(state.ttbr);
        state.ttbr = Some(Loaded { root, asid, space });
        state.cached.insert(asid, (space, root));
    }

    /// Whether `cpu` is between entering and leaving the kernel, so that grace periods wait for it.
    pub fn set_in_kernel(&mut self, cpu: usize, inside: bool) {
        self.cpus[cpu].in_kernel = inside;
        self.cpus[cpu].quiescent_states += 1;
    }

    /// The root that walks of `cpu` start from, and its level.
    pub fn loaded_root(&self, cpu: usize) -> Option<(PhysAddr, Level)> {
        let root = self.cpus[cpu].root()?;
        let table = self.tables.get(&root.pfn().raw())?;
        Some((root, table.level))
    }
}
