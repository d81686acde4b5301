//! Parking, waking and messages as shipped, under loom.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p ipc --release --test loom`
#![cfg(loom)]

mod run;

mod endpoint;
mod futex;
mod park;
mod party;
mod ready;
