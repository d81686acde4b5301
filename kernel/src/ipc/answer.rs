//! Answers: to callers, and to threads that the kernel has spoken for.

use abi::message::{Kind, Reason, answer};
use frame::slab::Ref;

use super::message::{Envelope, Outgoing};
use super::reply::Reply;
use crate::errno::Errno;
use crate::process::Process;
use crate::process::end::End;
use crate::sched::wait;
use crate::thread::{Resume, Thread};

/// Answers through `reply` what is in the registers of `server`. Returns the caller, which is to be made
/// runnable.
///
/// # Errors
/// `ESRCH`: it does not wait any more.
pub fn give(reply: Reply, server: &Thread) -> Result<Ref<Thread>, Errno> {
    let caller = reply.answer().ok_or(Errno::ESRCH)?;
    let envelope = Envelope::answer_of(server);
    match caller.ipc().outgoing() {
        Outgoing::Kernel {
            tag, words, end, ..
        } => {
            let kind = tag.kind().unwrap_or(Kind::Exception);
            decide(&caller, kind, end, words, &envelope);
        }
        _ => envelope.deliver(server, &caller),
    }
    caller.ipc().set_outgoing(Outgoing::None);
    Ok(caller)
}

/// Does to `caller` what the answer to the kernel's message says.
fn decide(
    caller: &Ref<Thread>,
    kind: Kind,
    end: Option<End>,
    asked: [u64; abi::message::WORDS],
    envelope: &Envelope,
) {
    let words = envelope.words();
    match (envelope.label(), kind) {
        (answer::FAIL, Kind::Page) => caller.refuse_page(reason_of(words[0])),
        (answer::DONE, Kind::Page) => {}
        (_, Kind::Page) => caller.refuse_page(Reason::Io),
        (answer::KILL, _) => {
            let pc = caller.context().pc.load(sync::atomic::Ordering::Relaxed);
            let end = End::Killed {
                signal: (words[0] as u32).clamp(1, 64),
                code: "SI_USER",
                addr: asked[abi::message::exception::ADDRESS],
                pc,
            };
            Process::finish(caller.process(), end);
        }
        (answer::DONE, Kind::LinuxCall) => caller.context().set(0, words[0]),
        (answer::PASS, _) => pass(caller, kind, end),
        _ => {}
    }
}

fn reason_of(word: u64) -> Reason {
    let known = usize::try_from(word).ok();
    let known = known.and_then(|at| Reason::ALL.get(at));
    known.copied().unwrap_or(Reason::Io)
}

/// What happens if nobody is bound.
fn pass(caller: &Ref<Thread>, kind: Kind, end: Option<End>) {
    match (kind, end) {
        (Kind::LinuxCall, _) => caller.set_resume(Resume::Unserved),
        (Kind::Exception, Some(end)) => Process::finish(caller.process(), end),
        _ => {}
    }
}

/// Tells `thread`, whose sleep has been claimed, that nobody answers or receives, and makes it
/// runnable.
pub fn give_up(thread: Ref<Thread>) {
    match thread.ipc().outgoing() {
        Outgoing::Kernel { tag, end, .. } => match tag.kind() {
            Some(Kind::Page) => thread.refuse_page(Reason::Io),
            Some(kind) => pass(&thread, kind, end),
            None => {}
        },
        _ => thread.set_result(Err(Errno::EPIPE)),
    }
    thread.ipc().set_outgoing(Outgoing::None);
    wait::finish(thread);
}

/// The time that `thread`, whose sleep has been claimed, was to wait is over.
pub fn time_out(thread: &Ref<Thread>) {
    if let Outgoing::Kernel { tag, .. } = thread.ipc().outgoing()
        && tag.kind() == Some(Kind::Page)
    {
        thread.refuse_page(Reason::Io);
    }
    thread.ipc().set_outgoing(Outgoing::None);
}
