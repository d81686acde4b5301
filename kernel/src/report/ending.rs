//! The end of a process, step by step: its children, its handles, its memory, and of a program that was
//! started by the machine the report and what comes then.
//!
//! The order matters to the last step: only when the space is gone, its tables have outlived their
//! grace period and nobody knows the process any more do free frames tell whether something leaked.

use abi::Binding;
use frame::slab::Ref;
use mm::Change;

use super::stats;
use crate::handle::console::{self, Listener};
use crate::process::Process;
use crate::process::end::End;
use crate::process::end::signal;
use crate::syscall::native::info::Growing;
use crate::work::Progress;
use crate::{arch, bootargs, control, ipc, prompt};

/// Pages that one step unmaps.
const BUDGET: u32 = 64;
/// Handles that one step closes.
const CLOSED: usize = 16;

/// How far the end of a process has come.
#[derive(Debug)]
pub enum Ending {
    /// All its threads have left; end those below it, wait for them.
    Children,
    /// Say how it ended.
    Report,
    /// The host-side reader looks at memory; wait for its line end.
    Snapshot,
    /// Close its handles, from this slot on.
    Handles(usize),
    /// Unmap everything.
    Unmap(Change),
    /// Wait until no thread record knows it.
    Desert,
}

impl Ending {
    /// One step of the end of `process`: what comes next, and when. `None`: all is done.
    pub fn step(self, process: &Ref<Process>) -> (Option<Self>, Progress) {
        let more = |next| (Some(next), Progress::More);
        let later = |next| (Some(next), Progress::Later);
        match self {
            Self::Children => match process.end_children() {
                true => more(Self::Report),
                false => later(Self::Children),
            },
            Self::Report if process.parent().is_some() => {
                report_child(process);
                more(Self::Handles(0))
            }
            Self::Report => {
                report(process);
                match bootargs::get().snapshot_exit {
                    true => {
                        console::listen(Listener::Kernel);
                        super::snapshot(process);
                        later(Self::Snapshot)
                    }
                    false => more(Self::Handles(0)),
                }
            }
            Self::Snapshot => match console::take_line_end() {
                true => {
                    console::listen(Listener::Program);
                    control::line(format_args!("resume"));
                    more(Self::Handles(0))
                }
                false => later(Self::Snapshot),
            },
            Self::Handles(from) => match close_some(process, from) {
                Some(next) => more(Self::Handles(next)),
                None => more(unmap(process)),
            },
            Self::Unmap(mut change) => match change.step(process.space(), BUDGET) {
                None => more(Self::Unmap(change)),
                Some(_) => more(Self::Desert),
            },
            // Handles of others may keep a child's threads and its record for as long as they like.
            Self::Desert if process.parent().is_some() => {
                process.bury();
                (None, Progress::Done)
            }
            Self::Desert if !process.is_deserted() => later(Self::Desert),
            Self::Desert => {
                leave(process);
                (None, Progress::Done)
            }
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

/// A child that nobody had bound anything to has a definite end with a report all the same.
fn report_child(process: &Process) {
    let Some(End::Killed { signal, .. }) = process.end() else {
        return;
    };
    if signal != signal::KILL && process.binding(Binding::Exceptions).is_none() {
        let end = process.end().unwrap_or(End::Exited(0));
        log::warn!("process {}: {end}", process.pid());
    }
}

/// Closes some handles, and says from which slot to go on.
fn close_some(process: &Process, mut from: usize) -> Option<usize> {
    process.handles().end();
    for _ in 0..CLOSED {
        let (fd, handle) = process.handles().take_from(from)?;
        drop(handle);
        from = fd + 1;
    }
    Some(from)
}

fn unmap(process: &Process) -> Ending {
    match process.space().begin_teardown() {
        Ok(change) => Ending::Unmap(change),
        // No thread is left that could own the map; dropping the space unmaps what is there.
        Err(_) => Ending::Desert,
    }
}

/// The program that the machine was started with has gone: takes the figures that need its space.
fn leave(process: &Ref<Process>) {
    let mut text = Growing::default();
    // A text that is cut short for want of memory is still told from none.
    if stats::write_open(&mut text, process).is_err() {
        text = Growing::default();
    }
    arch::activate::deactivate();
    let status = process.end().map_or(0, |end| end.status());
    settling::begin(text.0, status);
}

/// Tells whoever is bound to the end of `process`.
pub fn announce(process: &Process) {
    if let Some(port) = process.binding(Binding::End) {
        // Whether anybody hears it makes no difference.
        let _heard = ipc::notify(port.endpoint(), Binding::ENDED);
    }
}

/// What comes after the last process of a program: waiting until what it freed is free, its figures,
/// and the next program or the end of the machine.
pub mod settling {
    use alloc::string::String;
    use core::fmt::Write;

    use sync::atomic::{AtomicBool, Ordering};
    use sync::grace::Ticket;
    use sync::{SpinLock, rank};

    use super::stats;
    use crate::arch::mmu::grace;
    use crate::sched::cpu::Cpu;
    use crate::syscall::native::info::Growing;
    use crate::{control, memory, prompt, sched, trace};

    /// Grace periods that are waited for before frames that are not back count as leaked.
    const PATIENCE: u32 = 4;

    struct Settling {
        text: String,
        status: u32,
        ticket: Ticket,
        left: u32,
    }

    static STATE: SpinLock<Option<Settling>, rank::Leaf> = SpinLock::new(None);
    static PENDING: AtomicBool = AtomicBool::new(false);

    /// Begins to wait, with the figures that were taken before.
    pub(super) fn begin(text: String, status: u32) {
        let settling = Settling {
            text,
            status,
            ticket: grace().start(),
            left: PATIENCE,
        };
        *STATE.lock() = Some(settling);
        PENDING.store(true, Ordering::Release);
    }

    /// Whether there is something to wait for.
    pub fn is_pending() -> bool {
        PENDING.load(Ordering::Acquire)
    }

    /// Looks whether the wait is over.
    pub fn step(cpu: &Cpu) {
        if !is_pending() {
            return;
        }
        let Some(mut settling) = STATE.lock().take() else {
            return;
        };
        if !grace().is_over(settling.ticket) {
            sched::hasten_grace();
            *STATE.lock() = Some(settling);
        } else if is_settled(settling.left) {
            PENDING.store(false, Ordering::Release);
            finish(&settling.text, settling.status);
        } else {
            settling.ticket = grace().start();
            settling.left -= 1;
            *STATE.lock() = Some(settling);
            cpu.attend();
        }
    }

    /// Whether all that can come back has come back.
    fn is_settled(left: u32) -> bool {
        let buried = !memory::graveyard().is_empty() || !memory::context().objects().is_reaped();
        let missing = stats::free_frames() < stats::free_before();
        !(buried || missing) || left == 0
    }

    /// Tells the figures and goes on to the next program, or to the end of the machine.
    fn finish(text: &str, status: u32) {
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
    }
}
