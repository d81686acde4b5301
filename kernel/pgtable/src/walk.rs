//! Lockless walks: one load per level, and everything derived from the value loaded (law 4).

use core::ops::RangeInclusive;
use core::sync::atomic::Ordering;

use arm64::addr::PhysAddr;
use arm64::geometry::{Level, MAX_LEVELS};
use arm64::pte::{Format, Pte};
use sync::planted::{self, Fault};

use crate::contpte::each_of_block;
use crate::gup::Place;
use crate::machine::{Machine, Pause};
use crate::slot::{Loaded, ReadSide, Slot, TableRef, load_lockless};
use crate::space::{Kind, PageTable, SpaceKind};
use crate::value::Value;

/// What a walk found. With a tag of its own: one that is hidden in the level is worked out again for
/// every entry of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Walked {
    /// A valid leaf.
    Seen {
        /// The value loaded.
        value: Value,
        /// Its level: the leaf maps `level.size()` bytes.
        level: Level,
        /// Bytes that one translation may cover: those of the leaf, or of its contiguous block.
        span: u64,
    },
    /// No valid leaf: none, a marker, or an entry that is present to software only.
    Miss {
        /// The value loaded; none where the address lies outside the space.
        value: Value,
        /// Where the walk ended.
        level: Level,
    },
}

impl Walked {
    /// The level where the walk ended.
    pub fn level(&self) -> Level {
        match self {
            Self::Seen { level, .. } | Self::Miss { level, .. } => *level,
        }
    }

    /// Where `va`, which was walked, is in memory.
    pub fn address(&self, va: u64, format: Format) -> Option<PhysAddr> {
        let Self::Seen { value, level, .. } = self else {
            return None;
        };
        let into = va & (level.size() - 1);
        Some(PhysAddr::new(format.pa(value.pte(), *level).raw() + into))
    }

    #[inline(always)]
    fn of(loaded: Loaded, table: &TableRef<'_>) -> Self {
        let (level, block) = (table.level(), table.shape().cont_entries() as u64);
        Self::with(loaded, level, (level.size(), level.size() * block))
    }

    /// `spans`: of one entry, and of a contiguous block.
    #[inline(always)]
    fn with(loaded: Loaded, level: Level, spans: (u64, u64)) -> Self {
        let value = loaded.value;
        match value.is_leaf(level) {
            true => Self::Seen {
                value,
                level,
                span: if loaded.contiguous { spans.1 } else { spans.0 },
            },
            false => Self::Miss { value, level },
        }
    }
}

/// Where a walk ended, and the table it ended in.
pub struct Look<'g> {
    /// The value loaded last.
    pub value: Value,
    pub(crate) table: TableRef<'g>,
}

impl Look<'_> {
    /// Whether it came as far as a table of pages.
    #[inline(always)]
    pub fn has_table(&self) -> bool {
        self.level() == Level::L3
    }

    /// The level of [`Self::value`].
    #[inline(always)]
    pub fn level(&self) -> Level {
        self.table.level()
    }

    /// Whether there is nothing at all around the address in a table of level 2, not even a table
    /// below, as far as can be seen without the lock: there is room for a block of 2 MiB.
    pub fn has_room_for_block(&self) -> bool {
        !self.has_table() && self.value.is_none()
    }

    /// Whether the `count` entries around `va` that such a block would take are empty, as far as
    /// can be seen without the lock. `count` is a power of two, within a table.
    #[inline(always)]
    pub fn is_empty_around(&self, va: u64, count: usize) -> bool {
        if !self.has_table() {
            return self.value.is_none();
        }
        let first = self.table.index(va) & !(count - 1);
        let mut all = 0;
        each_of_block(count, |i| {
            all |= self.table.load(first + i, Ordering::Relaxed).raw();
        });
        all == 0
    }

    /// How many entries of the table of pages are empty from that of `va` on, `most` at the most, as
    /// far as can be seen without the lock.
    pub fn empty_from(&self, va: u64, most: usize) -> usize {
        if !self.has_table() {
            return 0;
        }
        let first = self.table.index(va);
        let end = self.table.entries().min(first + most);
        let mut run = first..end;
        let used = run.find(|&i| !self.table.load(i, Ordering::Relaxed).is_none());
        used.unwrap_or(end) - first
    }
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
    debug_assert!(
        machine
            .frames()
            .meta(pa.pfn())
            .and_then(|meta| meta.table_level())
            .is_none_or(|level| level == next),
        "GUP-22: {pa:?} was linked as a table of {next:?} and made as another"
    );
    // SAFETY: law 8 and law 12: `table` is live for 'g, its entry named this table, and a table
    // that is torn out meanwhile is not freed before the read-side section of 'g is over.
    Some(unsafe { TableRef::new(machine.frames(), table.shape(), pa, next) })
}

/// As [`step`], for a walk that holds no lock: other CPUs may do anything in between.
#[inline(always)]
fn step_lockless<'g, M: Machine>(
    machine: &M,
    table: TableRef<'g>,
    index: usize,
    value: Pte,
) -> Option<TableRef<'g>> {
    machine.pause(Pause::WalkStep);
    let value = match planted::is(Fault::ReloadInWalk) {
        true => table.load(index, Ordering::Acquire),
        false => value,
    };
    step(machine, table, value)
}

impl<K: Kind, M: Machine> PageTable<K, M> {
    /// Whether `va` lies in the half of the address space that this kind translates, and in the
    /// range of `root`.
    #[inline(always)]
    pub(crate) fn contains(&self, root: &TableRef<'_>, va: u64) -> bool {
        match K::KIND {
            SpaceKind::Kernel => root.shape().contains_upper(va),
            SpaceKind::User | SpaceKind::Special => root.shape().contains(va),
        }
    }

    /// Walks to the leaf of `va` without a lock.
    #[inline(always)]
    pub fn walk(&self, va: u64, section: &ReadSide<'_>) -> Walked {
        let (loaded, table) = self.descend(va, section);
        Walked::of(loaded, &table)
    }

    /// As [`Self::walk`], remembering the leaf table where the walk got that far: the place to lock
    /// for a change at `va`, found without a second walk.
    #[inline(always)]
    pub fn look<'g>(&'g self, va: u64, section: &ReadSide<'g>) -> Look<'g> {
        let (loaded, table) = self.descend(va, section);
        let value = loaded.value;
        Look { value, table }
    }

    /// As [`Self::walk`], with the place to look at again.
    #[inline(always)]
    pub(crate) fn walk_to_place<'g>(
        &'g self,
        va: u64,
        section: &ReadSide<'g>,
    ) -> (Walked, Place<'g>) {
        let mut parent = None;
        let (loaded, table) = self.descend_by(va, section, |table| parent = Some(table));
        (Walked::of(loaded, &table), Place::new(table, parent))
    }

    /// What was loaded where the way down ends, and the table it is in.
    #[inline(always)]
    fn descend<'g>(&'g self, va: u64, section: &ReadSide<'g>) -> (Loaded, TableRef<'g>) {
        self.descend_by(va, section, |_| {})
    }

    /// The same; `leave` learns of each table that the way goes on from.
    #[inline(always)]
    fn descend_by<'g>(
        &'g self,
        va: u64,
        section: &ReadSide<'g>,
        mut leave: impl FnMut(TableRef<'g>),
    ) -> (Loaded, TableRef<'g>) {
        let mut table = self.root(section);
        if !self.contains(&table, va) {
            return (Loaded::NONE, table);
        }
        loop {
            let index = table.index(va);
            let loaded = load_lockless(&table, index, section);
            if !loaded.value.pte().is_table(table.level()) {
                return (loaded, table);
            }
            match step_lockless(self.machine(), table, index, loaded.value.pte()) {
                Some(next) => {
                    leave(table);
                    table = next;
                }
                None => return (loaded, table),
            }
        }
    }

    /// The slot of `va` in the table of `level`, if there is such a table: a place to look at again
    /// and again by [`crate::ptep_get_lockless`]. The entry itself is not loaded.
    pub fn slot_of<'g>(
        &'g self,
        va: u64,
        level: Level,
        section: &ReadSide<'g>,
    ) -> Option<Slot<'g>> {
        let mut table = Some(self.root(section)).filter(|root| self.contains(root, va))?;
        while table.level() < level {
            let index = table.index(va);
            let loaded = load_lockless(&table, index, section);
            table = step_lockless(self.machine(), table, index, loaded.value.pte())?;
        }
        (table.level() == level).then(|| table.slot(table.index(va)))
    }

    /// The entries met on the way to `va`, root first, as they are in memory: for people to look
    /// at, like [`PageTable::dump`].
    pub fn trace(&self, va: u64, section: &ReadSide<'_>, mut see: impl FnMut(Level, usize, Pte)) {
        let mut next = Some(self.root(section)).filter(|root| self.contains(root, va));
        while let Some(table) = next {
            let index = table.index(va);
            let pte = table.load(index, Ordering::Acquire);
            see(table.level(), index, pte);
            next = step(self.machine(), table, pte);
        }
    }

    /// Calls `see` for every entry of `[start, end)` that is where a walk of its address ends,
    /// lowest address first: with the first address of the range that it translates, and what is
    /// there. Each entry is loaded once; upper levels are not looked at again for a neighbour
    /// (GUP-20). `end` 0 is the top of the address space (GUP-24).
    #[inline(always)]
    pub fn walk_range(
        &self,
        start: u64,
        end: u64,
        section: &ReadSide<'_>,
        mut see: impl FnMut(u64, Walked),
    ) {
        let root = self.root(section);
        let mut path = [root; MAX_LEVELS];
        let mut depth = root.level().position();
        let mut va = start;
        while va != end && self.contains(&root, va) {
            let table = path[depth];
            let (first, last) = (table.index(va), last_of(&table, va, end));
            debug_assert!(first <= last, "GUP-04: a slot that is not its address's");
            let part = (first..=last, va, end);
            let reached = match table.level() {
                Level::L3 => self.scan::<true>(&table, part, section, &mut see),
                _ => self.scan::<false>(&table, part, section, &mut see),
            };
            match reached {
                Reached::Table(at, next) => {
                    va = at;
                    depth += 1;
                    path[depth] = next;
                }
                Reached::End(at) => {
                    va = at;
                    depth = climb(&path, depth, root.level().position(), va);
                }
            }
        }
    }

    /// Takes a range of entries of one table, up to the first that names another table. The loop
    /// over `PAGES`, a table of level 3, is made for that.
    #[inline(always)]
    pub(crate) fn scan<'g, const PAGES: bool>(
        &self,
        table: &TableRef<'g>,
        (indices, start, end): (RangeInclusive<usize>, u64, u64),
        section: &ReadSide<'_>,
        see: &mut impl FnMut(u64, Walked),
    ) -> Reached<'g> {
        let level = if PAGES { Level::L3 } else { table.level() };
        let block = table.shape().cont_entries() as u64;
        let (span, reading) = (table.shape().span(level), table.reading());
        let spans = (level.size(), level.size() * block);
        let (mut index, last) = indices.into_inner();
        let mut va = start;
        // Only the first entry may be entered in its middle.
        let mut next_va = (va & !(span - 1)).wrapping_add(span);
        while index <= last {
            let pte = reading.load(index);
            if !pte.maybe_contiguous() {
                if !PAGES
                    && pte.is_table(level)
                    && let Some(next) = step_lockless(self.machine(), *table, index, pte)
                {
                    return Reached::Table(va, next);
                }
                see(va, Walked::with(Loaded::single(pte), level, spans));
                va = next_va;
                next_va = next_va.wrapping_add(span);
                index += 1;
                continue;
            }
            let loaded = load_lockless(table, index, section);
            let mut value = loaded.value;
            // A block was read as a whole: what its other entries map follows.
            let whole = match loaded.contiguous {
                true => (block - (index as u64 & (block - 1))) as usize,
                false => 1,
            };
            for _ in 0..whole.min(last - index + 1) {
                see(va, Walked::with(Loaded { value, ..loaded }, level, spans));
                value = value.next(level);
                va = next_va;
                next_va = next_va.wrapping_add(span);
                index += 1;
            }
        }
        // The last entry may reach beyond the range.
        let whole = table.shape().addr_end(va.wrapping_sub(span), end, level);
        Reached::End(if whole == end { end } else { va })
    }
}

/// Where the scan of a table ended.
pub(crate) enum Reached<'g> {
    /// At an entry, for this address, that names this table.
    Table(u64, TableRef<'g>),
    /// Behind the last entry that was asked for.
    End(u64),
}

/// The last index of `table` that `[va, end)` reaches.
pub(crate) fn last_of(table: &TableRef<'_>, va: u64, end: u64) -> usize {
    let coarser = table.level().coarser();
    let shape = table.shape();
    let table_end = match coarser {
        Some(up) if shape.root_level() < table.level() => shape.addr_end(va, end, up),
        _ if shape.contains(va ^ end.wrapping_sub(1)) => end,
        // The space ends before the range does.
        _ => return table.entries() - 1,
    };
    table.index(table_end.wrapping_sub(1))
}

/// How far up the way to `va` is another one than that to the address before: only so far.
#[cold]
pub(crate) fn climb(
    path: &[TableRef<'_>; MAX_LEVELS],
    mut depth: usize,
    root: usize,
    va: u64,
) -> usize {
    while depth > root {
        depth -= 1;
        let crossed_root = depth == root && planted::is(Fault::StaleSlotAcrossBoundary);
        if crossed_root {
            return depth + 1;
        }
        // Index 0 at this level: the address has entered another table here too.
        if path[depth].index(va) != 0 {
            break;
        }
    }
    depth
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
        for index in 0..table.entries() {
            let loaded = load_lockless(&table, index, section);
            if let Some(next) = step(self.machine(), table, loaded.value.pte()) {
                self.each_table_under(next, section, see);
            }
        }
    }
}
