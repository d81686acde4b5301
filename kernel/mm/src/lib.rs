//! Memory policy: address spaces, areas, the fault decision and its application, the verbs that
//! change a map, and kernel access to user memory. Safe Rust by compiler order (D1).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod asks;
pub mod change;
pub mod context;
mod epochs;
pub mod error;
pub mod fault;
mod gup;
pub mod layout;
mod maps;
pub mod object;
pub mod policy;
mod rmap;
pub mod space;
pub mod stats;
pub mod tags;
pub mod trace;
mod uaccess;
mod verbs;
pub mod vma;
mod vma_tree;

pub use asks::{Ask, Asks, Refused};
pub use change::{Change, Changed, Verb};
pub use context::{MmContext, Reclaimer};
pub use error::MmError;
pub use fault::facts::Access;
pub use fault::{FaultInput, FaultOutcome, Mode, SegvCode};
pub use gup::{GupFast, step_len};
pub use object::{ImageObject, MemObject};
pub use policy::Policy;
pub use space::Space;
pub use stats::Counters;
pub use uaccess::{CopyStop, PINS, Pins};
pub use verbs::advise::{Advice, Only};
pub use verbs::map::{MapFlags, MapRequest};
pub use verbs::populate::Populated;
pub use verbs::protect::Grows;
pub use verbs::remap::RemapFlags;
pub use verbs::remove::Piece;
pub use verbs::supply::{MoveStop, Moved};
pub use vma::{AnonOrigin, Backing, Vma, VmaFlags};
