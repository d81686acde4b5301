//! Ownership: exclusion that outlives a stay in the kernel (DESIGN D3).

use crate::atomic::{AtomicU64, Ordering};
use crate::const_fn;
use core::num::NonZeroU64;

/// Names an owner: a thread, or the work item that finishes what a dead thread began.
pub type OwnerId = NonZeroU64;

/// The answer to whoever finds the thing owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnedBy(pub OwnerId);

/// A record of who owns a thing: a space's map, a folio under I/O.
///
/// Not a lock: nobody spins on it. It has no queue inside; the caller parks in one of its own by
/// the rule that loses no wake-up: *lock the queue → ask again → enqueue*, against *release → lock
/// the queue → wake*. The id lets a report name the owner, and lets the ownership pass on when a
/// thread dies in the middle ([`transfer`](Self::transfer)).
pub struct Ownership {
    owner: AtomicU64,
}

impl Ownership {
    const_fn! {
        /// A thing without an owner.
        pub const fn new() -> Self {
            Self { owner: AtomicU64::new(0) }
        }
    }

    /// Becomes the owner, or says who is. What the last owner did is then visible.
    #[inline]
    pub fn try_acquire(&self, me: OwnerId) -> Result<(), OwnedBy> {
        match self
            .owner
            .compare_exchange(0, me.get(), Ordering::Acquire, Ordering::Relaxed)
        {
            Ok(_) => Ok(()),
            Err(other) => match NonZeroU64::new(other) {
                Some(owner) => Err(OwnedBy(owner)),
                None => unreachable!("a strong exchange fails on another value only"),
            },
        }
    }

    /// Ends the ownership of `me`. The caller then wakes those who wait.
    ///
    /// # Panics
    /// If `me` is not the owner.
    #[inline]
    pub fn release(&self, me: OwnerId) {
        self.assert_owner(me);
        self.owner.store(0, Ordering::Release);
    }

    /// Passes the ownership on without a moment in which a third party could take it.
    ///
    /// # Panics
    /// If `from` is not the owner.
    pub fn transfer(&self, from: OwnerId, to: OwnerId) {
        self.assert_owner(from);
        self.owner.store(to.get(), Ordering::Release);
    }

    /// The owner at this moment.
    pub fn owner(&self) -> Option<OwnerId> {
        NonZeroU64::new(self.owner.load(Ordering::Acquire))
    }

    /// Whether somebody owns it at this moment.
    pub fn is_owned(&self) -> bool {
        self.owner().is_some()
    }

    fn assert_owner(&self, me: OwnerId) {
        let owner = self.owner.load(Ordering::Acquire);
        assert_eq!(
            owner,
            me.get(),
            "ownership given up by someone who does not have it"
        );
    }
}

impl Default for Ownership {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Ownership {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Ownership({:?})", self.owner())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const ONE: OwnerId = OwnerId::new(1).unwrap();
    const TWO: OwnerId = OwnerId::new(2).unwrap();

    #[test]
    fn a_second_owner_learns_who_the_first_is() {
        let map = Ownership::new();
        assert_eq!(map.try_acquire(ONE), Ok(()));
        assert_eq!(map.try_acquire(TWO), Err(OwnedBy(ONE)));
        assert_eq!(
            map.try_acquire(ONE),
            Err(OwnedBy(ONE)),
            "ownership is not recursive"
        );
        map.release(ONE);
        assert_eq!(map.try_acquire(TWO), Ok(()));
    }

    #[test]
    fn a_transfer_leaves_no_gap() {
        let map = Ownership::new();
        map.try_acquire(ONE).unwrap();
        map.transfer(ONE, TWO);
        assert_eq!(map.owner(), Some(TWO));
        map.release(TWO);
        assert!(!map.is_owned());
    }

    #[test]
    #[should_panic(expected = "does not have it")]
    fn release_by_a_stranger_is_caught() {
        let map = Ownership::new();
        map.try_acquire(ONE).unwrap();
        map.release(TWO);
    }
}
