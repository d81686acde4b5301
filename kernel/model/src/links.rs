//! Which table hangs where, contiguous blocks, and walks by the shadow.

use arm64::addr::PhysAddr;
use arm64::geometry::Level;
use pgtable::SpaceKind;

use crate::automaton::{BLOCK, ENTRIES, place};
use crate::descriptor::{Desc, Leaf};
use crate::mmu::{Mmu, Translation};
use crate::report::Rule;

impl Mmu {
    /// The first address that the entry translates.
    pub(crate) fn va_of(&self, at: u64) -> Option<u64> {
        let (mut pfn, mut index) = place(at);
        let mut offset = 0;
        loop {
            let table = self.tables.get(&pfn)?;
            offset += index as u64 * table.level.size();
            let Some(link) = table.link else {
                // Tables of the upper half hang under a root of 48 bits.
                let upper = table.kind == SpaceKind::Kernel;
                return Some(if upper { offset | !0 << 48 } else { offset });
            };
            (pfn, index) = place(link);
        }
    }

    pub(crate) fn relink(&mut self, at: u64, before: Desc, after: Desc) {
        if let Desc::Table(table) = before
            && after != before
        {
            let seen = self.cpus.iter().map(|cpu| cpu.quiescent_states).collect();
            if let Some(table) = self.tables.get_mut(&(table >> 12)) {
                (table.linked, table.unlinked_at) = (false, Some(seen));
            }
        }
        if let Desc::Table(table) = after {
            self.link(at, table);
        }
    }

    fn link(&mut self, at: u64, child: u64) {
        match self.tables.get_mut(&(child >> 12)) {
            None => self.broke(
                Rule::TableLife,
                format!("{at:#x} names {child:#x}, no table"),
            ),
            Some(table) if table.linked => {
                self.broke(Rule::TableLife, format!("{child:#x} is linked twice"));
            }
            Some(table) => {
                (table.linked, table.link, table.unlinked_at) = (true, Some(at), None);
            }
        }
    }

    /// Links of a table that was made before the model knew it: its own entry may be known, its
    /// children follow.
    pub(crate) fn adopt_links(&mut self, pa: PhysAddr) {
        let pfn = pa.pfn().raw();
        let above = self.promised.remove(&pa.raw());
        let Some(table) = self.tables.get_mut(&pfn) else {
            return;
        };
        if above.is_some() {
            (table.linked, table.link) = (true, above);
        }
        let level = table.level;
        let entries = table.entries.clone();
        for (index, &entry) in entries.iter().enumerate().filter(|(_, entry)| **entry != 0) {
            if let Desc::Table(child) = self.decode(entry, level) {
                self.promised.insert(child, pa.raw() + 8 * index as u64);
            }
        }
    }

    pub(crate) fn suspect(&mut self, at: u64, before: Desc, after: Desc) {
        let contiguous = |desc: Desc| desc.as_leaf().is_some_and(|leaf| leaf.contiguous);
        if !contiguous(before) && !contiguous(after) {
            return;
        }
        let (pfn, index) = place(at);
        let block = (pfn << 12, index & !(BLOCK - 1));
        if self.suspects.last() != Some(&block) && !self.suspects.contains(&block) {
            self.suspects.push(block);
        }
    }

    /// Looks at every contiguous block that was changed since the last call: a CPU may amalgamate
    /// it now.
    pub(crate) fn check_blocks(&mut self) {
        for (table, first) in std::mem::take(&mut self.suspects) {
            let Some(page) = self.tables.get(&(table >> 12)) else {
                continue;
            };
            let level = page.level;
            let entries = &page.entries[first..first + BLOCK];
            let leaves: Vec<_> = entries
                .iter()
                .map(|&entry| self.decode(entry, level).as_leaf())
                .collect();
            let Some(case) = malformed(&leaves) else {
                continue;
            };
            if self.walkable(table >> 12) {
                let case = format!("block at {:#x}: {case}", table + 8 * first as u64);
                self.broke(Rule::BlockMalformed, case);
            }
        }
    }

    fn is_finer(&self, table: u64, than: Level) -> bool {
        let table = self.tables.get(&(table >> 12));
        table.is_some_and(|table| table.level > than)
    }

    /// What a walk by the tables as they are may find for `va`: its own leaf, and whatever a
    /// contiguous neighbour says about it.
    pub(crate) fn walk(&self, root: PhysAddr, va: u64) -> Vec<Translation> {
        let mut found = Vec::new();
        let mut at = root.raw();
        while let Some(table) = self.tables.get(&(at >> 12)) {
            let size = table.level.size();
            let index = (va / size) as usize % ENTRIES;
            let first = index & !(BLOCK - 1);
            for other in first..first + BLOCK {
                let Desc::Leaf(leaf) = self.decode(table.entries[other], table.level) else {
                    continue;
                };
                if other == index || leaf.contiguous {
                    let ahead = (index as u64).wrapping_sub(other as u64).wrapping_mul(size);
                    let pa = leaf.pa.wrapping_add(ahead) + va % size;
                    let stale = false;
                    found.push(Translation { pa, leaf, stale });
                }
            }
            match self.decode(table.entries[index], table.level) {
                // Finer with every step, so that a loop of tables ends.
                Desc::Table(next) if self.is_finer(next, table.level) => at = next,
                _ => break,
            }
        }
        found
    }
}

/// Why the sixteen entries are no contiguous block; none of them being one is fine.
fn malformed(leaves: &[Option<Leaf>]) -> Option<String> {
    leaves.iter().flatten().find(|leaf| leaf.contiguous)?;
    let Some(first) = leaves[0] else {
        return Some("a hole at its first entry".into());
    };
    if first.pa % (first.size * BLOCK as u64) != 0 {
        return Some(format!("begins at {:#x}", first.pa));
    }
    leaves.iter().enumerate().find_map(|(index, leaf)| {
        let Some(leaf) = leaf else {
            return Some(format!("a hole at entry {index}"));
        };
        let fits = leaf.contiguous
            && leaf.pa == first.pa + index as u64 * first.size
            && leaf.shared == first.shared;
        (!fits).then(|| format!("entry {index} is {leaf:x?} after {first:x?}"))
    })
}
