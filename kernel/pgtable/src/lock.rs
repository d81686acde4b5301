//! The split lock of a user table: one word in the metadata of the table's frame.
//!
//! Only user tables have it to take (CTOR-05): [`TableLock::take`] is reachable through
//! `PageTable<User, _>` alone, and the word of a kernel table stays zero for ever.

use sync::{WordGuard, rank};

use crate::slot::TableRef;

/// The held lock of one user table.
pub(crate) struct TableLock {
    _guard: WordGuard<'static, rank::Table>,
}

impl TableLock {
    /// Spins until the table's lock is ours. Order (D15): parent before child, tables of a level
    /// by physical address; both together are the key.
    #[inline]
    pub(crate) fn take(table: &TableRef<'_>) -> Self {
        let depth = table.level().position() as u64;
        let key = depth << 56 | table.pa().raw() >> 12;
        Self {
            _guard: table.meta().table_lock().lock(key),
        }
    }
}
