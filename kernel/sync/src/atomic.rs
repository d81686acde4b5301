//! Atomic types and fences: those of `core`, or loom's when built with `--cfg loom`.
//!
//! Code that wants to be checked by loom must reach atomics through here. Loom's constructors are
//! not `const`; [`const_fn!`](crate::const_fn) bridges that.

#[cfg(not(loom))]
pub use core::sync::atomic::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
    Ordering, fence,
};

#[cfg(loom)]
pub use loom::sync::atomic::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
    Ordering, fence,
};
