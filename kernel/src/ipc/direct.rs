//! The short way of a call to a receiver that waits, and of an answer to a caller: the CPU goes
//! from one thread to the other past the scheduler.
//!
//! Everything is looked at before anything is done. Where the short way does not do, because there
//! is a handle in the message, a time-out, somebody better to run or nobody to turn to, nothing has
//! been done, and the call takes the usual way ([`super::send`], [`super::receive`]). The
//! references to the two threads are moved and not counted: from the CPU to the answer that is
//! owed, and from the endpoint's queue to the CPU.

use abi::message::{Kind, Tag};
use abi::{Binding, Rights};
use frame::slab::Ref;

use super::message::{Answered, Envelope, Outgoing, carry};
use super::reply::Reply;
use super::{Endpoint, kernel, tag_of};
use crate::arch::{Context, time};
use crate::handle::Object;
use crate::sched::cpu::Cpu;
use crate::sched::direct::{may_turn_to, put_back, sleep, take, turn_away, turn_to};
use crate::sched::wait::{self, Place};
use crate::thread::Thread;

/// Whether the message in these registers is words alone, and its sender waits for ever.
#[inline(always)]
fn is_plain(context: &Context) -> bool {
    Tag(context.get(1)).handles() == 0 && context.get(9) == abi::FOREVER
}

/// The endpoint that argument 0 names, and the badge of the handle.
#[inline(always)]
fn endpoint(thread: &Thread, rights: Rights) -> Option<(Ref<Endpoint>, u64)> {
    let handles = thread.process().handles();
    let handle = handles.look(thread.context().get(0)).ok()?;
    match handle.allow(rights).ok()? {
        Object::Endpoint(port) => Some((port.endpoint().clone(), port.badge())),
        _ => None,
    }
}

/// The first receiver at `endpoint`, claimed, if the CPU may turn to it.
#[inline(always)]
fn meet(cpu: &'static Cpu, endpoint: &Endpoint) -> Option<Ref<Thread>> {
    let may = |first: &Ref<Thread>| may_turn_to(cpu, first);
    endpoint.meeting.send_now(may)
}

/// Has `thread`, which has been taken, wait for the answer of `receiver`, which has its message.
#[inline(always)]
fn wait_for(cpu: &'static Cpu, thread: Ref<Thread>, receiver: Ref<Thread>) -> bool {
    let now = time::now();
    let sleep = sleep(&thread, Place::Reply, now);
    // Who is to be woken at once has to be known beyond the answer that it waits for.
    let restless = wait::is_restless(&thread).then(|| thread.clone());
    receiver.ipc().owe(Reply::new(thread, sleep));
    turn_to(cpu, receiver, now);
    if let Some(thread) = restless {
        wait::check(&thread, sleep);
    }
    true
}

/// `ENDPOINT_CALL`, with its arguments in `context`. True: the CPU has turned to the receiver.
#[inline]
pub fn call(cpu: &'static Cpu, context: &Context) -> bool {
    if !is_plain(context) {
        return false;
    }
    let Some(thread) = take(cpu) else {
        return false;
    };
    let met = endpoint(&thread, Rights::SEND)
        .and_then(|(endpoint, badge)| Some((meet(cpu, &endpoint)?, badge)));
    let Some((receiver, badge)) = met else {
        return put_back(cpu, thread);
    };
    carry(&thread, &receiver, Kind::Call, badge);
    let outgoing = Outgoing::Registers { badge, call: true };
    thread.ipc().set_outgoing(outgoing);
    wait_for(cpu, thread, receiver)
}

/// The Linux call in the registers of the current thread, as a message to whom its process's calls are
/// bound. True: the CPU has turned to the receiver.
#[inline(never)]
pub fn linux_call(cpu: &'static Cpu) -> bool {
    let Some(thread) = take(cpu) else {
        return false;
    };
    let met = thread
        .process()
        .binding(Binding::Calls)
        .and_then(|port| Some((meet(cpu, port.endpoint())?, port.badge())));
    let Some((receiver, badge)) = met else {
        return put_back(cpu, thread);
    };
    let outgoing = kernel::linux_call_of(&thread, badge);
    Envelope::of(&thread, &outgoing).write(receiver.context());
    thread.ipc().set_outgoing(outgoing);
    wait_for(cpu, thread, receiver)
}

/// What the answer in the registers of `server` does to whom it is for, if the CPU may turn to that one
/// with no more than that.
#[inline(always)]
fn answered(cpu: &'static Cpu, reply: &Reply, server: &Thread) -> Option<Answered> {
    let caller = reply.caller()?;
    let answered = caller.ipc().answer_with(tag_of(server).label())?;
    let may = reply.is_awaited()
        && may_turn_to(cpu, caller)
        && (answered == Answered::Words || caller.has_no_resume());
    may.then_some(answered)
}

#[inline(always)]
fn fill(answered: Answered, server: &Thread, caller: &Thread) {
    match answered {
        Answered::Words => carry(server, caller, Kind::Send, 0),
        Answered::Result => caller.context().set(0, server.context().get(2)),
        Answered::Nothing => {}
    }
}

/// `REPLY_RECEIVE`, with its arguments in `context`. True: the CPU has turned to the caller, or away
/// from the current thread if the caller has gone meanwhile.
#[inline]
pub fn reply_receive(cpu: &'static Cpu, context: &Context) -> bool {
    if !is_plain(context) {
        return false;
    }
    let Some(thread) = take(cpu) else {
        return false;
    };
    let Some((endpoint, _)) = endpoint(&thread, Rights::RECEIVE) else {
        return put_back(cpu, thread);
    };
    let Some(reply) = thread.ipc().take_answering_at(&endpoint) else {
        return put_back(cpu, thread);
    };
    let answered = answered(cpu, &reply, &thread);
    let (now, mut reply, mut caller) = (time::now(), Some(reply), None);
    let slept = answered.and_then(|answered| {
        endpoint.meeting.receive_now(&thread, || {
            caller = reply.take().and_then(Reply::answer);
            if let Some(caller) = &caller {
                fill(answered, &thread, caller);
            }
            sleep(&thread, Place::Endpoint, now)
        })
    });
    let Some(sleep) = slept else {
        let none = thread.ipc().set_answering(reply);
        debug_assert!(none.is_none(), "it was taken");
        return put_back(cpu, thread);
    };
    match caller {
        Some(caller) => turn_to(cpu, caller, now),
        None => turn_away(cpu),
    }
    if wait::is_restless(&thread) {
        wait::check(&thread, sleep);
    }
    true
}
