//! What becomes of a changed entry's former value: who may have cached it, and what hung under it.

use arm64::addr::PhysAddr;
use arm64::geometry::Level;
use pgtable::SpaceKind;

use crate::automaton::{BLOCK, Table, place};
use crate::descriptor::Desc;
use crate::mmu::Mmu;
use crate::tlb::{Context, Kept, Record};

impl Mmu {
    /// Remembers what the entry said, if it no longer says it.
    pub(crate) fn keep(&mut self, at: u64, level: Level, before: Desc, after: Desc) {
        let rights_only = match (before, after) {
            (Desc::Leaf(old), Desc::Leaf(new)) => {
                old.agrees_with(&new, 0, false) && old.global == new.global
            }
            _ => false,
        };
        let Some(record) = self.record(at, level, before, rights_only) else {
            return;
        };
        if let Kept::Walk { table } = record.kept {
            self.keep_subtree(table, &record);
        }
        self.records.push(record);
    }

    fn record(&self, at: u64, level: Level, said: Desc, rights_only: bool) -> Option<Record> {
        let (pfn, place) = place(at);
        let table = self.tables.get(&pfn)?;
        let holders = self.holders(table);
        if holders.is_empty() || !self.walkable(pfn) {
            return None;
        }
        let index = (place % BLOCK) as u32;
        let kept = match said {
            Desc::Invalid => return None,
            Desc::Table(table) => Kept::Walk { table },
            Desc::Leaf(leaf) => Kept::Leaf {
                leaf,
                index,
                pages: if leaf.contiguous { !0 } else { 1 << index },
            },
        };
        Some(Record {
            space: table.owner,
            at,
            level,
            va: self.va_of(at)?,
            kept,
            holders,
            visible: false,
            operation: self.operation(),
            rights_only,
        })
    }

    fn holders(&self, table: &Table) -> Vec<Context> {
        let cpus = self.cpus.iter().enumerate();
        if table.kind == SpaceKind::Kernel {
            let context = |(cpu, _)| Context { cpu, asid: None };
            return cpus
                .filter(|_| self.kernel_root.is_some())
                .map(context)
                .collect();
        }
        cpus.flat_map(|(cpu, state)| {
            let asids = state.identifiers_of(table.owner);
            asids.map(move |asid| Context {
                cpu,
                asid: Some(asid),
            })
        })
        .collect()
    }

    /// Everything under a table that can be reached by its former entry `way` only may be cached.
    pub(crate) fn keep_subtree(&mut self, table: u64, way: &Record) {
        let Some(page) = self.tables.get(&(table >> 12)) else {
            return;
        };
        let level = page.level;
        let live: Vec<_> = page
            .entries
            .iter()
            .enumerate()
            .map(|(index, &entry)| (table + 8 * index as u64, self.decode(entry, level)))
            .filter(|(_, desc)| *desc != Desc::Invalid)
            .collect();
        for (at, desc) in live {
            if self.records.iter().any(|record| record.at == at) {
                continue;
            }
            let Some(mut record) = self.record(at, level, desc, false) else {
                continue;
            };
            (record.holders, record.visible) = (way.holders.clone(), way.visible);
            record.operation = way.operation;
            if let Kept::Walk { table } = record.kept {
                self.keep_subtree(table, &record);
            }
            self.records.push(record);
        }
    }

    /// Whether a walker can come to the table: from a root, or by what it may have cached.
    pub(crate) fn walkable(&self, pfn: u64) -> bool {
        let mut pfn = pfn;
        loop {
            let Some(table) = self.tables.get(&pfn) else {
                return false;
            };
            if self.is_root(pfn) {
                return true;
            }
            let kept = Kept::Walk { table: pfn << 12 };
            if self.records.iter().any(|record| record.kept == kept) {
                return true;
            }
            match table.link {
                Some(at) if table.linked => pfn = at >> 12,
                _ => return false,
            }
        }
    }

    /// Whether the tables no longer say what the record does, for some address of it.
    pub(crate) fn outdated(&self, record: &Record) -> bool {
        let Kept::Leaf { leaf, index, pages } = record.kept else {
            return true;
        };
        let Some(root) = self.root_above(record.at) else {
            return true;
        };
        let size = record.level.size();
        let block = record.va.wrapping_sub(u64::from(index) * size);
        let mut kept = (0..BLOCK as u64).filter(|place| pages >> place & 1 == 1);
        kept.any(|place| {
            let va = block + place * size;
            let pa = leaf.pa.wrapping_add(va.wrapping_sub(record.va));
            let now = self.walk(root, va);
            !now.iter().any(|now| {
                now.pa == pa
                    && leaf.is_like(&now.leaf, self.setup.bbm2)
                    && leaf.is_within(&now.leaf)
            })
        })
    }

    /// The root that the entry hangs under, loaded or not.
    fn root_above(&self, at: u64) -> Option<PhysAddr> {
        let mut pfn = at >> 12;
        loop {
            let table = self.tables.get(&pfn)?;
            match table.link {
                Some(at) if table.linked => pfn = at >> 12,
                Some(_) => return None,
                None => return Some(PhysAddr::new(pfn << 12)),
            }
        }
    }

    /// Whether a CPU walks from the table, or may have cached what it found from there.
    fn is_root(&self, pfn: u64) -> bool {
        let root = PhysAddr::new(pfn << 12);
        self.kernel_root == Some(root) || self.cpus.iter().any(|cpu| cpu.knows_root(root))
    }
}
