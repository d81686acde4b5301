//! Frames that hold translation tables.

use crate::frames::Frames;
use crate::meta::{Class, FrameMeta, NONE, SpaceKind, TableState};
use crate::stats::OutOfMemory;
use arm64::addr::{Pfn, PhysAddr};
use arm64::geometry::Level;
use core::ptr::NonNull;
use sync::atomic::Ordering::Relaxed;

impl Frames {
    /// Allocates a cleared frame for a translation table: any frame, or one of a chunk where tables
    /// have chunks ([`Frames::set_aside_tables`]).
    ///
    /// # Errors
    /// [`OutOfMemory`]; also if single frames are free but no whole chunk is.
    #[inline]
    pub fn alloc_table(&'static self) -> Result<TableFrame, OutOfMemory> {
        let (pfn, zero_page) = match self.chunk_rules.get() {
            None => (self.take(0, Class::Table)?, self.page_ops().zero_page),
            Some(rules) => (self.take_spare(rules)?, rules.zero_page),
        };
        let mut table = TableFrame { frames: self, pfn };
        // SAFETY: a whole page that nobody else has.
        unsafe { zero_page(table.bytes().as_ptr()) }
        #[cfg(loom)]
        self.clear_cells(pfn);
        table.set_state(TableState::Allocated);
        Ok(table)
    }

    /// Allocates 2^`order` cleared frames for one translation table: shapes of more than 512 entries
    /// per table, which the hardware has not, but tests do.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn alloc_wide_table(&'static self, order: u8) -> Result<TableFrame, OutOfMemory> {
        if order == 0 {
            return self.alloc_table();
        }
        let pfn = self.take(order, Class::Table)?;
        for page in 0..1 << order {
            let at = self.window().virt(pfn.add(page).start());
            // SAFETY: a whole page that nobody else has.
            unsafe { (self.page_ops().zero_page)(at.as_ptr()) }
        }
        let mut table = TableFrame { frames: self, pfn };
        table.set_state(TableState::Allocated);
        Ok(table)
    }

    /// Frees a table frame: the only way to get rid of one (law 8: after its destructor).
    ///
    /// # Panics
    /// If the table is still constructed, or locked.
    pub fn free_table(&'static self, table: TableFrame) {
        let meta = table.meta();
        let state = meta.table_state();
        assert_ne!(
            state,
            TableState::Constructed,
            "law 8: a table freed without its destructor"
        );
        assert_eq!(
            meta.table_lock().holder(),
            None,
            "a table freed while locked"
        );
        let order = meta.order();
        meta.clear_table();
        meta.set_allocated(Class::Table, order, 0);
        let pfn = table.into_entry();
        match self.chunk_rules.get() {
            Some(rules) if order == 0 => self.give_back_spare(rules, pfn),
            _ => self.give_back(pfn, order, Class::Table),
        }
    }

    /// Makes a table that was built before the allocator existed a table frame like any other
    /// (CTOR-11): of class table, state allocated, ready for its constructor.
    ///
    /// # Panics
    /// If the frame is in no bank, or of a class that only allocation gives.
    ///
    /// # Safety
    /// The frame holds a table, and nothing but it; nobody else has adopted it.
    pub unsafe fn adopt_table(&'static self, pfn: Pfn) -> TableFrame {
        let meta = self.meta(pfn);
        let meta = meta.unwrap_or_else(|| panic!("{pfn:?} adopted as a table is in no bank"));
        self.reclassify_as_table(meta);
        let mut table = TableFrame { frames: self, pfn };
        table.set_state(TableState::Allocated);
        table
    }

    /// Takes over the table that an entry of its parent owned: the reverse of
    /// [`TableFrame::into_entry`].
    ///
    /// # Panics
    /// If the frame is not a table.
    ///
    /// # Safety
    /// The caller has just removed the entry that owned it, or otherwise owns it without a value
    /// that stands for it.
    pub unsafe fn table_from_entry(&'static self, pfn: Pfn) -> TableFrame {
        // SAFETY: an entry that owns a table names a frame in a bank.
        let class = unsafe { self.record(pfn) }.class();
        assert!(
            class == Class::Table,
            "an entry owned a {} frame as a table",
            class.name()
        );
        TableFrame { frames: self, pfn }
    }
}

impl Frames {
    /// Takes the head off a list made by [`TableFrame::chain`], and gives the rest.
    ///
    /// # Panics
    /// If the frame is not a table.
    ///
    /// # Safety
    /// `head` is the head of such a list, which the caller owns.
    pub unsafe fn unchain_table(&'static self, head: Pfn) -> (TableFrame, Option<Pfn>) {
        // SAFETY: the list owned the table, by this function's contract.
        let table = unsafe { self.table_from_entry(head) };
        let next = table.meta().next.load(Relaxed);
        (table, (next != NONE).then(|| Pfn::new(next)))
    }
}

/// A frame for one translation table; there is one holder.
///
/// Its state, level and owner are the constructor's and destructor's to set (`pgtable`). It must go
/// back through [`Frames::free_table`]: dropping it is a bug, caught in debug builds. Otherwise
/// the frame is lost, which harms nobody; freeing a table that hardware may still walk would.
#[must_use = "a table frame must be linked or given back"]
pub struct TableFrame {
    frames: &'static Frames,
    pfn: Pfn,
}

impl TableFrame {
    /// The frame.
    #[inline(always)]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Its physical address.
    #[inline(always)]
    pub fn address(&self) -> PhysAddr {
        self.pfn.start()
    }

    /// Where the kernel sees the table: 4096 bytes, shared with the walkers, hardware included.
    #[inline(always)]
    pub fn bytes(&self) -> NonNull<u8> {
        self.frames.window().virt(self.pfn.start())
    }

    /// The frame's record: lock word, live entries, and what the constructor wrote.
    #[inline(always)]
    pub fn meta(&self) -> &'static FrameMeta {
        // SAFETY: a table frame comes from a bank.
        unsafe { self.frames.record(self.pfn) }
    }

    /// The constructor's: the level the table serves at.
    pub fn set_level(&mut self, level: Level) {
        self.meta().set_table_level(level);
    }

    /// The constructor's: the id (not 0) and the kind of the space it belongs to.
    pub fn set_owner(&mut self, space: u32, kind: SpaceKind) {
        debug_assert_ne!(space, 0, "CTOR-12: a table must have an owner");
        self.meta().set_owner(space, kind);
    }

    /// The constructor's and destructor's: where the table is in its life.
    pub fn set_state(&mut self, state: TableState) {
        self.meta().set_table_state(state);
    }

    /// Puts the table at the head of a list that runs through the frame records, and gives the new
    /// head. The list owns the table: [`Frames::unchain_table`] takes it out.
    pub fn chain(self, next: Option<Pfn>) -> Pfn {
        let link = next.map_or(NONE, Pfn::raw);
        self.meta().next.store(link, Relaxed);
        self.into_entry()
    }

    /// The table becomes the property of the entry that the caller writes (or of a root word).
    #[inline(always)]
    pub fn into_entry(self) -> Pfn {
        let pfn = self.pfn;
        core::mem::forget(self);
        pfn
    }
}

impl Drop for TableFrame {
    fn drop(&mut self) {
        #[cfg(not(target_os = "none"))]
        if std::thread::panicking() {
            return;
        }
        debug_assert!(false, "law 8: {:?} dropped instead of given back", self.pfn);
    }
}

impl core::fmt::Debug for TableFrame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "TableFrame({:#x}, {:?})", self.pfn.raw(), self.meta())
    }
}
