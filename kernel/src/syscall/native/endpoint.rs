//! Calls on endpoints.

use abi::Rights;
use frame::slab::Ref;

use super::{Answer, Call, add, done, limit_of, timed_out};
use crate::errno::Errno;
use crate::handle::{Handle, Object};
use crate::ipc::message::Outgoing;
use crate::ipc::reply::{Reply, Saved};
use crate::ipc::{self, Delivery, Endpoint, Port, answer, tag_of, transfer};
use crate::sched::wait;
use crate::thread::{Step, Thread};

/// `ENDPOINT_CREATE`.
pub fn create(call: &Call<'_>) -> Answer {
    let rights =
        Rights::DUPLICATE | Rights::TRANSFER | Rights::SEND | Rights::RECEIVE | Rights::NOTIFY;
    add(call, Object::Endpoint(Port::new()?), rights)
}

/// The endpoint that argument 0 names, and the badge of the handle.
#[inline]
fn endpoint(call: &Call<'_>, rights: Rights) -> Result<(Ref<Endpoint>, u64), Errno> {
    let handles = call.thread.process().handles();
    match handles.look(call.arg(0))?.allow(rights)? {
        Object::Endpoint(port) => Ok((port.endpoint().clone(), port.badge())),
        _ => Err(Errno::EACCES),
    }
}

/// Checks the handles that the message in the registers names.
#[inline]
fn check_handles(thread: &Thread) -> Result<(), Errno> {
    let tag = tag_of(thread);
    match tag.handles() {
        0 => Ok(()),
        _ => {
            let word = |n| thread.context().get(2 + n);
            transfer::check(tag, word, thread.process())
        }
    }
}

fn send_or_call(call: &Call<'_>, wants_answer: bool) -> Answer {
    let thread = call.thread;
    let (endpoint, badge) = endpoint(call, Rights::SEND)?;
    check_handles(thread)?;
    let limit = limit_of(call, timed_out())?;
    thread.ipc().set_outgoing(Outgoing::Registers {
        badge,
        call: wants_answer,
    });
    match ipc::send(thread, &endpoint, limit) {
        Delivery::Gone => Ok(Step::Gone),
        Delivery::Received => done(0),
        Delivery::Closed => Err(Errno::EPIPE.into()),
    }
}

/// `ENDPOINT_SEND`.
pub fn send(call: &Call<'_>) -> Answer {
    send_or_call(call, false)
}

/// `ENDPOINT_CALL`.
pub fn call(call: &Call<'_>) -> Answer {
    send_or_call(call, true)
}

/// `ENDPOINT_RECEIVE`.
pub fn receive(call: &Call<'_>) -> Answer {
    let (endpoint, _) = endpoint(call, Rights::RECEIVE)?;
    let limit = limit_of(call, timed_out())?;
    Ok(ipc::receive(call.thread, &endpoint, limit, None))
}

fn owed(call: &Call<'_>) -> Result<Reply, Errno> {
    call.thread.ipc().set_answering(None).ok_or(Errno::EPERM)
}

/// `REPLY`.
pub fn reply(call: &Call<'_>) -> Answer {
    check_handles(call.thread)?;
    let caller = answer::give(owed(call)?, call.thread)?;
    wait::finish_dequeued(caller);
    done(0)
}

/// `REPLY_RECEIVE`.
pub fn reply_receive(call: &Call<'_>) -> Answer {
    let (endpoint, _) = endpoint(call, Rights::RECEIVE)?;
    check_handles(call.thread)?;
    let limit = limit_of(call, timed_out())?;
    let caller = answer::give(owed(call)?, call.thread).ok();
    Ok(ipc::receive(call.thread, &endpoint, limit, caller))
}

/// `REPLY_SAVE`.
pub fn reply_save(call: &Call<'_>) -> Answer {
    let saved = Saved::new()?;
    let reply = owed(call)?;
    // In the table first: if there is no room the answer is owed as before.
    let rights = Rights::TRANSFER | Rights::READ | Rights::WRITE | Rights::SEND;
    match add(call, Object::Reply(saved.clone()), rights) {
        Ok(step) => {
            saved.put(reply);
            Ok(step)
        }
        Err(stop) => {
            drop(call.thread.ipc().set_answering(Some(reply)));
            Err(stop)
        }
    }
}

/// `REPLY_SEND`.
pub fn reply_send(call: &Call<'_>) -> Answer {
    check_handles(call.thread)?;
    let may = |handle: &Handle| match handle.allow(Rights::SEND)? {
        Object::Reply(_) => Ok(()),
        _ => Err(Errno::EACCES),
    };
    let handle = call.thread.process().handles().close_if(call.arg(0), may)?;
    let Object::Reply(saved) = &handle.object else {
        return Err(Errno::EACCES.into());
    };
    let reply = saved.take().ok_or(Errno::ESRCH)?;
    let caller = answer::give(reply, call.thread)?;
    wait::finish_dequeued(caller);
    done(0)
}

/// `ENDPOINT_NOTIFY`.
pub fn notify(call: &Call<'_>) -> Answer {
    let (endpoint, _) = endpoint(call, Rights::NOTIFY)?;
    match call.arg(1) {
        0 => Err(Errno::EINVAL.into()),
        bits => {
            ipc::notify(&endpoint, bits)?;
            done(0)
        }
    }
}

/// `ENDPOINT_TIMER`.
pub fn timer(call: &Call<'_>) -> Answer {
    let (endpoint, _) = endpoint(call, Rights::NOTIFY)?;
    let (bits, deadline) = (call.arg(1), call.arg(2));
    ipc::set_timer(&endpoint, bits, deadline)?;
    done(0)
}
