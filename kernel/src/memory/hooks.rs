//! What this kernel does with a table page when it is constructed and destructed (CTOR-17).
//!
//! The hooks check and count; protection is the chunk's that the page lies in (`protect.rs`), and was
//! in place before the page was handed out. Boot tables pass through them too (CTOR-18), before
//! anything is protected.

use mm::trace::{Event, Kind};
use pgtable::{TableDesc, TableError};
use sync::atomic::{AtomicU64, Ordering};
use sync::planted::{Fault, is};

use super::protect;
use crate::arch::table_window;
use crate::trace;

static CONSTRUCTED: AtomicU64 = AtomicU64::new(0);
static DESTRUCTED: AtomicU64 = AtomicU64::new(0);

/// Sees a table page before it is linked.
///
/// # Errors
/// Never refuses in this kernel; the engine unwinds if it does.
pub fn on_construct(table: &TableDesc) -> Result<(), TableError> {
    debug_assert!(table.pa.is_aligned(4096), "law 8: a table is a page");
    debug_assert!(
        !table_window::is_installed() || is(Fault::LeaveTableWritable) || protect::is_sealed(table),
        "D16: a table is constructed in a page that can be written"
    );
    CONSTRUCTED.fetch_add(1, Ordering::Relaxed);
    tell(Kind::TableMade, table);
    Ok(())
}

/// Sees a table page after its grace period, before its frame is freed.
pub fn on_destruct(table: &TableDesc) {
    debug_assert!(table.pa.is_aligned(4096), "law 8: a table is a page");
    DESTRUCTED.fetch_add(1, Ordering::Relaxed);
    tell(Kind::TableFreed, table);
}

fn tell(kind: Kind, table: &TableDesc) {
    trace::tell(kind, || {
        let level = i64::from(table.level.number()) as u64;
        Event::new(kind, table.owner.id, table.pa.raw(), level)
    });
}

/// Calls of both hooks so far: constructed, destructed.
pub fn calls() -> (u64, u64) {
    (
        CONSTRUCTED.load(Ordering::Relaxed),
        DESTRUCTED.load(Ordering::Relaxed),
    )
}
