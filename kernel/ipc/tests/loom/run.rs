//! How a model is explored, and how one with a planted fault has to end.

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

/// Tests of models: each of the sources as they are, and with each of the faults that its model has
/// to see, with a part of what it reports then.
macro_rules! models {
    ($($model:ident { $($fault:ident: $report:literal),* $(,)? })+) => {$(
        mod $model {
            #[test]
            fn holds() {
                super::$model();
            }

            $(
                #[cfg(feature = "planted")]
                #[test]
                #[expect(non_snake_case, reason = "the fault's name")]
                fn $fault() {
                    let fault = sync::planted::Fault::$fault;
                    crate::run::sees(fault, concat!(module_path!(), "::holds"), $report);
                }
            )*
        }
    )+};
}

/// Runs the test `holds` with `fault` planted. It has to fail with `report`: a model that cannot see
/// the fault proves nothing. In a process of its own, since the choice of a fault is the whole
/// program's, and what other threads of a failed model held cannot be dropped outside of it.
#[cfg(feature = "planted")]
pub fn sees(fault: sync::planted::Fault, holds: &str, report: &str) {
    let (_this_crate, test) = holds.split_once("::").expect("a path");
    let program = std::env::current_exe().expect("this program");
    let mut run = std::process::Command::new(program);
    run.args(["--exact", test, "--nocapture"]);
    run.env("TESSERA_FAULT", format!("{fault:?}"));
    let output = run.output().expect("this program can be run");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("running 1 test"), "no test is called {test}");
    assert!(!output.status.success(), "holds with {fault:?}");
    assert!(said.contains(report), "failed otherwise:\n{said}");
}
