//! The split lock of a user table: one word in the metadata of the table's frame.
//!
//! Only user tables have it to take (CTOR-05): [`Guard::lock`] is reachable through
//! `PageTable<User, _>` alone, and the word of a kernel table stays zero for ever.

use core::marker::PhantomData;

use arm64::addr::PhysAddr;
use frame::{FrameMeta, TableState};
use sync::{WordGuard, rank};

use crate::slot::{LockedSlot, TableRef};

/// Proof that the serialiser of a table is held: its split lock, or for kernel and special spaces
/// whatever serialises the whole space (CTOR-09).
pub struct Guard<'l> {
    lock: Option<WordGuard<'static, rank::Table>>,
    /// The table that was locked; without a lock every table of the space is covered.
    table: PhysAddr,
    meta: &'static FrameMeta,
    _held: PhantomData<&'l ()>,
}

impl Guard<'_> {
    /// Spins until the table's lock is ours. Order (D15): parent before child, tables of a level
    /// by physical address; both together are the key.
    #[inline]
    pub(crate) fn lock(table: &TableRef<'_>) -> Self {
        let depth = table.level().position() as u64;
        let key = depth << 56 | table.pa().raw() >> 12;
        let meta = table.meta();
        Self {
            lock: Some(meta.table_lock().lock(key)),
            table: table.pa(),
            meta,
            _held: PhantomData,
        }
    }

    /// The guard of a space that one holder changes at a time, come to `table`.
    ///
    /// # Safety
    /// The caller holds what serialises the space, for as long as the guard lives.
    pub(crate) unsafe fn whole_space(table: &TableRef<'_>) -> Self {
        Self {
            lock: None,
            table: table.pa(),
            meta: table.meta(),
            _held: PhantomData,
        }
    }

    /// The record of the table that was locked.
    #[inline(always)]
    pub(crate) fn meta(&self) -> &'static FrameMeta {
        self.meta
    }

    /// Whether the table is still linked: asked again after its lock was taken (D5, check 1).
    #[inline(always)]
    pub(crate) fn is_live(&self) -> bool {
        self.meta.table_state() == TableState::Constructed
    }

    #[inline]
    pub(crate) fn covers(&self, table: &TableRef<'_>) -> bool {
        self.lock.is_none() || self.table == table.pa()
    }

    /// The entry `index` of `table`, for changing.
    #[inline(always)]
    pub(crate) fn slot<'s>(&'s self, table: &TableRef<'s>, index: usize) -> LockedSlot<'s> {
        debug_assert!(self.covers(table), "CTOR-09: an entry under the wrong lock");
        // SAFETY: law 3 and CTOR-09: the table's serialiser is held as long as `self` is borrowed.
        unsafe { table.locked_slot(index) }
    }
}
