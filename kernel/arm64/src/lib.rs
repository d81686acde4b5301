//! The arm64 architecture as values.
//!
//! Nothing here touches hardware: no assembly, no state, no `unsafe`. The crate says what an
//! address, a translation table, a page-table entry, a fault syndrome or a control register *means*
//! for a 4 KiB granule at stage 1 of the EL1&0 translation regime; `kernel::arch` and `pgtable` act
//! on it. That is why all of it runs, and is tested exhaustively, on the host.
//!
//! Boot code calls [`pte::Format::leaf`], [`pte::Format::table`] and [`geometry::Geometry::index`]
//! while the MMU is off and the image is not yet at its link address. Those functions are straight
//! arithmetic on their arguments: they read no table of pointers and cannot panic.
//!
//! Rules are cited as `[ARM "section title"]` (Arm ARM, DDI 0487) or by requirement id.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod addr;
pub mod attrs;
pub mod bbm;
pub mod esr;
pub mod geometry;
pub mod pte;
pub mod regs;
pub mod tlbi;
mod user_addr;

pub use user_addr::UserAddr;
