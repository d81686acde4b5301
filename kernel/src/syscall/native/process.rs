//! Calls on processes.

use abi::{Binding, Rights};
use frame::slab::Ref;
use linux_raw_sys::general as linux;

use super::{Answer, Call, add, done, limit_of, port_of, process_of, timed_out};
use crate::errno::Errno;
use crate::handle::Object;
use crate::process::Process;
use crate::process::end::End;
use crate::process::signals::SIGNALS;
use crate::sched::wait;
use crate::thread::Step;

/// `PROCESS_CREATE`.
pub fn create(call: &Call<'_>) -> Answer {
    let parent = process_of(call, Rights::CONTROL)?;
    let child = Process::below(&parent, [call.arg(1), call.arg(2), call.arg(3)])?;
    let rights =
        Rights::DUPLICATE | Rights::TRANSFER | Rights::READ | Rights::WRITE | Rights::CONTROL;
    let added = add(call, Object::Process(child.clone()), rights);
    if added.is_err() {
        // Nobody could ever reach it.
        kill_process(&child, linux::SIGKILL);
    }
    added
}

/// `PROCESS_BIND`.
pub fn bind(call: &Call<'_>) -> Answer {
    let process = process_of(call, Rights::CONTROL)?;
    let binding = usize::try_from(call.arg(1)).ok();
    let binding = binding.and_then(|at| Binding::ALL.get(at).copied());
    let binding = binding.ok_or(Errno::EINVAL)?;
    let port = match call.arg(2) {
        abi::NONE => None,
        fd => Some(port_of(call, fd, Rights::SEND)?),
    };
    process.bind(binding, port);
    if binding == Binding::End && process.is_buried() {
        crate::report::ending::announce(&process);
    }
    done(0)
}

fn kill_process(process: &Ref<Process>, signal: u32) {
    let (code, addr, pc) = ("SI_USER", 0, 0);
    let end = End::Killed {
        signal,
        code,
        addr,
        pc,
    };
    Process::finish(process, end);
}

/// `PROCESS_KILL`.
pub fn kill(call: &Call<'_>) -> Answer {
    let process = process_of(call, Rights::CONTROL)?;
    let signal = u32::try_from(call.arg(1)).map_err(|_| Errno::EINVAL)?;
    if signal == 0 || signal as usize > SIGNALS {
        return Err(Errno::EINVAL.into());
    }
    kill_process(&process, signal);
    done(0)
}

/// `PROCESS_WAIT`.
pub fn wait(call: &Call<'_>) -> Answer {
    let process = process_of(call, Rights::READ)?;
    if process.is_buried() {
        process.tell_end(call.thread.context());
        return Ok(Step::Keep);
    }
    if process.is_above(call.thread.process()) {
        return Err(Errno::EDEADLK.into());
    }
    let limit = limit_of(call, timed_out())?;
    wait::for_end(call.thread, &process, limit);
    Ok(Step::Gone)
}

/// `PROCESS_INFO`.
pub fn info(call: &Call<'_>) -> Answer {
    let process = process_of(call, Rights::READ)?;
    let handles = process.handles().count() as u64;
    let words = [
        process.pid().into(),
        process.thread_count() as u64,
        process.space().mapped_pages(),
        handles,
        process.space().counters().minor_faults(),
    ];
    let context = call.thread.context();
    for (n, word) in words.into_iter().enumerate() {
        context.set(n, word);
    }
    Ok(Step::Keep)
}
