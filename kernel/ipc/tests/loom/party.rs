//! Threads that meet at an endpoint as the kernel's do, with what they are told counted.

use ipc::endpoint::{Endpoint, Notified, Party, Received, Sent, Taken, take};
use ipc::park::{ParkWord, Sleep};
use sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use sync::{Link, Linked, SpinLock, rank};

pub type Handle = std::sync::Arc<Thread>;
pub type Reply = ipc::reply::Reply<Handle>;
/// What a receiver has when it has received nothing.
pub const NOTHING: u64 = 0;
/// Set in what a receiver has if it is notification bits.
pub const BITS: u64 = 1 << 63;
/// What a caller has whom nobody answers.
pub const UNANSWERED: u64 = 1 << 62;

pub struct Thread {
    link: Link<Handle>,
    pub park: ParkWord,
    dying: AtomicBool,
    call: bool,
    message: u64,
    got: AtomicU64,
    answering: SpinLock<Option<Reply>, rank::Leaf>,
    /// How often it was made runnable.
    woken: AtomicUsize,
}

impl Linked<Handle> for Thread {
    fn link(&self) -> &Link<Handle> {
        &self.link
    }
}

impl Party<Handle> for Thread {
    fn park(&self) -> &ParkWord {
        &self.park
    }

    fn unanswered(this: Handle) {
        this.give(UNANSWERED);
        this.run();
    }
}

impl Thread {
    fn new(call: bool, message: u64) -> Handle {
        std::sync::Arc::new(Self {
            link: Link::new(),
            park: ParkWord::new(),
            dying: AtomicBool::new(false),
            call,
            message,
            got: AtomicU64::new(NOTHING),
            answering: SpinLock::new(None),
            woken: AtomicUsize::new(0),
        })
    }

    pub fn receiver() -> Handle {
        Self::new(false, NOTHING)
    }

    pub fn sender(message: u64) -> Handle {
        Self::new(false, message)
    }

    pub fn caller(message: u64) -> Handle {
        Self::new(true, message)
    }

    /// What it has received, or was answered.
    pub fn got(&self) -> u64 {
        self.got.load(Relaxed)
    }

    /// Fills in what it wakes up with.
    fn give(&self, message: u64) {
        let before = self.got.swap(message, Relaxed);
        assert!(before == NOTHING, "told twice");
    }

    fn begin(&self) -> Sleep {
        let sleep = self.park.next();
        self.park.begin();
        sleep
    }

    /// Who has claimed the sleep makes the thread runnable, when it is in no queue any more.
    fn run(&self) {
        assert!(!self.link.is_queued(), "queued while it runs");
        self.woken.fetch_add(1, Relaxed);
    }

    pub fn woken(&self) -> usize {
        self.woken.load(Relaxed)
    }

    /// The end of a model in which the thread has slept and was woken.
    pub fn has_run_once(&self) {
        assert!(self.woken() != 0, "sleeps for ever");
        assert!(self.woken() == 1, "woken twice");
        assert!(!self.link.is_queued(), "queued while it runs");
    }

    /// The end of one that sleeps on.
    pub fn sleeps(&self) {
        assert_eq!(self.woken(), 0);
        assert!(self.park.asleep().is_some());
    }

    fn owe(&self, reply: Option<Reply>) -> Option<Reply> {
        core::mem::replace(&mut *self.answering.lock(), reply)
    }

    /// The answer that it owes.
    pub fn owed(&self) -> Reply {
        self.owe(None).expect("an answer is owed")
    }
}

/// Answers, and wakes the caller if it waits still.
pub fn answer(reply: Reply, message: u64) -> bool {
    match reply.answer() {
        Some(caller) => {
            caller.give(message);
            caller.run();
            true
        }
        None => false,
    }
}

pub struct World {
    pub endpoint: Endpoint<Handle>,
}

impl World {
    /// An endpoint with one right to receive.
    pub fn new() -> loom::sync::Arc<Self> {
        let endpoint = Endpoint::new();
        endpoint.add_receiver();
        loom::sync::Arc::new(Self { endpoint })
    }

    fn check(&self, me: &Handle, sleep: Sleep) {
        let is_over = || me.dying.load(Relaxed);
        self.end(me, me.park.look_again(sleep, is_over));
    }

    /// Sends what `me` has to say. `None`: it does not sleep.
    pub fn send(&self, me: &Handle) -> Result<Option<Sleep>, Closed> {
        match self.endpoint.send(me, || me.begin()) {
            Sent::Closed => Err(Closed),
            Sent::Queued(sleep) => {
                self.check(me, sleep);
                Ok(Some(sleep))
            }
            Sent::To(receiver) => Ok(self.meet(me, &receiver)),
        }
    }

    /// `receiver`, which has been claimed, has what `me` has to say.
    fn meet(&self, me: &Handle, receiver: &Handle) -> Option<Sleep> {
        let sleep = me.call.then(|| me.begin());
        if let Some(sleep) = sleep {
            let before = receiver.owe(Some(Reply::new(me.clone(), sleep)));
            assert!(before.is_none());
        }
        receiver.give(me.message);
        receiver.run();
        if let Some(sleep) = sleep {
            self.check(me, sleep);
        }
        sleep
    }

    /// [`Self::send`] by the short way where it does.
    pub fn send_now(&self, me: &Handle) -> Result<Option<Sleep>, Closed> {
        match self.endpoint.send_now(|first| !first.dying.load(Relaxed)) {
            Some(receiver) => Ok(self.meet(me, &receiver)),
            None => self.send(me),
        }
    }

    /// Answers whom `me` has received from, and receives again: by the short way where it does.
    /// Whether the caller had the answer.
    pub fn answer_and_receive(
        &self,
        me: &Handle,
        message: u64,
    ) -> (bool, Result<Option<Sleep>, Closed>) {
        me.got.store(NOTHING, Relaxed);
        let (mut reply, mut caller) = (Some(me.owed()), None);
        let slept = self.endpoint.receive_now(me, || {
            caller = reply.take().and_then(Reply::answer);
            if let Some(caller) = &caller {
                caller.give(message);
            }
            me.begin()
        });
        let Some(sleep) = slept else {
            let reply = reply.expect("nothing has happened");
            return (answer(reply, message), self.receive(me));
        };
        let answered = caller.is_some();
        if let Some(caller) = caller {
            caller.run();
        }
        self.check(me, sleep);
        (answered, Ok(Some(sleep)))
    }

    /// Receives for `me`, which sleeps if nothing has come.
    pub fn receive(&self, me: &Handle) -> Result<Option<Sleep>, Closed> {
        let take = |sender: &Handle| {
            let taken = take(&sender.park, sender.call)?;
            Some((sender.clone(), taken))
        };
        match self.endpoint.receive(me, take, || me.begin()) {
            Received::Closed => return Err(Closed),
            Received::Queued(sleep) => {
                self.check(me, sleep);
                return Ok(Some(sleep));
            }
            Received::Bits(bits) => me.give(bits | BITS),
            Received::Message((sender, taken)) => {
                me.give(sender.message);
                match taken {
                    Taken::Awaited(sleep) => drop(me.owe(Some(Reply::new(sender, sleep)))),
                    Taken::Claimed => sender.run(),
                }
            }
        }
        Ok(None)
    }

    pub fn notify(&self, bits: u64) -> Result<(), Closed> {
        match self.endpoint.notify(bits) {
            Notified::Closed => Err(Closed),
            Notified::Kept => Ok(()),
            Notified::To(receiver, bits) => {
                receiver.give(bits | BITS);
                receiver.run();
                Ok(())
            }
        }
    }

    /// The end of the right to receive.
    pub fn close(&self) {
        if self.endpoint.remove_receiver() {
            while let Some(thread) = self.endpoint.drain() {
                Thread::unanswered(thread);
            }
        }
    }

    /// A time-out of `thread`, or its end, which has `claimed` its sleep or not.
    pub fn end(&self, thread: &Handle, claimed: bool) -> bool {
        if claimed {
            self.endpoint.leave(thread);
            thread.run();
        }
        claimed
    }

    /// The end of the process of `thread`.
    pub fn kill(&self, thread: &Handle) -> bool {
        thread.dying.store(true, Relaxed);
        self.end(thread, thread.park.claim_any())
    }
}

/// Nobody can receive any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;
