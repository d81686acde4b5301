//! What stands behind mapped memory that is not anonymous.
//!
//! - An [`ImageObject`] is bytes that never change.
//! - A [`MemObject`] is shared memory: a size and pages that come into being when they are
//!   touched. Its pages are found without a lock ([`tree`]), its mappings by the reverse map
//!   ([`mappings`]), and what changes many pages goes in steps ([`resize`], [`punch`],
//!   [`allocate`]).
//!
//! The lock of an object ranks below ownership of a map and above tables (D15).

pub mod account;
pub mod allocate;
pub mod clean;
pub mod image;
pub mod mappings;
pub mod mem;
pub mod name;
pub mod pager;
pub mod punch;
pub mod resize;
pub mod store;
pub mod tree;

mod vacancy;
mod visit;

pub use account::Account;
pub use allocate::Allocate;
pub use clean::{Collect, DropClean, Evicted};
pub use image::ImageObject;
pub use mappings::{Mapper, Room, UnmapReason, Unmapping};
pub use mem::{MAX_SIZE, MemObject, MoveGuard, ObjectError, Seals, SupplyError};
pub use name::Name;
pub use pager::PagerLink;
pub use punch::Punch;
pub use resize::Resize;
pub use store::Objects;
pub(crate) use vacancy::Vacancy;
