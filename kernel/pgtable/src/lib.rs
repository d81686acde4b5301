//! The page-table engine: opaque slots, constructed tables, lockless walks, changes under locks.
//!
//! Generic code outside this crate never sees a pointer to a table entry (law 2): it holds a
//! [`Slot`] or a [`LockedSlot`], made only by a guard and borrowing it, and reads it as a value.
//! Every table page, at every level and in every kind of space, is made by
//! one constructor and ends in [`Graveyard::reap`] (law 8). Entries of a range change through a
//! [`Cursor`], whose operations fold and unfold contiguous blocks behind the caller's back, and what
//! they owe is collected in a [`Gather`].
//!
//! The engine runs unchanged over the kernel's direct map and over a host arena: what differs is
//! the [`Machine`] that a space is given.
#![cfg_attr(not(test), no_std)]

pub mod activation;
mod around;
pub mod asid;
mod block;
mod cells;
mod contpte;
mod cursor;
pub mod dump;
mod gather;
mod give;
mod grow;
mod gup;
mod kernel_space;
mod leaf;
mod lock;
pub mod machine;
mod marks;
mod part;
mod pin;
mod protect;
mod reclaim;
mod replace;
mod rights;
pub mod slot;
pub mod space;
pub mod stats;
pub mod table;
mod tags;
mod value;
pub mod walk;
mod writer;
mod zap;

pub use around::Around;
pub use asid::AsidCell;
pub use block::Block;
pub use cursor::{Absent, Cursor, LockError, Visit};
pub use gather::{Flushed, Gather};
pub use give::{PageAt, Taken};
pub use gup::Decline;
pub use kernel_space::KernelEdit;
pub use leaf::{Accessed, BlockLevel, Leaf, Moved, NotAllowed, Occupied, PageLevel};
pub use lock::Guard;
pub use machine::{Conversion, Invalidation, Machine, Pause};
pub use marks::Marking;
pub use part::Part;
pub use slot::{LockedSlot, ReadSide, Slot, ptep_get, ptep_get_lockless};
pub use space::{Kernel, Kind, Owner, PageTable, RootWord, SpaceKind, Special, User};
pub use stats::{Events, LevelCounts, TableStats};
pub use table::{Graveyard, TableDesc};
pub use value::Value;
pub use walk::{Look, Walked};
pub use zap::{Zap, ZapReason};

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
