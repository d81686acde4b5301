//! What the kernel says for threads: exceptions, Linux calls that it does not own, resolved faults,
//! pages that are wanted.

use abi::Binding;
use abi::message::{Kind, Tag, WORDS};
use frame::slab::Ref;
use sync::atomic::Ordering;

use super::message::Outgoing;
use super::{Delivery, Port, send};
use crate::process::end::End;
use crate::process::signals;
use crate::sched::wait::Limit;
use crate::thread::Thread;

/// What an access was, as messages tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Access {
    /// A read.
    Read = 0,
    /// A write.
    Write = 1,
    /// An instruction fetch.
    Exec = 2,
    /// No access to memory.
    None = 3,
}

impl From<mm::Access> for Access {
    fn from(access: mm::Access) -> Self {
        match access {
            mm::Access::Read => Self::Read,
            mm::Access::Write => Self::Write,
            mm::Access::Exec => Self::Exec,
        }
    }
}

/// Sends a message for `thread`, the current one.
pub(super) fn say(
    thread: &Ref<Thread>,
    port: &Port,
    (tag, words): (Tag, [u64; WORDS]),
    end: Option<End>,
    limit: Option<Limit>,
) -> Delivery {
    let outgoing = Outgoing::Kernel {
        tag,
        words,
        badge: port.badge(),
        end,
    };
    tell(thread, port, outgoing, limit)
}

fn tell(thread: &Ref<Thread>, port: &Port, outgoing: Outgoing, limit: Option<Limit>) -> Delivery {
    thread.ipc().set_outgoing(outgoing);
    let delivery = send(thread, port.endpoint(), limit);
    if delivery == Delivery::Closed {
        thread.ipc().set_outgoing(Outgoing::None);
    }
    delivery
}

/// An exception of `thread`, the current one, that the kernel has no answer to: a message to whom its
/// process's exceptions are bound, else its end.
#[cold]
pub fn exception(thread: &Ref<Thread>, signal: u32, code: &'static str, addr: u64, access: Access) {
    let process = thread.process();
    let pc = thread.context().pc.load(Ordering::Relaxed);
    let end = End::Killed {
        signal,
        code,
        addr,
        pc,
    };
    if let Some(port) = process.binding(Binding::Exceptions) {
        let words = [
            addr,
            pc,
            u64::from(signals::code_number(code)),
            access as u64,
            process.pid().into(),
            0,
        ];
        let tag = Tag::of_kind(Kind::Exception, signal);
        if say(thread, &port, (tag, words), Some(end), None) == Delivery::Gone {
            return;
        }
    }
    signals::kill(thread, signal, code, addr);
}

/// The Linux call in the registers of `thread`, as a message through a handle with this badge.
#[inline]
pub(super) fn linux_call_of(thread: &Thread, badge: u64) -> Outgoing {
    let context = thread.context();
    Outgoing::Kernel {
        tag: Tag::of_kind(Kind::LinuxCall, context.get(8) as u32),
        words: core::array::from_fn(|n| context.get(n)),
        badge,
        end: None,
    }
}

/// The Linux call in the registers of `thread`, the current one: a message to whom its process's calls
/// are bound. False: nobody is.
#[cold]
pub fn linux_call(thread: &Ref<Thread>) -> bool {
    let Some(port) = thread.process().binding(Binding::Calls) else {
        return false;
    };
    let outgoing = linux_call_of(thread, port.badge());
    tell(thread, &port, outgoing, None) == Delivery::Gone
}

/// A page fault of `thread`, the current one, has been resolved at this cost.
#[cold]
pub fn resolved(thread: &Ref<Thread>, va: u64, access: mm::Access, cost: u64) {
    let process = thread.process();
    let Some(port) = process.binding(Binding::Faults) else {
        return;
    };
    let pc = thread.context().pc.load(Ordering::Relaxed);
    let access = Access::from(access) as u64;
    let words = [va, pc, cost, access, process.pid().into(), 0];
    // Whether somebody looks on makes no difference to the program.
    let _heard = say(
        thread,
        &port,
        (Tag::of_kind(Kind::Fault, 0), words),
        None,
        None,
    );
}
