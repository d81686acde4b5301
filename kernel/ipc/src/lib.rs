//! How threads wait, for each other and for a CPU: who may wake a sleeper, in which queues they stand,
//! and who takes them from there.
//!
//! Safe Rust by compiler order (D1), and generic over what a thread is, so that the sources which
//! the kernel runs are the ones that loom explores (`tests/loom.rs`). Making a thread runnable,
//! time and user memory are the caller's.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod endpoint;
pub mod futex;
pub mod park;
pub mod ready;
pub mod reply;
