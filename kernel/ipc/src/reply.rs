//! Answers that are owed: who waits for one, and in which sleep.
//!
//! The caller's sleep is the reply object. Whoever claims it, an answer, a time-out or the end of the
//! caller's process, is the one that the caller wakes up for; an answer that comes too late finds
//! nobody, and one that is dropped tells its caller so.

use core::ops::Deref;

use sync::planted::{Fault, is};

use crate::endpoint::Party;
use crate::park::Sleep;

/// An answer that is owed.
#[derive(Debug)]
pub struct Reply<H: Clone + Deref<Target: Party<H>>> {
    caller: Option<H>,
    sleep: Sleep,
}

impl<H: Clone + Deref<Target: Party<H>>> Reply<H> {
    /// `caller` waits for it in `sleep`.
    #[inline]
    pub const fn new(caller: H, sleep: Sleep) -> Self {
        Self {
            caller: Some(caller),
            sleep,
        }
    }

    /// Who waits; it may be woken by something else at any time.
    pub fn caller(&self) -> Option<&H> {
        self.caller.as_ref()
    }

    /// Whether the caller waits still.
    pub fn is_awaited(&self) -> bool {
        let caller = self.caller.as_ref();
        caller.is_some_and(|caller| caller.park().is_asleep(self.sleep))
    }

    /// Claims the caller's sleep, to be filled in and made runnable. `None`: it does not wait any more.
    #[inline]
    pub fn answer(mut self) -> Option<H> {
        let caller = self.caller.take()?;
        let claimed = caller.park().claim(self.sleep);
        (claimed || is(Fault::AnswerTheWoken)).then_some(caller)
    }
}

impl<H: Clone + Deref<Target: Party<H>>> Drop for Reply<H> {
    fn drop(&mut self) {
        let Some(caller) = self.caller.take() else {
            return;
        };
        if !is(Fault::ForgetCaller) && caller.park().claim(self.sleep) {
            H::Target::unanswered(caller);
        }
    }
}
