//! The page-table engine: opaque slots, constructed tables, lockless walks, changes under locks.
//!
//! Generic code outside this crate never sees a pointer to a table entry (law 2): it holds a
//! [`Slot`] or a [`LockedSlot`], made only by a guard and borrowing it, and reads it as a value.
//! Every table page, at every level and in every kind of space, is made by
//! one constructor and ends in [`Graveyard::reap`] (law 8).
//!
//! The engine runs unchanged over the kernel's direct map and over a host arena: what differs is
//! the [`Machine`] that a space is given.
#![cfg_attr(not(test), no_std)]

pub mod dump;
mod kernel_space;
mod lock;
pub mod machine;
mod protect;
pub mod slot;
pub mod space;
pub mod stats;
pub mod table;
pub mod tlb;
mod user_space;
pub mod walk;

pub use kernel_space::KernelEdit;
pub use machine::{Invalidation, Machine, Pause};
pub use slot::{LockedSlot, ReadSide, Slot, ptep_get, ptep_get_lockless};
pub use space::{Kernel, Kind, Owner, PageTable, RootWord, SpaceKind, Special, User};
pub use stats::{LevelCounts, TableStats};
pub use table::{Graveyard, TableDesc};
pub use tlb::{Flushed, Torn};
pub use user_space::{Leaf, NotAllowed};
pub use walk::{Look, Walked};

/// Why a table operation could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// No frame for a new table; nothing was changed that an empty table does not explain.
    NoMemory,
    /// A constructor hook refused the table (CTOR-22); it was unwound and freed.
    Refused,
    /// The range does not fit the space, or is not page aligned: the caller's mistake.
    BadRange,
    /// An entry stands where a new mapping was to go: the caller's mistake.
    Occupied,
}
