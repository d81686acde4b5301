//! Faults against changes, under loom: the shipped sources, on spaces of two levels of two entries.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p mm --release --test loom`
#![cfg(loom)]

#[path = "../../../pgtable/tests/loom/machine.rs"]
#[expect(dead_code, reason = "the engine's own models use more of it")]
mod machine;
#[path = "../../../pgtable/tests/loom/run.rs"]
#[expect(dead_code, reason = "the engine's own models use more of it")]
mod run;

mod anonymous;
mod objects;
mod stage;
