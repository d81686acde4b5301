//! Tests that need the inside of the crate: wrong frees, failing allocations, raw records.

mod banks;
mod chunks;
mod copies;
mod lists;
mod storage;
mod typed;
