//! The end of a program as a work item: report, take apart, wait, count, and what comes then.
//!
//! The order matters to the last step: only when the space is gone, its tables have outlived their
//! grace period and nobody knows the process any more do free frames tell whether something leaked.

use alloc::string::String;
use core::fmt::Write;

use frame::slab::Ref;
use mm::Change;
use sync::grace::Ticket;

use super::stats;
use crate::arch::mmu::grace;
use crate::handle::console::{self, Listener};
use crate::process::Process;
use crate::sched;
use crate::syscall::native::Growing;
use crate::work::{Progress, Work};
use crate::{arch, bootargs, control, memory, prompt, trace};

/// Pages that one step unmaps.
const BUDGET: u32 = 64;
/// Grace periods that are waited for before frames that are not back count as leaked.
const PATIENCE: u32 = 4;

/// A process on its way out.
#[derive(Debug)]
pub struct Ending {
    status: u32,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// All threads have left; say how it ended.
    Report(Ref<Process>),
    /// The host-side reader looks at memory; wait for its line end.
    Snapshot(Ref<Process>),
    /// Unmap everything.
    Unmap(Ref<Process>, Change),
    /// Wait until no thread record knows the process.
    Desert(Ref<Process>),
    /// Wait until what it freed is free.
    Settle {
        text: String,
        ticket: Ticket,
        left: u32,
    },
}

impl Ending {
    /// The end of `process`, whose threads have all left.
    pub fn new(process: Ref<Process>) -> Self {
        let status = process.end().map_or(0, |end| end.status());
        Self {
            status,
            stage: Stage::Report(process),
        }
    }

    /// One step.
    pub fn step(self) -> Progress {
        let status = self.status;
        let more = |stage| Progress::More(Work::End(Self { status, stage }));
        let later = |stage| Progress::Later(Work::End(Self { status, stage }));
        match self.stage {
            Stage::Report(process) => {
                report(&process);
                match bootargs::get().snapshot_exit {
                    true => {
                        console::listen(Listener::Kernel);
                        super::snapshot(&process);
                        later(Stage::Snapshot(process))
                    }
                    false => more(unmap(process)),
                }
            }
            Stage::Snapshot(process) => match console::take_line_end() {
                true => {
                    console::listen(Listener::Program);
                    control::line(format_args!("resume"));
                    more(unmap(process))
                }
                false => later(Stage::Snapshot(process)),
            },
            Stage::Unmap(process, mut change) => match change.step(process.space(), BUDGET) {
                None => more(Stage::Unmap(process, change)),
                Some(_) => more(Stage::Desert(process)),
            },
            Stage::Desert(process) if !process.is_deserted() => later(Stage::Desert(process)),
            Stage::Desert(process) => later(leave(process)),
            Stage::Settle { text, ticket, left } if !grace().is_over(ticket) => {
                sched::hasten_grace();
                later(Stage::Settle { text, ticket, left })
            }
            Stage::Settle { text, left, .. } => match is_settled(left) {
                true => finish(&text, status),
                false => {
                    let (ticket, left) = (grace().start(), left - 1);
                    more(Stage::Settle { text, ticket, left })
                }
            },
        }
    }
}

fn report(process: &Process) {
    if let Some(end) = process.end() {
        super::ended(&end);
    }
    super::unknown_calls();
    if bootargs::get().describe {
        super::describe(process);
    }
    prompt::remember(process);
}

fn unmap(process: Ref<Process>) -> Stage {
    match process.space().begin_teardown() {
        Ok(change) => Stage::Unmap(process, change),
        // No thread is left that could own the map; dropping the space unmaps what is there.
        Err(_) => Stage::Desert(process),
    }
}

/// Drops the process, with the figures that need its space taken before.
fn leave(process: Ref<Process>) -> Stage {
    let mut text = Growing::default();
    // A text that is cut short for want of memory is still told from none.
    if stats::write_open(&mut text, &process).is_err() {
        text = Growing::default();
    }
    arch::activate::deactivate();
    drop(process);
    Stage::Settle {
        text: text.0,
        ticket: grace().start(),
        left: PATIENCE,
    }
}

/// Whether all that can come back has come back.
fn is_settled(left: u32) -> bool {
    let buried = !memory::graveyard().is_empty() || !memory::context().objects().is_reaped();
    let missing = stats::free_frames() < stats::free_before();
    !(buried || missing) || left == 0
}

/// Tells the figures and goes on to the next program, or to the end of the machine.
fn finish(text: &str, status: u32) -> Progress {
    let (before, after) = (stats::free_before(), stats::free_frames());
    let leaked = i128::from(before) - i128::from(after);
    let mut end = Growing::default();
    let _short = stats::write_tables(&mut end);
    let _short = stats::write_all_spaces(&mut end, None);
    let _short = write!(
        end,
        ",\"frames\":{{\"before\":{before},\"after\":{after}}},\"leaked_frames\":{leaked}}}"
    );
    match text.is_empty() {
        true => log::warn!("no memory for the cost report"),
        false => control::line(format_args!("stats json={text}{}", end.0)),
    }
    if leaked != 0 {
        log::warn!("{leaked} frames did not come back after the program");
    }
    trace::dump();
    prompt::remember_stats(text, &end.0);
    prompt::after_program(status);
    Progress::Done
}
