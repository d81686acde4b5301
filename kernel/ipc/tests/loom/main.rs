//! Parking and waking as shipped, under loom.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p ipc --release --test loom`
#![cfg(loom)]

#[macro_use]
mod run;

mod futex;
mod park;
mod ready;
