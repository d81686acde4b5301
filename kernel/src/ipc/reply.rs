//! Answers that are owed, as a thread owes them and as handles.

use frame::Frames;
use frame::slab::{Cache, Ref};
use ipc::endpoint::Party;
use ipc::park::ParkWord;
use sync::{SpinLock, rank};

use crate::errno::Errno;
use crate::thread::Thread;

/// An answer that is owed.
pub type Reply = ipc::reply::Reply<Ref<Thread>>;

static SAVED: Cache<Saved> = Cache::new("saved reply");

/// Prepares the cache, once, at boot.
pub(super) fn init(frames: &'static Frames) {
    SAVED.init(frames);
}

impl Party<Ref<Thread>> for Thread {
    fn park(&self) -> &ParkWord {
        Thread::park(self)
    }

    fn unanswered(this: Ref<Thread>) {
        super::answer::give_up(this);
    }
}

/// An answer that is owed by whoever has the handle.
#[derive(Debug)]
pub struct Saved(SpinLock<Option<Reply>, rank::Leaf>);

impl Saved {
    /// Room for an answer.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Ref<Self>, Errno> {
        let saved = Self(SpinLock::new(None));
        SAVED.alloc_ref(saved).map_err(|_| Errno::ENOMEM)
    }

    /// Puts `reply` in.
    pub fn put(&self, reply: Reply) {
        let before = self.0.lock().replace(reply);
        drop(before);
    }

    /// Takes it out, once.
    pub fn take(&self) -> Option<Reply> {
        self.0.lock().take()
    }

    /// Who waits for it, if it waits still.
    pub fn peer(&self) -> Option<Ref<Thread>> {
        let reply = self.0.lock();
        let reply = reply.as_ref()?;
        reply.is_awaited().then(|| reply.caller().cloned())?
    }
}
