//! Lockless walks: one load per level, and everything derived from the value loaded (law 4).

use arm64::addr::PhysAddr;
use arm64::geometry::Level;
use arm64::pte::Pte;

use crate::machine::Machine;
use crate::slot::{ENTRIES, ReadSide, TableRef, ptep_get_lockless};
use crate::space::{Kind, PageTable, SpaceKind};

/// What a walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// A valid leaf.
    Seen {
        /// The value loaded.
        pte: Pte,
        /// Its level: the leaf maps `level.size()` bytes.
        level: Level,
    },
    /// No valid leaf: none, a marker, or an entry that is present to software only.
    Miss {
        /// The value loaded; none where the address lies outside the space.
        pte: Pte,
        /// Where the walk ended.
        level: Level,
    },
}

/// Where a walk ended, and the leaf table if it came that far.
pub struct Look<'g> {
    /// The value loaded last.
    pub pte: Pte,
    /// Its level.
    pub level: Level,
    pub(crate) leaf: Option<TableRef<'g>>,
}

/// The one step: from a table and the value that was read in it to the next table. It takes the
/// value, so it cannot load the entry a second time (GUP-01, GUP-02).
#[inline(always)]
pub(crate) fn step<'g, M: Machine>(
    machine: &M,
    table: TableRef<'g>,
    value: Pte,
) -> Option<TableRef<'g>> {
    if !value.is_table(table.level()) {
        return None;
    }
    let next = table.level().finer()?;
    let pa = machine.format().table_pa(value);
    // SAFETY: law 8 and law 12: `table` is live for 'g, its entry named this table, and a table
    // that is torn out meanwhile is not freed before the read-side section of 'g is over.
    Some(unsafe { TableRef::new(machine.frames(), pa, next) })
}

impl<K: Kind, M: Machine> PageTable<K, M> {
    /// Whether `va` lies in the half of the address space that this kind translates.
    #[inline(always)]
    fn contains(&self, va: u64) -> bool {
        match K::KIND {
            SpaceKind::Kernel => self.geometry().contains_upper(va),
            SpaceKind::User | SpaceKind::Special => self.geometry().contains(va),
        }
    }

    /// Walks to the leaf of `va` without a lock.
    #[inline(always)]
    pub fn walk(&self, va: u64, section: &ReadSide<'_>) -> Walked {
        let mut table = self.root(section);
        if !self.contains(va) {
            return Walked::Miss {
                pte: Pte::from_raw(0),
                level: table.level(),
            };
        }
        loop {
            let level = table.level();
            let pte = ptep_get_lockless(&table.slot(self.geometry().index(va, level)), section);
            match step(self.machine(), table, pte) {
                Some(next) => table = next,
                None if pte.is_leaf(level) => return Walked::Seen { pte, level },
                None => return Walked::Miss { pte, level },
            }
        }
    }

    /// As [`Self::walk`], remembering the leaf table where the walk got that far: the place to lock
    /// for a change at `va`, found without a second walk.
    #[inline(always)]
    pub fn look<'g>(&self, va: u64, section: &ReadSide<'g>) -> Look<'g> {
        let mut table = self.root(section);
        if !self.contains(va) {
            return Look {
                pte: Pte::from_raw(0),
                level: table.level(),
                leaf: None,
            };
        }
        loop {
            let level = table.level();
            let pte = ptep_get_lockless(&table.slot(self.geometry().index(va, level)), section);
            match step(self.machine(), table, pte) {
                Some(next) => table = next,
                None => {
                    let leaf = if level == Level::L3 {
                        Some(table)
                    } else {
                        None
                    };
                    return Look { pte, level, leaf };
                }
            }
        }
    }

    /// The values met on the way to `va`, root first, for people to look at.
    pub fn trace(&self, va: u64, section: &ReadSide<'_>, mut see: impl FnMut(Level, usize, Pte)) {
        if !self.contains(va) {
            return;
        }
        let mut next = Some(self.root(section));
        while let Some(table) = next {
            let index = self.geometry().index(va, table.level());
            let pte = ptep_get_lockless(&table.slot(index), section);
            see(table.level(), index, pte);
            next = step(self.machine(), table, pte);
        }
    }
}

impl<K: Kind, M: Machine> PageTable<K, M> {
    /// Calls `see` with level and address of every table under the root, parents first.
    pub fn each_table(&self, section: &ReadSide<'_>, mut see: impl FnMut(Level, PhysAddr)) {
        self.each_table_under(self.root(section), section, &mut see);
    }

    fn each_table_under(
        &self,
        table: TableRef<'_>,
        section: &ReadSide<'_>,
        see: &mut dyn FnMut(Level, PhysAddr),
    ) {
        see(table.level(), table.pa());
        for index in 0..ENTRIES {
            let pte = ptep_get_lockless(&table.slot(index), section);
            if let Some(next) = step(self.machine(), table, pte) {
                self.each_table_under(next, section, see);
            }
        }
    }
}
