//! What this kernel does with a table page when it is constructed and destructed (CTOR-17).
//!
//! The hooks check and count. Boot tables pass through them too (CTOR-18), so whatever they do
//! holds for every table that a walk can find.

use pgtable::{TableDesc, TableError};
use sync::atomic::{AtomicU64, Ordering};

static CONSTRUCTED: AtomicU64 = AtomicU64::new(0);
static DESTRUCTED: AtomicU64 = AtomicU64::new(0);

/// Sees a table page before it is linked.
///
/// # Errors
/// Never refuses in this kernel; the engine unwinds if it does.
pub fn on_construct(table: &TableDesc) -> Result<(), TableError> {
    debug_assert!(table.pa.is_aligned(4096), "law 8: a table is a page");
    CONSTRUCTED.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Sees a table page after its grace period, before its frame is freed.
pub fn on_destruct(table: &TableDesc) {
    debug_assert!(table.pa.is_aligned(4096), "law 8: a table is a page");
    DESTRUCTED.fetch_add(1, Ordering::Relaxed);
}

/// Calls of both hooks so far: constructed, destructed.
pub fn calls() -> (u64, u64) {
    (
        CONSTRUCTED.load(Ordering::Relaxed),
        DESTRUCTED.load(Ordering::Relaxed),
    )
}
