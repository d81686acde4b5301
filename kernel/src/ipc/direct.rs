//! The short way of a call to a receiver that waits, and of an answer to a caller: the CPU goes
//! from one thread to the other past the scheduler.
//!
//! Everything is looked at before anything is done. Where the short way does not do, because there
//! is a handle in the message, a time-out, somebody better to run or nobody to turn to, nothing has
//! been done, and the call takes the usual way ([`super::send`], [`super::receive`]). The
//! references to the two threads are moved and not counted: from the CPU to the answer that is
//! owed, and from the endpoint's queue to the CPU.

use abi::Rights;
use abi::message::{Kind, Tag};
use frame::slab::Ref;

use super::Endpoint;
use super::message::{Outgoing, carry};
use super::reply::Reply;
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

/// `ENDPOINT_CALL`, with its arguments in `context`. True: the CPU has turned to the receiver.
#[inline]
pub fn call(cpu: &'static Cpu, context: &Context) -> bool {
    if !is_plain(context) {
        return false;
    }
    let Some(thread) = take(cpu) else {
        return false;
    };
    let met = endpoint(&thread, Rights::SEND).and_then(|(endpoint, badge)| {
        let receiver = endpoint.meeting.send_now(|first| may_turn_to(cpu, first))?;
        Some((receiver, badge))
    });
    let Some((receiver, badge)) = met else {
        return put_back(cpu, thread);
    };
    carry(&thread, &receiver, Kind::Call, badge);
    thread.ipc().set_outgoing(Outgoing::Registers { badge, call: true });
    let now = time::now();
    let sleep = sleep(&thread, Place::Reply, now);
    // Who is to be woken at once has to be known beyond the answer that it waits for.
    let restless = wait::is_restless(&thread).then(|| thread.clone());
    let before = receiver.ipc().set_answering(Some(Reply::new(thread, sleep)));
    debug_assert!(before.is_none(), "a receiver owes no answer");
    turn_to(cpu, receiver, now);
    if let Some(thread) = restless {
        wait::check(&thread, sleep);
    }
    true
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
    let may_go = reply.caller().is_some_and(|caller| {
        reply.is_awaited() && caller.ipc().sends_registers() && may_turn_to(cpu, caller)
    });
    let (now, mut reply, mut caller) = (time::now(), Some(reply), None);
    let park = || {
        caller = reply.take().and_then(Reply::answer);
        if let Some(caller) = &caller {
            carry(&thread, caller, Kind::Send, 0);
            caller.ipc().set_outgoing(Outgoing::None);
        }
        sleep(&thread, Place::Endpoint, now)
    };
    let slept = match may_go {
        true => endpoint.meeting.receive_now(&thread, park),
        false => None,
    };
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
