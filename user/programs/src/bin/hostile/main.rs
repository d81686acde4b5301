//! What nobody should do with the kernel's own calls: handles that are none, rights that are missing,
//! messages that lie, tables that are full, limits that are passed, and far too many threads.

mod devices;
mod flood;
mod limits;
mod messages;
mod table;

use abi::{Rights, calls, slot};
use programs::native::{control, failed};
use programs::{check, require, sys};

fn main() {
    check::start("hostile");
    check::aarch64_only();
    if !sys::is_tessera() {
        check::usage("runs on Tessera only");
    }
    for (status, (about, scene)) in (10..).zip(SCENES) {
        check::section(status, about);
        let before = handles();
        scene();
        let left = handles();
        require!(left == before, "{left} handles, before it were {before}");
    }
    check::pass();
}

const SCENES: &[(&str, fn())] = &[
    ("rights that are missing", table::rights),
    ("handles that are none", table::handles),
    ("lies in tags", messages::tags),
    ("handles in messages", messages::handles),
    ("badges", messages::badges),
    ("answers", messages::answers),
    ("a table that is full", limits::full_table),
    ("a message for a full table", limits::full_receiver),
    ("limits", limits::quotas),
    ("revoking", limits::revoking),
    ("revoking rights to receive", limits::revoking_receivers),
    ("many senders", flood::senders),
    ("many callers of who goes away", flood::callers),
    ("a receiver whose handle is closed", flood::closed_receiver),
    ("timers from all sides", flood::timers),
    ("registers that are not to be had", devices::ranges),
    ("registers used as memory", devices::mappings),
    ("interrupts of others", devices::interrupts),
];

/// The handle that a call has made.
fn made(what: &str, got: i64) -> u64 {
    require!(got >= 0, "{what}: {got}");
    got as u64
}

/// Checks that a call fails as it has to.
fn fails(what: &str, got: i64, error: isize) {
    require!(got == failed(error), "{what}: {got}, not {}", -error);
}

fn close(handle: u64) {
    let got = control(calls::HANDLE_CLOSE, &[handle]);
    require!(got == 0, "closing {handle}: {got}");
}

fn endpoint() -> u64 {
    made("an endpoint", control(calls::ENDPOINT_CREATE, &[]))
}

/// A copy with these rights, and a badge.
fn copy(handle: u64, rights: Rights, badge: u64) -> i64 {
    control(
        calls::HANDLE_DUPLICATE,
        &[handle, rights.bits().into(), badge, 0],
    )
}

/// A process below this one, with limits on handles and threads.
fn process(handles: u64, threads: u64) -> u64 {
    let got = control(calls::PROCESS_CREATE, &[slot::PROCESS, 0, handles, threads]);
    made("a process", got)
}

fn kill(process: u64) {
    require!(
        control(calls::PROCESS_KILL, &[process, 9]) == 0,
        "it is killed"
    );
    let mut x = [0; 11];
    (x[0], x[9]) = (process, abi::FOREVER);
    let got = programs::native::call(calls::PROCESS_WAIT, &mut x);
    require!(got == 0 && x[2] == 9, "{got}: it ends by {}", x[2]);
    close(process);
}

/// Handles of this process.
fn handles() -> u64 {
    let mut x = [0; 11];
    x[0] = slot::PROCESS;
    let got = programs::native::call(calls::PROCESS_INFO, &mut x);
    require!(got > 0, "PROCESS_INFO: {got}");
    x[3]
}
