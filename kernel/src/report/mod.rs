//! What the kernel says about programs: to a machine by control lines, to people by text.

pub mod ending;
pub mod stats;

use core::fmt::{self, Write};

use mm::fault::{FirstFault, Trace};
use pgtable::Machine;

use crate::arch::mmu::hw;
use crate::loader::ExecFail;
use crate::process::Process;
use crate::process::end::{End, signal_name};
use crate::sched::calls;
use crate::syscall::names::Name;
use crate::syscall::native::info::Growing;
use crate::{control, memory, println};

/// Exit status for a program that cannot be started, as shells have it.
pub const EXEC_FAIL_STATUS: u32 = 126;

/// Says that a program could not be started.
pub fn exec_fail(error: &ExecFail) {
    match control::enabled() {
        true => control::line(format_args!(
            "execfail reason={} text={error}",
            error.reason()
        )),
        false => println!("[tessera] cannot run the program: {error}"),
    }
}

/// Says how a program ended.
pub fn ended(end: &End) {
    if control::enabled() {
        return control::line(format_args!("{end}"));
    }
    match end {
        End::Exited(status) => {
            println!("[tessera] the program exited with status {}", status & 0xff)
        }
        End::Killed {
            signal,
            code,
            addr,
            pc,
        } => println!(
            "[tessera] the program was killed by {} ({code}) at address {addr:#x}, pc {pc:#x}",
            signal_name(*signal)
        ),
    }
}

/// Names the system calls that the program asked for in vain.
pub fn unknown_calls() {
    calls::each(|number, count| match control::enabled() {
        true => {
            let name = Name(number);
            control::line(format_args!(
                "unknown number={number} name={name} count={count}"
            ));
        }
        false => log::info!(
            "unknown system call {} ({number}), {count} times",
            Name(number)
        ),
    });
}

/// Prints what the host-side reader starts from, with the root of `process`.
pub fn snapshot(process: &Process) {
    struct Facts<'a>(&'a Process);
    impl fmt::Display for Facts<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            memory::snapshot_facts(f)?;
            let word = self.0.space().root_word();
            write!(
                f,
                " root={}:{:#x}:{}",
                self.0.space().id(),
                word.root().raw(),
                word.levels()
            )
        }
    }
    control::line(format_args!("snapshot {}", Facts(process)));
}

/// Tells a machine the areas and the mappings of `process`, a line each: for pictures of them.
pub fn describe(process: &Process) {
    let table = process.space().table();
    let stay = ();
    let section = table.machine().read_side(&stay);
    let mut lines = Lines::new("area");
    // A line that there is no memory for is left out.
    let _short = process.space().maps(&mut lines);
    let mut lines = Lines::new("mapping");
    let _short = table.dump(&mut lines, &section);
}

/// Makes a control line of each line that is written.
struct Lines {
    event: &'static str,
    line: Growing,
}

impl Lines {
    fn new(event: &'static str) -> Self {
        let line = Growing::default();
        Self { event, line }
    }
}

impl Write for Lines {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut pieces = text.split('\n');
        self.line.write_str(pieces.next().unwrap_or_default())?;
        pieces.try_for_each(|piece| {
            control::line(format_args!("{} text={}", self.event, self.line.0));
            self.line.0.clear();
            self.line.write_str(piece)
        })
    }
}

/// Writes the first fault of a process: the walk before and after it, and what it cost.
///
/// # Errors
/// Those of `out`.
pub fn first_fault(out: &mut dyn Write, process: &Process) -> fmt::Result {
    let Some(FirstFault {
        va,
        access,
        before,
        after,
        cost,
    }) = process.space().first_fault()
    else {
        return writeln!(out, "no fault has been resolved yet");
    };
    writeln!(out, "first fault: {} at {va:#x}", access_name(access))?;
    writeln!(out, "before")?;
    walk(out, &before)?;
    writeln!(out, "after, {cost} instructions later")?;
    walk(out, &after)
}

const fn access_name(access: mm::Access) -> &'static str {
    match access {
        mm::Access::Read => "read",
        mm::Access::Write => "write",
        mm::Access::Exec => "instruction fetch",
    }
}

/// One line per level: the index, the raw entry and what it says.
fn walk(out: &mut dyn Write, trace: &Trace) -> fmt::Result {
    for (level, index, pte) in trace.iter().flatten() {
        let entry = hw().format().decode(*pte, *level);
        writeln!(
            out,
            "  level {} [{index:3}] {:#018x}  {entry}",
            level.number(),
            pte.raw()
        )?;
    }
    Ok(())
}
