//! Endpoints: where senders and receivers meet.
//!
//! A message stays with its sender, in its registers or in its record, until a receiver takes it:
//! nothing is allocated and nothing is copied twice. So a sender that is queued must not run. It
//! leaves the queue under the endpoint's lock before it is made runnable, whoever wakes it, and
//! whoever finds it in the queue under that lock may read its message.
//!
//! A receiver is *claimed* by the sender that it is to run for. A sender that waits for an answer
//! sleeps on, through the queue and until its [`Reply`](crate::reply::Reply) is used, in one sleep: if
//! something else ends it meanwhile, the reply finds nobody.

use core::ops::Deref;

use sync::atomic::{AtomicU32, Ordering};
use sync::planted::{Fault, is};
use sync::{Linked, Queue, SpinLock, const_fn, rank};

use crate::park::{ParkWord, Sleep};

/// What the protocols need of a thread with handles `H`.
pub trait Party<H>: Linked<H> {
    /// Who may wake it.
    fn park(&self) -> &ParkWord;

    /// Its sleep has been claimed, and nobody is going to answer it: it is told, and made runnable.
    fn unanswered(this: H);
}

/// Who waits at an endpoint, and what for.
struct State<H: Clone + Deref<Target: Linked<H>>> {
    /// Senders or receivers, never both.
    queue: Queue<H>,
    /// They are receivers.
    receiving: bool,
    /// Notification bits that nobody has taken.
    bits: u64,
    /// Nobody can receive any more.
    closed: bool,
}

/// Where senders and receivers with handles `H` meet.
pub struct Endpoint<H: Clone + Deref<Target: Party<H>>> {
    state: SpinLock<State<H>, rank::Endpoint>,
    /// Rights to receive that there are.
    receivers: AtomicU32,
}

/// What became of a message on its way out.
#[derive(Debug)]
pub enum Sent<H> {
    /// This receiver takes it. Its sleep has been claimed: the sender fills it in and lets it run.
    To(H),
    /// It waits with its sender, which sleeps.
    Queued(Sleep),
    /// Nobody can receive any more.
    Closed,
}

/// What a receiver got.
#[derive(Debug)]
pub enum Received<M> {
    /// A message.
    Message(M),
    /// Notification bits.
    Bits(u64),
    /// Nothing yet: it sleeps.
    Queued(Sleep),
    /// Nobody can receive any more.
    Closed,
}

/// What became of notification bits.
#[derive(Debug)]
pub enum Notified<H> {
    /// This receiver, whose sleep has been claimed, is to have these bits.
    To(H, u64),
    /// They are kept for the next receiver.
    Kept,
    /// Nobody can receive any more.
    Closed,
}

/// What remains to be done about a sender whose message was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It waits for an answer, in this sleep.
    Awaited(Sleep),
    /// Its sleep has been claimed: it is told, and made runnable.
    Claimed,
}

/// Takes the message of the sender that `park` belongs to, which was in the queue of a locked
/// endpoint. `None`: something else has woken it, and there is no message any more.
#[inline]
pub fn take(park: &ParkWord, wants_answer: bool) -> Option<Taken> {
    if wants_answer {
        return park.asleep().map(Taken::Awaited);
    }
    let claimed = park.claim_any() || is(Fault::TakeTheWoken);
    claimed.then_some(Taken::Claimed)
}

impl<H: Clone + Deref<Target: Party<H>>> Endpoint<H> {
    const_fn! {
        /// Nobody waits, and there is no right to receive yet.
        pub const fn new() -> Self {
            Self {
                state: SpinLock::new(State {
                    queue: Queue::new(),
                    receiving: false,
                    bits: 0,
                    closed: false,
                }),
                receivers: AtomicU32::new(0),
            }
        }
    }

    /// There is one right to receive more.
    pub fn add_receiver(&self) {
        self.receivers.fetch_add(1, Ordering::Relaxed);
    }

    /// There is one right to receive less. True: that was the last, nobody receives any more, and
    /// [`Self::drain`] has to follow.
    #[must_use]
    pub fn remove_receiver(&self) -> bool {
        self.remove_receivers(1)
    }

    /// The same for `count` rights at once.
    #[must_use]
    pub fn remove_receivers(&self, count: u32) -> bool {
        let last = count != 0 && self.receivers.fetch_sub(count, Ordering::AcqRel) == count;
        if last && !is(Fault::CloseSilently) {
            self.state.lock().closed = true;
        }
        last
    }

    /// Whether nobody can receive any more.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Sends the message of `me`, the current thread. `park` starts its sleep.
    #[inline]
    pub fn send(&self, me: &H, park: impl FnOnce() -> Sleep) -> Sent<H> {
        let mut state = self.state.lock();
        if state.closed {
            return Sent::Closed;
        }
        if let Some(receiver) = state.pop_receiver() {
            return Sent::To(receiver);
        }
        Sent::Queued(state.push(me, false, park))
    }

    /// Receives for `me`, the current thread: notification bits first, then what `take` makes of the
    /// first sender in the queue that has a message still. `take` is called with the endpoint locked.
    /// Else `park` starts its sleep.
    #[inline]
    pub fn receive<M>(
        &self,
        me: &H,
        mut take: impl FnMut(&H) -> Option<M>,
        park: impl FnOnce() -> Sleep,
    ) -> Received<M> {
        let mut state = self.state.lock();
        if state.bits != 0 && !is(Fault::IgnoreBits) {
            return Received::Bits(core::mem::take(&mut state.bits));
        }
        if !state.receiving {
            while let Some(sender) = state.queue.pop() {
                if let Some(message) = take(&sender) {
                    return Received::Message(message);
                }
            }
        }
        match state.closed {
            true => Received::Closed,
            false => Received::Queued(state.push(me, true, park)),
        }
    }

    /// The first receiver, claimed, if one waits and `may` it be sent to now. `None`: nothing has
    /// happened, and [`Self::send`] does what there is to do.
    #[inline]
    pub fn send_now(&self, may: impl FnOnce(&H) -> bool) -> Option<H> {
        let mut state = self.state.lock();
        let is_there = state.receiving && state.queue.front().is_some_and(may);
        match is_there && !state.closed {
            true => state.pop_receiver(),
            false => None,
        }
    }

    /// As [`Self::receive`] where there is nothing to receive yet. `None`: there is something, or
    /// never will be, and `park` was not called.
    #[inline]
    pub fn receive_now(&self, me: &H, park: impl FnOnce() -> Sleep) -> Option<Sleep> {
        let mut state = self.state.lock();
        let has_bits = state.bits != 0 && !is(Fault::IgnoreBits);
        let is_quiet = !has_bits && (state.receiving || state.queue.is_empty());
        match is_quiet && !state.closed {
            true => Some(state.push(me, true, park)),
            false => None,
        }
    }

    /// Sets notification bits.
    #[inline]
    pub fn notify(&self, bits: u64) -> Notified<H> {
        let mut state = self.state.lock();
        if state.closed {
            return Notified::Closed;
        }
        match state.pop_receiver() {
            Some(receiver) => {
                let all = bits | core::mem::take(&mut state.bits);
                Notified::To(receiver, all)
            }
            None => {
                if !is(Fault::LoseNotification) {
                    state.bits |= bits;
                }
                Notified::Kept
            }
        }
    }

    /// Takes `thread`, whose sleep was claimed by somebody who did not find it here, out of the queue.
    pub fn leave(&self, thread: &H) {
        if is(Fault::StayQueued) {
            return;
        }
        let left = self.state.lock().queue.remove(thread);
        drop(left);
    }

    /// After the end of all rights to receive: takes out the first thread that waits and claims its
    /// sleep. It is to be told that nobody receives any more.
    pub fn drain(&self) -> Option<H> {
        let mut state = self.state.lock();
        state.queue.remove_first(|thread| thread.park().claim_any())
    }
}

impl<H: Clone + Deref<Target: Party<H>>> Default for Endpoint<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Clone + Deref<Target: Party<H>>> State<H> {
    /// The first receiver that still waits, claimed. One that somebody else has claimed is on its way
    /// out of the queue, and does not have to come back for it.
    #[inline]
    fn pop_receiver(&mut self) -> Option<H> {
        while self.receiving {
            let Some(receiver) = self.queue.pop() else {
                self.receiving = false;
                break;
            };
            if receiver.park().claim_any() || is(Fault::SendToTheWoken) {
                return Some(receiver);
            }
        }
        None
    }

    #[inline]
    fn push(&mut self, me: &H, receiving: bool, park: impl FnOnce() -> Sleep) -> Sleep {
        debug_assert!(self.queue.is_empty() || self.receiving == receiving);
        self.receiving = receiving;
        let sleep = park();
        let pushed = self.queue.push(me.clone());
        debug_assert!(pushed.is_ok(), "a queued thread sends or receives");
        sleep
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
