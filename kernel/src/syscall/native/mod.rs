//! The kernel's own calls, `svc #1`: see `docs/calls.md`, and [`abi::calls`] for their numbers.
//!
//! Errors are Linux's negative numbers in `x0`. Nothing here can be done without a handle, but to the
//! calling process itself.

pub mod endpoint;
pub mod handle;
pub mod info;
pub mod memory;
pub mod pager;
pub mod process;
pub mod thread;
pub mod watch;

pub use handle::endow;

use abi::{Rights, calls};
use frame::slab::Ref;

use super::{Answer, Call, Handler, done, time};
use crate::errno::Errno;
use crate::handle::{Handle, Object};
use crate::ipc::Port;
use crate::process::Process;
use crate::sched::wait::{self, Limit};
use crate::thread::Thread;

const CALLS: &[(u64, Handler)] = &[
    (calls::INFO, info::info),
    (calls::MEM_ONLINE, info::mem_online),
    (calls::WATCH, watch::watch),
    (calls::MARK, watch::mark),
    (calls::POLICY, info::policy),
    (calls::HANDLE_DUPLICATE, handle::duplicate),
    (calls::HANDLE_CLOSE, handle::close),
    (calls::HANDLE_INFO, handle::info),
    (calls::HANDLE_REVOKE, handle::revoke),
    (calls::HANDLE_GIVE, handle::give),
    (calls::ENDPOINT_CREATE, endpoint::create),
    (calls::ENDPOINT_SEND, endpoint::send),
    (calls::ENDPOINT_CALL, endpoint::call),
    (calls::ENDPOINT_RECEIVE, endpoint::receive),
    (calls::REPLY, endpoint::reply),
    (calls::REPLY_RECEIVE, endpoint::reply_receive),
    (calls::REPLY_SAVE, endpoint::reply_save),
    (calls::REPLY_SEND, endpoint::reply_send),
    (calls::ENDPOINT_NOTIFY, endpoint::notify),
    (calls::ENDPOINT_TIMER, endpoint::timer),
    (calls::PROCESS_CREATE, process::create),
    (calls::PROCESS_BIND, process::bind),
    (calls::PROCESS_KILL, process::kill),
    (calls::PROCESS_WAIT, process::wait),
    (calls::PROCESS_INFO, process::info),
    (calls::MEMORY_MAP, memory::map),
    (calls::MEMORY_UNMAP, memory::unmap),
    (calls::MEMORY_PROTECT, memory::protect),
    (calls::MEMORY_READ, memory::read),
    (calls::MEMORY_WRITE, memory::write),
    (calls::MEMORY_BRK, memory::brk),
    (calls::THREAD_CREATE, thread::create),
    (calls::THREAD_OPEN, thread::open),
    (calls::THREAD_SUSPEND, thread::suspend),
    (calls::THREAD_RESUME, thread::resume),
    (calls::THREAD_READ, thread::read),
    (calls::THREAD_WRITE, thread::write),
    (calls::THREAD_PRIORITY, thread::priority),
    (calls::PAGER_CREATE, pager::create),
    (calls::PAGER_SUPPLY, pager::supply),
    (calls::PAGER_DIRTY, pager::dirty),
    (calls::PAGER_DROP, pager::drop_clean),
    (calls::INTERRUPT_OPEN, handle::open_interrupt),
    (calls::INTERRUPT_ACK, handle::acknowledge_interrupt),
    (calls::DEVICE_OPEN, handle::open_device),
];

/// Numbers from here on are not looked up.
const TABLE: usize = 96;

static HANDLERS: [Option<Handler>; TABLE] = {
    let mut table = [None; TABLE];
    let mut at = 0;
    while at < CALLS.len() {
        let (number, handler) = CALLS[at];
        table[number as usize] = Some(handler);
        at += 1;
    }
    table
};

const _: () = assert!(
    CALLS.len() == calls::TABLE.len(),
    "a call has no handler, or no documentation"
);

/// Carries out the call in the registers of the current thread.
///
/// # Errors
/// `ENOSYS` for an unknown number, else those of the call.
#[inline]
pub fn call(call: &Call<'_>) -> Answer {
    let number = call.thread.context().get(8);
    let handler = usize::try_from(number).ok();
    match handler.and_then(|number| HANDLERS.get(number)) {
        Some(Some(handler)) => handler(call),
        _ => Err(Errno::ENOSYS.into()),
    }
}

/// A copy of the caller's handle `fd`.
///
/// # Errors
/// `EBADF`; `EACCES` without `rights`.
fn handle_of(call: &Call<'_>, fd: u64, rights: Rights) -> Result<Handle, Errno> {
    let handles = call.thread.process().handles();
    let handle = handles.look(fd)?;
    handle.allow(rights)?;
    Ok(handle.clone())
}

/// The process that argument 0 names.
fn process_of(call: &Call<'_>, rights: Rights) -> Result<Ref<Process>, Errno> {
    let handles = call.thread.process().handles();
    match handles.look(call.arg(0))?.allow(rights)? {
        Object::Process(process) => Ok(process.clone()),
        _ => Err(Errno::EACCES),
    }
}

/// The endpoint that handle `fd` names, as a port that cannot receive.
fn port_of(call: &Call<'_>, fd: u64, rights: Rights) -> Result<Port, Errno> {
    let handle = handle_of(call, fd, rights)?;
    match handle.object {
        Object::Endpoint(mut port) => {
            port.limit(Rights::empty());
            Ok(port)
        }
        _ => Err(Errno::EACCES),
    }
}

/// The thread that argument 0 names; [`abi::PEER`] is whom the caller owes an answer.
fn thread_of(call: &Call<'_>, rights: Rights) -> Result<Ref<Thread>, Errno> {
    if call.arg(0) == abi::PEER {
        return call.thread.ipc().peer().ok_or(Errno::ESRCH);
    }
    // The table is let go before anything else is locked.
    let handle = call.thread.process().handles().get(call.arg(0))?;
    match handle.allow(rights)? {
        Object::Thread(thread) => Ok(thread.clone()),
        Object::Reply(saved) => saved.peer().ok_or(Errno::ESRCH),
        _ => Err(Errno::EACCES),
    }
}

/// Puts a new handle into the caller's table.
fn add(call: &Call<'_>, object: Object, rights: Rights) -> Answer {
    let handle = Handle::new(object, rights);
    done(call.thread.process().insert_native(handle)?)
}

/// The time-out in `x9`, with this result; room for it is made.
fn limit_of(call: &Call<'_>, result: Option<u64>) -> Result<Option<Limit>, Errno> {
    match call.thread.context().get(9) {
        abi::FOREVER => Ok(None),
        nanos => {
            wait::reserve_timer()?;
            Ok(Some(Limit {
                deadline: time::after(nanos),
                result,
            }))
        }
    }
}

/// The result of a wait that was too long.
fn timed_out() -> Option<u64> {
    Some(Errno::ETIMEDOUT.to_register())
}
