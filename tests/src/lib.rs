//! Boots Tessera in QEMU and judges it from outside: from the serial console, the exit status and
//! [an independent reader](reader) of guest memory.
//!
//! The machinery: [`runner`] boots under a watchdog, [`outcome`] judges, [`witness`] answers the
//! kernel's snapshots with the reader, [`stage`] puts a program on a machine of the [`matrix`], and
//! [`make`] writes odd inputs. The tests: [`selftests`], [`scenarios`], [`servers`], [`fuzz`], [`reports`], [`doors`], [`bad_elf`],
//! [`prompt`], [`bad_tree`], [`machines`], [`codegen`], [`verbs`] and [`liars`].

pub mod bad_elf;
pub mod bad_tree;
pub mod codegen;
#[cfg(test)]
mod doc_links;
pub mod doors;
pub mod env;
pub mod fuzz;
pub mod liars;
pub mod machines;
pub mod make;
pub mod matrix;
pub mod outcome;
pub mod prompt;
pub mod reader;
pub mod report;
pub mod reports;
pub mod runner;
pub mod scenarios;
pub mod selftests;
pub mod servers;
pub mod stage;
pub mod verbs;
pub mod witness;

use libtest_mimic::{Failed, Trial};

/// Every test that boots QEMU.
pub fn trials() -> Vec<Trial> {
    [
        liars::trials(),
        selftests::trials(),
        scenarios::trials(),
        servers::trials(),
        fuzz::trials(),
        reports::trials(),
        doors::trials(),
        machines::trials(),
        bad_elf::trials(),
        prompt::trials(),
        bad_tree::trials(),
        codegen::trials(),
        verbs::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A test that is ignored where there is no QEMU to run it.
pub(crate) fn trial(
    name: String,
    test: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> Trial {
    Trial::test(name, move || {
        test().map_err(|error| Failed::from(format!("{error:#}")))
    })
    .with_ignored_flag(!env::is_given())
}
