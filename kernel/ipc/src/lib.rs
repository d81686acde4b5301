//! How threads wait for each other: who may wake a sleeper, and in which queues sleepers stand.
//!
//! Safe Rust by compiler order (D1), and generic over what a thread is, so that the sources which
//! the kernel runs are the ones that loom explores (`tests/loom.rs`). Making a thread runnable,
//! time and user memory are the caller's.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod futex;
pub mod park;
