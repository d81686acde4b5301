//! Everything by which one CPU waits for, or orders itself against, another.
//!
//! Atomics, spin locks and loom are spelt in this crate and nowhere else, so that each lock-free
//! protocol of the kernel has one home, one ordering argument and one loom test over the shipped
//! source (`tests/loom.rs`). With `--cfg loom` the same source runs on loom's atomics.
//!
//! Two kinds of exclusion exist (DESIGN D3):
//!
//! - a [`SpinLock`] (or the one-word [`LockWord`]) never crosses a return to EL0; its place in the
//!   lock order is part of its type ([`rank`]), and with debug assertions every acquisition is
//!   checked against what the CPU already holds;
//! - an [`Ownership`] may last over many entries to the kernel; it is a record, not a lock, and
//!   who waits for it sleeps in a [`Queue`].
//!
//! Memory that lockless walkers may still read is given back through [`grace::Grace`].

#![no_std]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(not(target_os = "none"))]
extern crate std;

pub mod atomic;
pub mod grace;
#[cfg(loom)]
pub mod models;
pub mod planted;
pub mod rank;

mod cpu;
mod lock;
mod once;
mod ownership;
mod queue;
mod refcount;
mod ring;
mod seqcount;
mod word;

pub use cpu::{CachePadded, MAX_CPUS, cpu_index, panicking, relax};
pub use lock::{SpinGuard, SpinLock};
pub use once::{Once, Relax};
pub use ownership::{OwnedBy, OwnerId, Ownership};
pub use queue::{AlreadyQueued, Link, Linked, Queue};
pub use rank::Rank;
pub use refcount::RefCount;
pub use ring::Ring;
pub use seqcount::{SeqCount, SeqWrite};
pub use word::{LockWord, WordGuard};

/// Declares a constructor that is `const`, except under loom, whose atomics register themselves
/// with the running model when they are made.
#[macro_export]
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis const $($function:tt)*) => {
        $(#[$meta])*
        #[cfg(not(loom))]
        $vis const $($function)*

        $(#[$meta])*
        #[cfg(loom)]
        $vis $($function)*
    };
}
