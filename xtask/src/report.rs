//! `cargo xtask report`: runs a program with everything watched, and writes a page about it.

use anyhow::Result;
use xtask::ending::status;
use xtask::page::{Facts, page};

use crate::cli::Report;
use crate::failure::failure;
use crate::output::Output;
use crate::run::{self, Done};
use crate::ui;
use crate::workspace::Workspace;

/// Categories that are traced unless others are asked for: all that is about memory.
const CATEGORIES: &str = "fault,map,zap,fold,around,cow,object,flush,tables";

/// Runs the command and returns the exit status, which is that of the run.
///
/// # Errors
/// There is no program, the page cannot be written, or the machine cannot be started.
pub fn run(workspace: &Workspace, options: &Report) -> Result<u8> {
    if options.qemu.command.is_empty() {
        let text = "which program? cargo xtask report [OPTIONS] -- PROGRAM [ARGS]...";
        return Err(failure(status::USAGE, text));
    }
    let output = Output::open(&options.out)?;
    let mut qemu = options.qemu.clone();
    let events = format!("tessera.trace_events={}", options.events);
    qemu.machine.bootarg.insert(0, events);
    qemu.machine.bootarg.insert(0, "tessera.describe=1".into());
    if qemu.trace.is_none() {
        qemu.machine
            .bootarg
            .insert(0, format!("tessera.trace={CATEGORIES}"));
    }
    // Costs are instructions only where they are counted.
    qemu.machine.icount |= qemu.machine.smp.is_none_or(|cpus| cpus == 1);
    let Some(done) = run::boot(workspace, &qemu)? else {
        return Ok(0);
    };
    output.write(written(&done, &qemu).as_bytes())?;
    ui::say(&format!("the report is in {}", options.out.display()));
    run::tell(&done, &qemu)
}

fn written(done: &Done, options: &crate::cli::Qemu) -> String {
    let machine = &options.machine;
    let cpus = match (machine.icount, machine.smp) {
        (true, _) => "1 CPU whose instructions are counted".to_owned(),
        (false, cpus) => format!("{} CPUs", cpus.unwrap_or(run::CPUS)),
    };
    page(&Facts {
        command: &options.command.join(" "),
        machine: &format!("{}, {cpus}, {}", machine.cpu, machine.memory),
        ending: &done.run.ending.to_string(),
        seconds: done.run.elapsed.as_secs_f64(),
        lines: &done.run.lines,
    })
}
