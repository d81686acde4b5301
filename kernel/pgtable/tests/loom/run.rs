//! How a model is explored, and how one with a planted fault has to end.

use crate::machine::LoomMachine;

/// Explores `check` on a fresh machine each time, with at most `switches` forced switches between
/// threads: two show every race of two operations.
pub fn explore(
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

/// Tests of models: each of the sources as they are, and with each of the faults that its model has
/// to see, with a part of what it reports then.
macro_rules! models {
    ($($model:ident { $($fault:ident: $report:literal),* $(,)? })+) => {$(
        mod $model {
            #[test]
            fn holds() {
                crate::run::holds(super::$model);
            }

            $(
                #[cfg(feature = "planted")]
                #[test]
                #[expect(non_snake_case, reason = "the fault's name")]
                fn $fault() {
                    use sync::planted::Fault;
                    crate::run::sees(Fault::$fault, $report, super::$model);
                }
            )*
        }
    )+};
}

/// Runs a model of the sources as they are.
pub fn holds(model: fn()) {
    #[cfg(feature = "planted")]
    let _nothing_planted = planted::LOCK.read();
    model();
}

#[cfg(feature = "planted")]
pub use planted::sees;

#[cfg(feature = "planted")]
mod planted {
    use std::panic::catch_unwind;
    use std::sync::{PoisonError, RwLock};

    use sync::planted::{Fault, plant};

    /// The choice of a fault is the whole program's.
    pub static LOCK: RwLock<()> = RwLock::new(());

    /// Runs a model with `fault` planted, which has to fail with `report`: a model that cannot see
    /// the fault proves nothing.
    pub fn sees(fault: Fault, report: &str, model: fn()) {
        let alone = LOCK.write().unwrap_or_else(PoisonError::into_inner);
        let named = std::env::var("TESSERA_FAULT").ok();
        plant(Some(fault));
        let result = catch_unwind(model);
        plant(named.as_deref().and_then(Fault::named));
        drop(alone);
        let panic = result.expect_err("the model holds with a fault in it");
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without words");
        assert!(text.contains(report), "failed otherwise: {text}");
    }
}
