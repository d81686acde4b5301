//! The two getters as functions of their own, for a look at their instructions.

#![no_std]

use pgtable::{Guard, LockedSlot, ReadSide, Slot, Value, ptep_get, ptep_get_lockless};

/// The getter under the lock.
// SAFETY: no other symbol of the probe has this name.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn probe_locked(slot: &LockedSlot<'_>, guard: &Guard<'_>) -> Value {
    ptep_get(slot, guard)
}

/// The getter without a lock.
// SAFETY: no other symbol of the probe has this name.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn probe_lockless(slot: &Slot<'_>, section: &ReadSide<'_>) -> Value {
    ptep_get_lockless(slot, section)
}
