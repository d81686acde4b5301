//! Physical memory: who has which frame, and for what.
//!
//! Every frame of RAM has a 64-byte record ([`FrameMeta`]) that says what the frame is. Frames come
//! from a buddy allocator ([`Frames`]) and are held as *typed frames*, so that what may be done
//! with a frame is decided by the compiler (DESIGN D17):
//!
//! | type | what it is | how many holders | given back by |
//! |---|---|---|---|
//! | [`FreshFrame`] | never mapped, contents ours alone | one | drop |
//! | [`UserFrame`] | may be mapped at EL0, read and written under races | counted | last drop |
//! | [`TableFrame`] | a translation table | one | [`Frames::free_table`] only |
//! | [`KernelFrame`] | stack, heap, slab, … | one | drop |
//!
//! The only ways from one row to another are [`FreshFrame::into_user`] and freeing. A table frame
//! can therefore not be mapped at EL0: nothing produces a `UserFrame` from it.
//!
//! [`PageSlots`] keeps user frames where others find them without a lock: the leaves of a page cache.
//!
//! [`slab`] makes small objects out of kernel frames. On the host, [`arena`] provides memory that
//! behaves like a bank of RAM; the allocator is the same code there and in the kernel.

#![no_std]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(not(target_os = "none"))]
extern crate std;

#[cfg(not(target_os = "none"))]
pub mod arena;
pub mod slab;

mod buddy;
mod cells;
mod chunks;
mod frames;
mod fresh;
mod give;
mod kernel;
mod memmap;
mod meta;
mod percpu;
mod pins;
mod racy;
mod runs;
mod slots;
mod stats;
mod storage;
mod table;
mod tagged;
mod user;
mod window;

pub use buddy::MAX_ORDER;
pub use chunks::{ChunkError, TableChunks};
pub use frames::Frames;
pub use fresh::{Folio, FreshFrame, Page};
pub use give::Held;
pub use kernel::KernelFrame;
pub use memmap::{BankError, MAX_BANKS};
pub use meta::{CLASSES, Class, FrameMeta, SpaceKind, TableState};
pub use pins::FramePins;
pub use slots::PageSlots;
pub use stats::{FrameStats, OutOfMemory};
pub use storage::{
    BlockClaim, BlockRef, MAX_TAG_BLOCK, MAX_TAG_REGIONS, PAGES_PER_TAG_PAGE, Reservation,
    TagRegion, TagStats, Unreserved,
};
pub use table::TableFrame;
pub use tagged::{Initialising, PageTags, TAG_BYTES, TagBacked, TagInit, TagOps};
pub use user::{Bytes, UserFrame};
pub use window::{PageOps, Window};

#[cfg(all(test, not(loom)))]
mod tests;
