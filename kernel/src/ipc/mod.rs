//! Messages between threads, and from the kernel to threads.
//!
//! The queues and their protocols are the `ipc` crate's; here is what a message is. It stays in its
//! sender's registers, or in its record if the kernel speaks for it (a fault, a Linux call, a page
//! that is wanted), until a receiver has it; then it is in the receiver's registers. A call switches to
//! its receiver directly, and an answer to its caller.

pub mod answer;
pub mod direct;
pub mod kernel;
pub mod message;
pub mod pager;
mod port;
pub mod reply;
pub mod transfer;

use abi::message::Tag;
use frame::Frames;
use frame::slab::{Cache, Ref};
use ipc::endpoint::{self, Notified, Received, Sent, Taken};
use ipc::park::Sleep;
use sync::{Link, Linked, SpinLock, cpu_index, rank};

use crate::errno::Errno;
use crate::sched::wait::{self, Limit, Place};
use crate::thread::{Step, Thread};
use crate::{arch, sched};
use message::{Envelope, Outgoing};
pub use port::Port;
use reply::Reply;

static ENDPOINTS: Cache<Endpoint> = Cache::new("endpoint");

/// Prepares the caches that endpoints and saved replies come from, once, at boot.
pub fn init(frames: &'static Frames) {
    ENDPOINTS.init(frames);
    reply::init(frames);
}

/// Where threads meet.
pub struct Endpoint {
    meeting: endpoint::Endpoint<Ref<Thread>>,
    link: Link<Ref<Endpoint>>,
    timer: SpinLock<Option<Alarm>, rank::Leaf>,
}

/// Notification bits that are due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Alarm {
    /// In whose timers it is.
    cpu: usize,
    /// In ticks.
    deadline: u64,
    bits: u64,
}

impl Linked<Ref<Endpoint>> for Endpoint {
    fn link(&self) -> &Link<Ref<Endpoint>> {
        &self.link
    }
}

impl core::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Endpoint")
    }
}

/// Threads that one step tells that an endpoint is closed.
const DRAINED: usize = 32;

impl Endpoint {
    /// Whether nobody can receive any more.
    pub fn is_closed(&self) -> bool {
        self.meeting.is_closed()
    }

    /// Takes `thread`, whose sleep has been claimed, out of the queue.
    pub fn leave(&self, thread: &Ref<Thread>) {
        self.meeting.leave(thread);
    }

    /// Tells some of those who wait that nobody receives any more. Whether there may be others.
    pub fn drain_some(this: &Ref<Self>) -> bool {
        cancel_timer(this);
        for _ in 0..DRAINED {
            let Some(thread) = this.meeting.drain() else {
                return false;
            };
            answer::give_up(thread);
        }
        true
    }
}

/// What became of a message that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Delivery {
    /// Its sender sleeps.
    Gone,
    /// It was received, and nobody waits for an answer.
    Received,
    /// Nobody can receive it.
    Closed,
}

/// Sends the message of `thread`, the current one: [`Thread::ipc`] says what it is. One that waits for
/// an answer sleeps until it has it or `limit` is over.
pub fn send(thread: &Ref<Thread>, endpoint: &Ref<Endpoint>, limit: Option<Limit>) -> Delivery {
    let park = || wait_at(thread, endpoint, limit);
    match endpoint.meeting.send(thread, park) {
        Sent::Closed => Delivery::Closed,
        Sent::Queued(sleep) => {
            wait::check(thread, sleep);
            Delivery::Gone
        }
        Sent::To(receiver) => {
            let outgoing = thread.ipc().outgoing();
            let envelope = Envelope::of(thread, &outgoing);
            match outgoing.wants_answer() {
                true => {
                    // Asleep before the receiver can answer.
                    let sleep = wait::begin(thread, Place::Reply, 0, limit);
                    let reply = Reply::new(thread.clone(), sleep);
                    drop(receiver.ipc().set_answering(Some(reply)));
                    envelope.deliver(thread, &receiver);
                    wait::hand_over(receiver);
                    wait::check(thread, sleep);
                    Delivery::Gone
                }
                false => {
                    envelope.deliver(thread, &receiver);
                    wait::finish_dequeued(receiver);
                    Delivery::Received
                }
            }
        }
    }
}

fn wait_at(thread: &Ref<Thread>, endpoint: &Ref<Endpoint>, limit: Option<Limit>) -> Sleep {
    thread.ipc().set_waits_at(Some(endpoint.clone()));
    wait::begin(thread, Place::Endpoint, 0, limit)
}

/// A message that was taken out of the queue, and what remains to be done about its sender.
struct Message {
    envelope: Envelope,
    sender: Ref<Thread>,
    taken: Taken,
}

/// What of `sender`, which is in the queue of a locked endpoint, is to be received. `None`: it has
/// been woken by something else.
fn take(sender: &Ref<Thread>) -> Option<Message> {
    let outgoing = sender.ipc().outgoing();
    let taken = endpoint::take(sender.park(), outgoing.wants_answer())?;
    Some(Message {
        envelope: Envelope::of(sender, &outgoing),
        sender: sender.clone(),
        taken,
    })
}

/// Receives for `thread`, the current one, what comes first: its registers are the message then.
/// `next`, which has been claimed, is what the CPU turns to if nothing has come yet; else it is made
/// runnable.
pub fn receive(
    thread: &Ref<Thread>,
    endpoint: &Ref<Endpoint>,
    limit: Option<Limit>,
    next: Option<Ref<Thread>>,
) -> Step {
    drop(thread.ipc().set_answering(None));
    thread.ipc().set_outgoing(Outgoing::None);
    let park = || wait_at(thread, endpoint, limit);
    let received = endpoint.meeting.receive(thread, take, park);
    if let Received::Queued(sleep) = received {
        if let Some(next) = next {
            wait::hand_over(next);
        }
        wait::check(thread, sleep);
        return Step::Gone;
    }
    if let Some(next) = next {
        wait::finish_dequeued(next);
    }
    match received {
        Received::Bits(bits) => {
            Envelope::bits(bits).write(thread.context());
            Step::Keep
        }
        Received::Message(message) => {
            accept(thread, message);
            Step::Keep
        }
        Received::Closed | Received::Queued(_) => Step::Done(Err(Errno::EPIPE)),
    }
}

fn accept(thread: &Ref<Thread>, message: Message) {
    let Message {
        envelope,
        sender,
        taken,
    } = message;
    envelope.deliver(&sender, thread);
    match taken {
        Taken::Awaited(sleep) => {
            let old = thread.ipc().set_answering(Some(Reply::new(sender, sleep)));
            drop(old);
        }
        Taken::Claimed => {
            sender.set_result(Ok(0));
            wait::finish_dequeued(sender);
        }
    }
}

/// Sets notification bits at `endpoint`.
///
/// # Errors
/// `EPIPE`: nobody can receive any more.
pub fn notify(endpoint: &Endpoint, bits: u64) -> Result<(), Errno> {
    match endpoint.meeting.notify(bits) {
        Notified::Closed => Err(Errno::EPIPE),
        Notified::Kept => Ok(()),
        Notified::To(receiver, bits) => {
            Envelope::bits(bits).write(receiver.context());
            wait::finish_dequeued(receiver);
            Ok(())
        }
    }
}

/// Has `bits` set at `endpoint` when it is `nanos` on the monotonic clock, in place of what was set
/// before; 0 for never.
///
/// # Errors
/// `ENOMEM`.
pub fn set_timer(endpoint: &Ref<Endpoint>, bits: u64, nanos: u64) -> Result<(), Errno> {
    wait::reserve_timer()?;
    cancel_timer(endpoint);
    if bits == 0 || nanos == 0 || endpoint.meeting.is_closed() {
        return Ok(());
    }
    let (cpu, deadline) = (cpu_index(), arch::time::ns_to_ticks(nanos));
    let alarm = Alarm {
        cpu,
        deadline,
        bits,
    };
    let before = endpoint.timer.lock().replace(alarm);
    if let Some(other) = before {
        wait::remove_alarm(endpoint, other.cpu);
    }
    wait::add_alarm(endpoint, deadline);
    // Another CPU may have set or cancelled it, or closed the endpoint, before it was registered.
    let current = *endpoint.timer.lock();
    match current == Some(alarm) {
        false => wait::remove_alarm(endpoint, cpu),
        true if endpoint.meeting.is_closed() => cancel_timer(endpoint),
        true => {}
    }
    sched::this().attend();
    Ok(())
}

fn cancel_timer(endpoint: &Ref<Endpoint>) {
    let alarm = endpoint.timer.lock().take();
    if let Some(alarm) = alarm {
        wait::remove_alarm(endpoint, alarm.cpu);
    }
}

/// The time of an endpoint's timer may have come.
pub fn alarm(endpoint: &Ref<Endpoint>, now: u64) {
    let due = {
        let mut timer = endpoint.timer.lock();
        match *timer {
            Some(alarm) if alarm.deadline <= now => timer.take(),
            _ => None,
        }
    };
    if let Some(alarm) = due {
        // Nobody to tell it to is as good as nobody who listens.
        let _closed = notify(endpoint, alarm.bits);
    }
}

/// The tag in the registers of `thread`.
pub fn tag_of(thread: &Thread) -> Tag {
    Tag(thread.context().get(1))
}
