//! `cargo xtask`: builds, boots and checks Tessera.

mod artifacts;
mod bench;
mod ci;
mod cli;
mod docs;
mod failure;
mod gdb;
mod lints;
mod miri;
mod mutants;
mod output;
mod provision;
mod record;
mod report;
mod run;
mod setup;
mod stats;
mod symbolize;
mod terminal;
mod test;
mod toolchain;
mod ui;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Task};
use workspace::Workspace;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.task) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            ui::say(&format!("{error:#}"));
            ExitCode::from(failure::status_of(&error))
        }
    }
}

/// Runs one task and returns the exit status.
fn dispatch(task: Task) -> Result<u8> {
    let workspace = Workspace::find()?;
    match task {
        Task::Qemu(options) => run::run(&workspace, &options),
        Task::Report(options) => report::run(&workspace, &options),
        Task::Test(options) => test::run(&workspace, &options),
        Task::Mutants(options) => mutants::run(&workspace, &options),
        Task::Miri(options) => miri::run(&workspace, &options),
        Task::Bench(options) => bench::run(&workspace, &options),
        Task::Ci(options) => ci::run(&workspace, &options),
        Task::Gdb(options) => gdb::run(&workspace, &options),
        Task::Docs => docs::run(&workspace),
        Task::Setup(options) => setup::run(&workspace, &options),
        Task::RecordLinux(options) => record::run(&workspace, &options),
    }
}
