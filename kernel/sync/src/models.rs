//! Tests of models under loom, for all crates that have some: each of the shipped sources, and each
//! with the faults that it has to see.

#[cfg(feature = "planted")]
use std::string::String;

#[cfg(feature = "planted")]
use crate::planted::Fault;

/// Tests of models: each of the sources as they are, and with each of the faults that its model has
/// to see, with a part of what it reports then.
#[macro_export]
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
                    let fault = $crate::planted::Fault::$fault;
                    $crate::models::sees(fault, concat!(module_path!(), "::holds"), $report);
                }
            )*
        }
    )+};
}

/// Runs the test `holds` with `fault` planted. It has to fail with `report`: a model that cannot see
/// the fault proves nothing. In a process of its own, since the choice of a fault is the whole
/// program's, and what other threads of a failed model held cannot be dropped outside of it.
///
/// # Panics
/// It has not failed, or otherwise.
#[cfg(feature = "planted")]
pub fn sees(fault: Fault, holds: &str, report: &str) {
    let (_this_crate, test) = holds.split_once("::").expect("a path");
    let program = std::env::current_exe().expect("this program");
    let mut run = std::process::Command::new(program);
    run.args(["--exact", test, "--nocapture"]);
    run.env("TESSERA_FAULT", std::format!("{fault:?}"));
    let output = run.output().expect("this program can be run");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("running 1 test"), "no test is called {test}");
    assert!(!output.status.success(), "holds with {fault:?}");
    assert!(said.contains(report), "failed otherwise:\n{said}");
}
