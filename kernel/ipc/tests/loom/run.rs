//! How a model is explored.

/// Explores `check` in all the ways in which its threads can be interrupted.
pub fn explore(check: impl Fn() + Send + Sync + 'static) {
    loom::model(check);
}

/// Explores `check` in all the ways in which its threads are interrupted at most `switches` times
/// beside where they wait: for models of more threads.
pub fn explore_bounded(switches: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(check);
}
