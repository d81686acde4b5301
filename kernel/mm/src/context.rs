//! What all address spaces of a machine share.

use core::sync::atomic::Ordering;

use pgtable::{Graveyard, Machine};
use sync::atomic::AtomicU32;

use crate::asid::Asids;

/// The number of `init_mm`.
pub const INIT_MM: u32 = 1;

/// Machine, identifiers and the graveyard of tables.
pub struct MmContext<M: Machine> {
    pub(crate) machine: &'static M,
    pub(crate) graveyard: &'static Graveyard,
    pub(crate) asids: Asids,
    /// Instructions (or ticks) so far: what the first fault of a space is measured with.
    pub(crate) clock: fn() -> u64,
    next_id: AtomicU32,
}

impl<M: Machine> MmContext<M> {
    /// A context for a machine whose identifiers have `asid_bits` bits.
    pub const fn new(
        machine: &'static M,
        graveyard: &'static Graveyard,
        asid_bits: u8,
        clock: fn() -> u64,
    ) -> Self {
        let next_id = AtomicU32::new(INIT_MM + 16);
        Self {
            machine,
            graveyard,
            asids: Asids::new(asid_bits),
            clock,
            next_id,
        }
    }

    pub(crate) fn new_id(&self) -> u32 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Most pages that one private writable mapping may promise: what the machine has.
    pub(crate) fn promise_limit(&self) -> u64 {
        let banks = self.machine.frames().banks();
        banks.map(|bank| bank.end.raw() - bank.start.raw()).sum()
    }
}
