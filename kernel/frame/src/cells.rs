//! The memory of translation tables, as the atomics that their entries are.
//!
//! A table is a page of 512 entries that CPUs and walkers access at any time. Under loom an atomic
//! is an object that the running model knows, so bytes cannot be taken for one: there an arena keeps
//! a few such objects for each frame beside its memory, and tables are as small as a test asked for
//! (`arena::frames_with_tables`). The engine reaches entries through [`Frames::cells`] in both cases.

use crate::frames::Frames;
use arm64::addr::Pfn;
use core::ptr::NonNull;
use sync::atomic::AtomicU64;

#[cfg(not(loom))]
use arm64::addr::PAGE_SIZE;
#[cfg(loom)]
use {std::boxed::Box, sync::atomic::Ordering::Relaxed};

/// Entries of every table, for models whose atomics are not memory.
#[cfg(loom)]
#[derive(Default)]
pub(crate) struct Cells {
    first: u64,
    per_table: usize,
    cells: Box<[AtomicU64]>,
}

#[cfg(loom)]
impl Cells {
    /// Cells for tables of `per_table` entries in each of `pages` frames from `first` on.
    pub(crate) fn new(first: Pfn, pages: u64, per_table: usize) -> Self {
        let count = pages as usize * per_table;
        Self {
            first: first.raw(),
            per_table,
            cells: (0..count).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn of(&self, pfn: Pfn) -> &[AtomicU64] {
        let start = (pfn.raw() - self.first) as usize * self.per_table;
        &self.cells[start..start + self.per_table]
    }
}

impl Frames {
    /// The entries of the table in frame `pfn`: the first of [`Self::cells_per_table`].
    ///
    /// In the kernel this is where the table is *read*: a pointer into the window, with which bytes
    /// of the page may be reached. To look at an entry, the caller has to know that the frame is a
    /// table and stays one.
    ///
    /// # Panics
    /// If the frame is outside of the window.
    #[cfg(not(loom))]
    #[inline(always)]
    pub fn cells(&self, pfn: Pfn) -> NonNull<AtomicU64> {
        self.window().virt(pfn.start()).cast()
    }

    /// The entries of the table in frame `pfn`: the first of [`Self::cells_per_table`].
    ///
    /// # Panics
    /// If the frame is outside of the arena, or the arena was made without tables.
    #[cfg(loom)]
    pub fn cells(&self, pfn: Pfn) -> NonNull<AtomicU64> {
        let cells = self.table_cells.of(pfn);
        assert!(!cells.is_empty(), "an arena made without tables");
        // From the slice and not from its first cell, for the right to step to the others.
        NonNull::from(cells).cast()
    }

    /// Entries of a table.
    #[cfg(not(loom))]
    #[inline(always)]
    pub const fn cells_per_table(&self) -> usize {
        PAGE_SIZE as usize / size_of::<AtomicU64>()
    }

    /// Entries of a table, as the test that made the arena chose.
    #[cfg(loom)]
    pub fn cells_per_table(&self) -> usize {
        self.table_cells.per_table
    }

    /// Clears the entries of a new table: to a walker with a stale pointer, stores like any other.
    #[cfg(loom)]
    pub(crate) fn clear_cells(&self, pfn: Pfn) {
        self.table_cells
            .of(pfn)
            .iter()
            .for_each(|cell| cell.store(0, Relaxed));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::arena;
    use sync::atomic::Ordering::Relaxed;

    #[test]
    fn cells_are_the_words_of_the_page() {
        let frames = arena::frames(4);
        let table = frames.alloc_table().unwrap();
        assert_eq!(frames.cells_per_table(), 512);
        let first = frames.cells(table.pfn());
        assert_eq!(first.cast(), table.bytes());
        // SAFETY: the table is ours, and a page of zeroed words.
        let last = unsafe { first.add(frames.cells_per_table() - 1).as_ref() };
        assert_eq!(last.load(Relaxed), 0);
        last.store(7, Relaxed);
        let pfn = table.pfn();
        frames.free_table(table);
        let table = frames.alloc_table().unwrap();
        assert_eq!(table.pfn(), pfn, "the frame freed last comes next");
        assert_eq!(last.load(Relaxed), 0, "a new table is cleared");
        frames.free_table(table);
    }
}
