//! How a model is explored.

use crate::machine::LoomMachine;

/// Explores `check`, on a fresh machine each time, in all the ways in which threads are interrupted at
/// most five times beside where they wait. Two show the usual race of two operations.
pub fn explore(
    pages: u64,
    entries: usize,
    check: impl Fn(&'static LoomMachine) + Send + Sync + 'static,
) {
    explore_bounded(5, pages, entries, check);
}

/// As [`explore`], but at most `switches` times: for models of more steps or threads.
pub fn explore_bounded(
    switches: usize,
    pages: u64,
    entries: usize,
    check: impl Fn(&'static LoomMachine) + Send + Sync + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.max_branches = 50_000;
    builder.check(move || check(LoomMachine::new(pages, entries)));
}
