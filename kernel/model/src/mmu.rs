//! The MMU of N CPUs as far as it can go wrong: what is loaded, what may be cached, what was broken.

use std::collections::HashMap;

use arm64::addr::{Pfn, PhysAddr};
use arm64::geometry::Level;
use pgtable::{Invalidation, TableDesc};

use crate::automaton::Table;
use crate::cpu::Cpu;
use crate::descriptor::{Desc, Leaf};
use crate::report::{Rule, Violation};
use crate::tlb::{Context, Kept, Record};

/// What the modelled machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// CPUs.
    pub cpus: usize,
    /// `TCR_EL1.DS`.
    pub lpa2: bool,
    /// FEAT_BBM level 2: block sizes and contiguity may change without a break.
    pub bbm2: bool,
}

/// A translation that a CPU may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Physical address of the byte asked for.
    pub pa: u64,
    /// The leaf it comes from.
    pub leaf: Leaf,
    /// It comes from an entry that says so no more.
    pub stale: bool,
}

/// The model. Events go in, violations come out; it holds no memory but a shadow of each table.
#[derive(Debug)]
pub struct Mmu {
    pub(crate) setup: Setup,
    pub(crate) cpus: Vec<Cpu>,
    pub(crate) tables: HashMap<u64, Table>,
    pub(crate) records: Vec<Record>,
    /// Contiguous blocks that were changed and not looked at since: table and first entry.
    pub(crate) suspects: Vec<(u64, usize)>,
    /// Kernel entries that were taken away in this operation.
    pub(crate) broken: Vec<(u64, Leaf)>,
    pub(crate) kernel_root: Option<PhysAddr>,
    /// Tables that an adopted one names and that are not known yet: the entry that does.
    pub(crate) promised: HashMap<u64, u64>,
    /// The identifier under which a space was loaded last.
    pub(crate) identifiers: HashMap<u32, u16>,
    operations: Vec<u32>,
    next_operation: u32,
    violations: Vec<Violation>,
}

impl Mmu {
    /// CPUs with the reserved root loaded, no table.
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            cpus: (0..setup.cpus).map(|_| Cpu::new()).collect(),
            tables: HashMap::new(),
            records: Vec::new(),
            suspects: Vec::new(),
            broken: Vec::new(),
            kernel_root: None,
            promised: HashMap::new(),
            identifiers: HashMap::new(),
            operations: vec![0],
            next_operation: 1,
            violations: Vec::new(),
        }
    }

    /// What was broken since the last call.
    pub fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    pub(crate) fn broke(&mut self, rule: Rule, case: String) {
        self.violations.push(Violation { rule, case });
    }

    /// What the hardware sees in `word`.
    pub(crate) fn decode(&self, word: u64, level: Level) -> Desc {
        Desc::new(word, level, self.setup.lpa2)
    }

    /// An operation begins: until the matching [`Self::end_operation`], stale translations of what
    /// it changes are its own business. Operations of other CPUs may run inside of it.
    pub fn begin_operation(&mut self) {
        self.operations.push(self.next_operation);
        self.next_operation += 1;
    }

    /// The operation ends: what it took away must be gone from every CPU.
    pub fn end_operation(&mut self) {
        self.check_blocks();
        let operation = self.operation();
        if self.operations.len() > 1 {
            self.operations.pop();
        }
        let mine = |record: &&Record| record.operation == operation;
        let stale = self
            .records
            .iter()
            .filter(mine)
            .find(|record| self.lives(record) && self.outdated(record));
        if let Some(record) = stale {
            let rule = match record.rights_only {
                true => Rule::RightsAfterOperation,
                false => Rule::StaleAfterOperation,
            };
            let case = format!("{record:x?}");
            self.broke(rule, case);
            self.records.retain(|record| record.operation != operation);
        }
        self.broken.clear();
    }

    pub(crate) fn operation(&self) -> u32 {
        self.operations.last().copied().unwrap_or(0)
    }

    /// Whether a CPU translates by this context now.
    pub(crate) fn usable(&self, context: Context) -> bool {
        match context.asid {
            None => true,
            Some(asid) => self.cpus[context.cpu].may_use(asid),
        }
    }

    fn used(&self, record: &Record) -> Option<Context> {
        let mut holders = record.holders.iter().copied();
        holders.find(|&context| self.usable(context))
    }

    /// Whether a CPU may use the record now, or as soon as it loads the space as it is.
    fn lives(&self, record: &Record) -> bool {
        let current = self.identifiers.get(&record.space).copied();
        let mut holders = record.holders.iter();
        holders.any(|&context| self.usable(context) || context.asid == current)
    }

    /// DSB ISHST: walks that begin later see every earlier store.
    pub fn before_invalidate(&mut self) {
        self.records
            .iter_mut()
            .for_each(|record| record.visible = true);
    }

    /// TLBI, broadcast, and its completion.
    pub fn invalidate(&mut self, what: &Invalidation) {
        self.check_blocks();
        if let Invalidation::Asid(asid) = *what {
            self.cpus.iter_mut().for_each(|cpu| cpu.forget(asid));
        }
        let records = std::mem::take(&mut self.records);
        for record in records {
            let (rest, fewer) = record.invalidate(what);
            self.records.extend(rest);
            self.records.extend(fewer);
        }
        // Through a walk cache that stayed, the walkers fetch again what was dropped.
        let ways: Vec<_> = self
            .records
            .iter()
            .filter_map(|record| match record.kept {
                Kept::Walk { table } => Some((table, record.clone())),
                Kept::Leaf { .. } => None,
            })
            .collect();
        for (table, record) in ways {
            self.keep_subtree(table, &record);
        }
    }

    /// A reference to the user frame is about to be dropped.
    pub fn released(&mut self, frame: Pfn) {
        self.check_blocks();
        let pa = frame.start().raw();
        let found = self.records.iter().find_map(|record| {
            let va = record.reaches(pa)?;
            let context = self.used(record)?;
            self.outdated(record).then_some((context, va))
        });
        if let Some((context, va)) = found {
            let case =
                format!("frame {pa:#x} given up, but {context:?} may translate {va:#x} to it");
            self.broke(Rule::ReleasedWhileCached, case);
        }
    }

    /// A table was described and may be linked. `entries`: what its page holds.
    pub fn constructed(&mut self, desc: &TableDesc, entries: impl Fn(usize) -> u64) {
        let pa = desc.pa.raw();
        let reached = self.records.iter().find_map(|record| {
            record.reaches(pa)?;
            self.used(record)
        });
        if let Some(context) = reached {
            let case = format!("{context:?} may still translate to new table {pa:#x} as memory");
            self.broke(Rule::ReleasedWhileCached, case);
        }
        let table = Table::new(desc, entries);
        if self.tables.insert(pa >> 12, table).is_some() {
            self.broke(Rule::TableLife, format!("{pa:#x} constructed twice"));
        }
        self.adopt_links(desc.pa);
    }

    /// The destructor runs; afterwards the page is free.
    pub fn destructed(&mut self, desc: &TableDesc) {
        self.check_blocks();
        let pa = desc.pa.raw();
        let Some(table) = self.tables.remove(&(pa >> 12)) else {
            return self.broke(Rule::TableLife, format!("{pa:#x} destructed, not a table"));
        };
        let above = table.link.filter(|_| table.linked);
        if above.is_some_and(|at| self.walkable(at >> 12)) {
            self.broke(
                Rule::TableStillLinked,
                format!("{pa:#x} under {:x?}", table.link),
            );
        }
        if let Some(cpu) = self.cpus.iter().position(|cpu| cpu.may_walk(desc.pa)) {
            self.broke(
                Rule::TableStillRoot,
                format!("{pa:#x} is loaded on CPU {cpu}"),
            );
        }
        let walked = self.records.iter().find_map(|record| {
            let here = record.kept == Kept::Walk { table: pa };
            here.then(|| self.used(record))?
        });
        if let Some(context) = walked {
            let case = format!("{context:?} may walk through {pa:#x}, which is freed");
            self.broke(Rule::TableStillWalked, case);
        }
        if let Some(seen) = table.unlinked_at {
            let late = self
                .cpus
                .iter()
                .zip(&seen)
                .position(|(cpu, seen)| cpu.in_kernel && cpu.quiescent_states == *seen);
            if let Some(cpu) = late {
                let case = format!("{pa:#x}: CPU {cpu} passed no quiescent state since");
                self.broke(Rule::BeforeGrace, case);
            }
        }
        self.suspects.retain(|&(suspect, _)| suspect != pa);
    }

    /// `cpu` reports a quiescent state: it reads nothing that it read before.
    pub fn quiescent(&mut self, cpu: usize) {
        self.cpus[cpu].quiescent_states += 1;
    }

    /// The kernel's tables, which all CPUs walk from now on.
    pub fn load_kernel(&mut self, root: PhysAddr) {
        self.kernel_root = Some(root);
        if !self.tables.contains_key(&root.pfn().raw()) {
            self.broke(Rule::TableLife, format!("kernel root {root:?} is no table"));
        }
    }

    /// Everything that `cpu` may translate `va` to at this moment, by its EL0 root or the kernel's.
    pub fn translations(&self, cpu: usize, va: u64) -> Vec<Translation> {
        let upper = va >> 63 == 1;
        let mine = |record: &&Record| {
            record.holders.iter().any(|&context| {
                context.cpu == cpu && context.asid.is_none() == upper && self.usable(context)
            })
        };
        let stale = self.records.iter().filter(mine).filter_map(|record| {
            let (pa, leaf) = record.translates(va)?;
            let stale = true;
            Some(Translation { pa, leaf, stale })
        });
        let mut found: Vec<_> = stale.collect();
        let root = match upper {
            true => self.kernel_root,
            false => self.cpus[cpu].root(),
        };
        found.extend(root.into_iter().flat_map(|root| self.walk(root, va)));
        found
    }
}
