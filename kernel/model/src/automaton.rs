//! One small automaton per entry, keyed by the entry's physical address: what it says, and (as
//! [`Record`]s) what it said that may still be cached.

use arm64::addr::PhysAddr;
use arm64::geometry::Level;
use arm64::pte::Pte;
use pgtable::{SpaceKind, TableDesc};

use crate::descriptor::{Desc, Leaf, right};
use crate::mmu::Mmu;
use crate::report::Rule;
use crate::tlb::{Kept, Record};

pub(crate) const ENTRIES: usize = 512;
pub(crate) const BLOCK: usize = 16;

/// A constructed table page and the shadow of its entries.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) level: Level,
    pub(crate) owner: u32,
    pub(crate) kind: SpaceKind,
    /// Physical address of the entry that names it, or named it last.
    pub(crate) link: Option<u64>,
    pub(crate) linked: bool,
    /// The quiescent states of every CPU when it was unlinked.
    pub(crate) unlinked_at: Option<Vec<u64>>,
    pub(crate) entries: Box<[u64]>,
}

impl Table {
    pub(crate) fn new(desc: &TableDesc, entries: impl Fn(usize) -> u64) -> Self {
        Self {
            level: desc.level,
            owner: desc.owner.id,
            kind: desc.owner.kind,
            link: None,
            linked: false,
            unlinked_at: None,
            entries: (0..ENTRIES).map(entries).collect(),
        }
    }
}

/// The table and the index of an entry.
pub(crate) fn place(at: u64) -> (u64, usize) {
    (at >> 12, (at & 0xfff) as usize / 8)
}

impl Mmu {
    /// What the entry at `at` says, by the model's account.
    pub fn shadow(&self, at: PhysAddr) -> Option<Pte> {
        let (table, index) = place(at.raw());
        let table = self.tables.get(&table)?;
        Some(Pte::from_raw(table.entries[index]))
    }

    /// Software changed the entry at `at` from `old` to `new`, at once.
    pub fn stored(&mut self, at: PhysAddr, level: Level, old: Pte, new: Pte) {
        let at = at.raw();
        let (pfn, index) = place(at);
        let Some(table) = self.tables.get_mut(&pfn) else {
            return self.broke(
                Rule::TableLife,
                format!("store to {at:#x}, which is no table"),
            );
        };
        let held = std::mem::replace(&mut table.entries[index], new.raw());
        let (kind, wrong_level) = (table.kind, table.level != level);
        if wrong_level {
            self.broke(
                Rule::TableLife,
                format!("{at:#x} taken for one of {level:?}"),
            );
        }
        if held != old.raw() {
            let case = format!(
                "{at:#x} held {held:#x}, not {:#x}, before {:#x}",
                old.raw(),
                new.raw()
            );
            self.broke(Rule::LostUpdate, case);
        }
        let (before, after) = (self.decode(held, level), self.decode(new.raw(), level));
        if before != after {
            self.check_leaf(at, kind, before, after);
            self.check_change(at, before, after);
            if !continues(before, after) {
                self.check_cached(at, level, after);
                self.keep(at, level, before, after);
            }
            self.relink(at, before, after);
            self.suspect(at, before, after);
        }
    }

    /// The hardware itself changed the entry (access flag, dirty state).
    pub(crate) fn touched_by_hardware(&mut self, at: u64, new: u64) {
        let (table, index) = place(at);
        if let Some(table) = self.tables.get_mut(&table) {
            table.entries[index] = new;
        }
    }

    fn check_leaf(&mut self, at: u64, kind: SpaceKind, before: Desc, after: Desc) {
        let Desc::Leaf(leaf) = after else {
            if let (Desc::Leaf(leaf), SpaceKind::Kernel) = (before, kind) {
                self.broken.push((at, leaf));
            }
            return;
        };
        if leaf.mark && leaf.rights & right::WRITE != 0 {
            self.broke(Rule::MarkWritable, format!("{at:#x}: {leaf:x?}"));
        }
        if leaf.global && kind == SpaceKind::User {
            self.broke(Rule::GlobalUser, format!("{at:#x}: {leaf:x?}"));
        }
        let known = self.broken.iter().find(|(broken, _)| *broken == at);
        if let (Some((_, former)), SpaceKind::Kernel) = (known, kind)
            && former.pa == leaf.pa
        {
            let case = format!("{at:#x} was taken away and came back: {leaf:x?}");
            self.broke(Rule::KernelRepainted, case);
        }
    }

    /// Live entry to live entry.
    fn check_change(&mut self, at: u64, before: Desc, after: Desc) {
        let bbm2 = self.setup.bbm2;
        let fine = match (before, after) {
            (Desc::Invalid, _) | (_, Desc::Invalid) => true,
            (Desc::Leaf(old), Desc::Leaf(new)) => {
                old.agrees_with(&new, 0, bbm2) && (old.global == new.global || !new.global)
            }
            // The leaves under the table are compared with the block one by one.
            (Desc::Leaf(_), Desc::Table(_)) => bbm2,
            (Desc::Table(table), Desc::Leaf(block)) => bbm2 && self.maps_alike(table, &block),
            (Desc::Table(old), Desc::Table(new)) => old == new,
        };
        if !fine {
            self.broke(
                Rule::MakeWithoutBreak,
                format!("{at:#x}: {before:x?} became {after:x?}"),
            );
        }
    }

    /// Whether every entry of `table` is a leaf that translates as `block` does.
    fn maps_alike(&self, table: u64, block: &Leaf) -> bool {
        let Some(table) = self.tables.get(&(table >> 12)) else {
            return false;
        };
        table.entries.iter().enumerate().all(|(index, &entry)| {
            let leaf = self.decode(entry, table.level).as_leaf();
            let from = index as u64 * table.level.size();
            leaf.is_some_and(|leaf| block.agrees_with(&leaf, from, true))
        })
    }

    /// A valid entry where another translation of its addresses may be cached.
    fn check_cached(&mut self, at: u64, level: Level, after: Desc) {
        if self.records.is_empty() || after == Desc::Invalid {
            return;
        }
        let Some(va) = self.va_of(at) else { return };
        let (pfn, index) = place(at);
        let (owner, size) = (self.tables[&pfn].owner, level.size());
        let (start, len) = match after {
            Desc::Leaf(leaf) if leaf.contiguous => {
                (va - (index % BLOCK) as u64 * size, BLOCK as u64 * size)
            }
            _ => (va, size),
        };
        let conflict = self.records.iter().find(|record| {
            let (from, bytes) = record.span();
            let overlap = record.space == owner
                && from < start.wrapping_add(len)
                && start < from.wrapping_add(bytes)
                && record.holders.iter().any(|&context| self.usable(context));
            overlap && self.conflicts(record, (start, len), va, after)
        });
        if let Some(record) = conflict {
            let case = format!("{va:#x} := {after:x?}, but cached may be {record:x?}");
            self.broke(Rule::MadeOverCached, case);
        }
    }

    fn conflicts(&self, record: &Record, range: (u64, u64), va: u64, after: Desc) -> bool {
        let bbm2 = self.setup.bbm2;
        match (record.kept, after) {
            (Kept::Walk { table }, Desc::Table(new)) => table != new,
            (Kept::Walk { .. }, _) => true,
            (Kept::Leaf { leaf, .. }, Desc::Table(_)) => {
                // Finer leaves meet the leaves of the new table when those are written.
                record.level.size() >= range.1 && !(bbm2 && leaf.size == range.1)
            }
            (Kept::Leaf { leaf, index, pages }, Desc::Leaf(new)) => {
                let size = record.level.size();
                let first = record.va - u64::from(index) * size;
                let covered = (0..BLOCK as u64).any(|place| {
                    let page = first + place * size;
                    pages >> place & 1 == 1 && page < range.0 + range.1 && range.0 < page + size
                });
                covered && !leaf.agrees_with(&new, va.wrapping_sub(record.va), bbm2)
            }
            (_, Desc::Invalid) => false,
        }
    }
}

/// Whether the entry says what it said and allows no less: nobody can tell from a cached copy.
fn continues(before: Desc, after: Desc) -> bool {
    match (before, after) {
        (Desc::Leaf(old), Desc::Leaf(new)) => {
            old.agrees_with(&new, 0, false) && old.global == new.global && old.is_within(&new)
        }
        _ => before == after,
    }
}
