//! The engine's protocols under loom: the shipped sources, on spaces of toy shapes.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p pgtable --release --test loom`
//!
//! With `--features planted` each protocol is also run with a fault that its model has to see.
#![cfg(loom)]

mod run;

mod contpte;
mod grow;
mod gup;
mod machine;
mod pin;
mod race;
mod replace;
mod unlink;
