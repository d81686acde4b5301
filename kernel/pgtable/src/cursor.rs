//! The one way to the entries of a range: visit it table by table, each under its lock.
//!
//! Where a table is absent, the deepest existing parent is locked instead (D5), so that whoever
//! would link one there either did it before the visit, and is seen, or finds afterwards, under the
//! same lock, what the visitor had announced before it began.

use core::sync::atomic::Ordering;

use arm64::addr::VaRange;
use arm64::geometry::Level;
use sync::planted::{self, Fault};

use crate::TableError;
use crate::block::Block;
use crate::leaf::Leaf;
use crate::lock::Guard;
use crate::machine::{Machine, Pause};
use crate::part::Part;
use crate::slot::{ReadSide, TableRef};
use crate::space::{Kind, PageTable, Special, User, guard};
use crate::table::link_under;
use crate::walk::{Look, step};
use crate::writer::Writer;

/// Why the table of a fault could not be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockError {
    /// What the fault was planned from does not hold any more: plan again.
    Retired,
    /// A table could not be made.
    Table(TableError),
}

impl From<TableError> for LockError {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

/// A part of the range, with what serialises it held.
pub enum Visit<'g, K: Kind, M: Machine> {
    /// The part that a table of level 3 translates.
    Table(Leaf<'g, K, M>),
    /// The part that a block translates.
    Block(Block<'g, K, M>),
    /// A part that nothing translates.
    Absent(Absent<'g>),
}

/// A part of the range where there is no table.
pub struct Absent<'g> {
    from: u64,
    to: u64,
    level: Level,
    _guard: Option<Guard<'g>>,
}

impl Absent<'_> {
    /// First byte.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// First byte behind.
    pub fn to(&self) -> u64 {
        self.to
    }

    /// The level of the deepest table there is.
    pub fn level(&self) -> Level {
        self.level
    }
}

/// A visit of a range. One table is locked at a time: what [`Cursor::visit`] returned before has
/// to be dropped first.
pub struct Cursor<'g, K: Kind, M: Machine> {
    space: &'g PageTable<K, M>,
    section: &'g ReadSide<'g>,
    at: u64,
    end: u64,
}

impl<'g, K: Kind, M: Machine> Cursor<'g, K, M> {
    /// # Safety
    /// In a kernel or special space the caller holds what serialises it, for as long as the cursor
    /// lives.
    pub(crate) unsafe fn new(
        space: &'g PageTable<K, M>,
        range: VaRange,
        section: &'g ReadSide<'g>,
    ) -> Self {
        Self {
            space,
            section,
            at: range.start().raw(),
            end: range.end().raw(),
        }
    }

    /// Where the next visit begins.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Goes back, or on, to `at`: where an operation on the last part ended.
    pub fn seek(&mut self, at: u64) {
        self.at = at;
    }

    /// The next part of the range.
    #[inline]
    pub fn visit(&mut self) -> Option<Visit<'g, K, M>> {
        while self.at != self.end {
            if let Some(visit) = self.attempt() {
                return Some(visit);
            }
        }
        None
    }

    /// None: another CPU changed the way meanwhile.
    #[inline]
    fn attempt(&mut self) -> Option<Visit<'g, K, M>> {
        let (space, va, end) = (self.space, self.at, self.end);
        let mut table = space.root(self.section);
        if !space.contains(&table, va) {
            self.at = end;
            return Some(self.absent(&table, va, end, None));
        }
        while let Some(next) = step(
            space.machine(),
            table,
            table.load(table.index(va), Ordering::Acquire),
        ) {
            table = next;
        }
        space.machine().pause(Pause::BeforeLock);
        let (index, level) = (table.index(va), table.level());
        let seen = table.load(index, Ordering::Acquire);
        if planted::is(Fault::SkipAbsentUnlocked) && seen.is_none() && level != Level::L3 {
            self.at = table.shape().addr_end(va, end, level);
            return Some(self.absent(&table, va, self.at, None));
        }
        // SAFETY: passed on from `new`.
        let guard = unsafe { guard::<K>(&table) };
        let pte = guard.slot(&table, index).raw();
        if !guard.is_live() || pte.is_table(level) {
            return None;
        }
        if level == Level::L3 {
            let to = end_of(&table, va, end);
            self.at = to;
            return Some(Visit::Table(Leaf::new(Part {
                space,
                table,
                guard,
                from: va,
                to,
            })));
        }
        let mut to = table.shape().addr_end(va, end, level);
        if !pte.is_none() {
            self.at = to;
            return Some(Visit::Block(Block::new(Part {
                space,
                table,
                guard,
                from: va,
                to,
            })));
        }
        while to != end
            && table.index(to) != 0
            && table.load(table.index(to), Ordering::Relaxed).is_none()
        {
            to = table.shape().addr_end(to, end, level);
        }
        self.at = to;
        Some(self.absent(&table, va, to, Some(guard)))
    }

    fn absent(
        &self,
        table: &TableRef<'_>,
        from: u64,
        to: u64,
        guard: Option<Guard<'g>>,
    ) -> Visit<'g, K, M> {
        Visit::Absent(Absent {
            from,
            to,
            level: table.level(),
            _guard: guard,
        })
    }
}

/// First address behind what a table of level 3 translates, or `end` if that is nearer.
fn end_of(table: &TableRef<'_>, va: u64, end: u64) -> u64 {
    match table.shape().root_level() {
        Level::L3 => end,
        _ => table.shape().addr_end(va, end, Level::L2),
    }
}

impl<M: Machine> PageTable<User, M> {
    /// Visits `range` under the locks of its tables.
    pub fn cursor<'g>(&'g self, range: VaRange, section: &'g ReadSide<'g>) -> Cursor<'g, User, M> {
        // SAFETY: a user space has split locks, which the cursor takes.
        unsafe { Cursor::new(self, range, section) }
    }

    /// Locks the leaf table of `va`, making the tables on the way. Each is linked only under its
    /// parent's lock, after the parent was found still linked and `still` true; and so is the leaf
    /// table locked (D5, checks 1 and 2).
    ///
    /// # Errors
    /// [`LockError::Retired`] if `still` was false under a lock. No memory for a table or a hook's
    /// refusal; tables made on the way stay, empty ones are taken back with the range.
    /// [`TableError::BadRange`] above the space, [`TableError::Occupied`] under a block.
    #[inline(always)]
    pub fn lock_leaf<'g>(
        &'g self,
        va: u64,
        section: &ReadSide<'g>,
        still: impl Fn() -> bool,
    ) -> Result<Leaf<'g, User, M>, LockError> {
        let (table, guard) = self.lock_table(va, Level::L3, section, &still)?;
        Ok(self.leaf(table, guard, va))
    }

    /// Locks the leaf table that `look` came to for `va`, which is known then to be linked still,
    /// and `still` to be true (D5, checks 1 and 2). None if it is not so, or the look ended above:
    /// [`Self::lock_leaf`] makes tables.
    #[inline(always)]
    pub fn lock_seen<'g>(
        &'g self,
        va: u64,
        look: &Look<'g>,
        still: impl Fn() -> bool,
    ) -> Option<Leaf<'g, User, M>> {
        if !look.has_table() {
            return None;
        }
        let table = look.table;
        self.machine().pause(Pause::BeforeLock);
        let guard = Guard::lock(&table);
        match guard.is_live() && still() {
            true => Some(self.leaf(table, guard, va)),
            false => None,
        }
    }

    #[inline(always)]
    fn leaf<'g>(&'g self, table: TableRef<'g>, guard: Guard<'g>, va: u64) -> Leaf<'g, User, M> {
        let first = va & !(Level::L3.size() * table.entries() as u64 - 1);
        let to = end_of(
            &table,
            va,
            first + Level::L3.size() * table.entries() as u64,
        );
        Leaf::new(Part {
            space: self,
            table,
            guard,
            from: first,
            to,
        })
    }

    /// Locks the table of `level` above `va`, made where it is missing.
    #[inline(never)]
    pub(crate) fn lock_table<'g>(
        &'g self,
        va: u64,
        level: Level,
        section: &ReadSide<'g>,
        still: &dyn Fn() -> bool,
    ) -> Result<(TableRef<'g>, Guard<'g>), LockError> {
        'from_root: loop {
            let mut table = self.root(section);
            if !self.contains(&table, va) || table.level() > level {
                return Err(TableError::BadRange.into());
            }
            while table.level() != level {
                let index = table.index(va);
                let pte = table.load(index, Ordering::Acquire);
                table = match step(self.machine(), table, pte) {
                    Some(next) => next,
                    None if pte.is_none() => {
                        self.machine().pause(Pause::TableMissing);
                        match self.add_table(table, index, still)? {
                            Some(next) => next,
                            // The parent was found unlinked: not on from here.
                            None => continue 'from_root,
                        }
                    }
                    None => return Err(TableError::Occupied.into()),
                };
            }
            self.machine().pause(Pause::BeforeLock);
            let guard = Guard::lock(&table);
            if guard.is_live() {
                return match still() {
                    true => Ok((table, guard)),
                    false => Err(LockError::Retired),
                };
            }
        }
    }

    /// Makes a table for an empty slot of `parent`, and goes on to it; or to the one that another CPU
    /// has linked there meanwhile. None: the parent is not linked any more.
    fn add_table<'g>(
        &'g self,
        parent: TableRef<'g>,
        index: usize,
        still: &dyn Fn() -> bool,
    ) -> Result<Option<TableRef<'g>>, LockError> {
        let Some(level) = parent.level().finer() else {
            return Err(TableError::BadRange.into());
        };
        let child = self.construct(parent.shape(), level)?;
        let guard = Guard::lock(&parent);
        let live = guard.is_live() || planted::is(Fault::LinkUnderDeadParent);
        let current = still() || planted::is(Fault::LinkRetired);
        let slot = guard.slot(&parent, index);
        let linked = match live && current {
            true => link_under(&Writer::open(self.machine()), &parent, &slot, child),
            false => Err(child),
        };
        let next = step(self.machine(), parent, slot.raw()).filter(|_| live);
        drop(guard);
        if let Err(child) = linked {
            self.discard(child, level);
        }
        match current {
            true => Ok(next),
            false => Err(LockError::Retired),
        }
    }

    /// Locks the leaf table of `va` if there is one.
    #[inline]
    pub fn lock_existing<'g>(
        &'g self,
        va: u64,
        section: &ReadSide<'g>,
    ) -> Option<Leaf<'g, User, M>> {
        loop {
            let look = self.look(va, section);
            if !look.has_table() {
                return None;
            }
            let table = look.table;
            self.machine().pause(Pause::BeforeLock);
            let guard = Guard::lock(&table);
            if guard.is_live() {
                return Some(self.leaf(table, guard, va));
            }
        }
    }
}

impl<M: Machine> PageTable<Special, M> {
    /// Visits `range` of a space that is not published: the exclusive borrow serialises it.
    pub fn cursor<'g>(
        &'g mut self,
        range: VaRange,
        section: &'g ReadSide<'g>,
    ) -> Cursor<'g, Special, M> {
        // SAFETY: CTOR-09: `&mut self` lasts as long as the cursor.
        unsafe { Cursor::new(self, range, section) }
    }
}
