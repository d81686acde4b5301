//! One CPU: TTBR0, TCR_EL1.T0SZ, and which identifiers it may have translations of.

use std::collections::HashMap;

use arm64::addr::PhysAddr;
use arm64::geometry::Level;

use pgtable::activation::{Activation, Step};

use crate::mmu::Mmu;
use crate::report::Rule;

/// What TTBR0 holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loaded {
    root: PhysAddr,
    asid: u16,
    space: u32,
}

/// What is known of the translations of one identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cached {
    space: u32,
    root: PhysAddr,
    /// The space has another identifier since: nothing keeps these up to date, and whoever loads
    /// the identifier next has to flush, the space itself included.
    left: bool,
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
    /// Translations of these identifiers may be cached.
    cached: HashMap<u16, Cached>,
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
        self.may_walk(root) || self.cached.values().any(|of| of.root == root && !of.left)
    }

    pub(crate) fn root(&self) -> Option<PhysAddr> {
        self.ttbr.map(|loaded| loaded.root)
    }

    /// The identifiers under which translations of `space` may be cached.
    pub(crate) fn identifiers_of(&self, space: u32) -> impl Iterator<Item = u16> {
        let cached = self.cached.iter();
        cached.filter_map(move |(&asid, of)| (of.space == space && !of.left).then_some(asid))
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
            // Stores are seen in order here; what matters of them is `before_invalidate`.
            Step::DsbIsh => {}
            Step::Root(target) => self.load(cpu, target),
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

    fn load(&mut self, cpu: usize, target: Activation) {
        let Activation { root, t0sz, asid } = target;
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
            Some(of) if of.space != space || of.left => {
                let case = format!("CPU {cpu} may hold {of:?} under {asid}, loads {space}");
                self.broke(Rule::AsidReused, case);
            }
            Some(of) if of.root != root => {
                let case = format!("CPU {cpu}, space {space}: {:?} became {root:?}", of.root);
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
        if let Some(former) = self.identifiers.insert(space, asid)
            && former != asid
        {
            self.leave(space, former);
        }
        let state = &mut self.cpus[cpu];
        state.former = state.former.or(state.ttbr);
        state.ttbr = Some(Loaded { root, asid, space });
        let left = false;
        state.cached.insert(asid, Cached { space, root, left });
    }

    /// The space goes by another identifier: CPUs that do not run it under `former` now will not
    /// use what they hold under that before they flush.
    fn leave(&mut self, space: u32, former: u16) {
        for (cpu, state) in self.cpus.iter_mut().enumerate() {
            if state.may_use(former) {
                continue;
            }
            if let Some(of) = state.cached.get_mut(&former)
                && of.space == space
            {
                of.left = true;
                let asid = Some(former);
                for record in &mut self.records {
                    let held = record.space == space;
                    record
                        .holders
                        .retain(|by| !held || by.cpu != cpu || by.asid != asid);
                }
            }
        }
        self.records.retain(|record| !record.holders.is_empty());
    }

    /// Whether `cpu` is between entering and leaving the kernel, so that grace periods wait for it.
    pub fn set_in_kernel(&mut self, cpu: usize, inside: bool) {
        self.cpus[cpu].in_kernel = inside;
        self.cpus[cpu].quiescent_states += 1;
    }

    /// What TCR_EL1.T0SZ of `cpu` is.
    pub fn t0sz(&self, cpu: usize) -> u8 {
        self.cpus[cpu].t0sz
    }

    /// The root that walks of `cpu` start from, and its level.
    pub fn loaded_root(&self, cpu: usize) -> Option<(PhysAddr, Level)> {
        let root = self.cpus[cpu].root()?;
        let table = self.tables.get(&root.pfn().raw())?;
        Some((root, table.level))
    }
}
