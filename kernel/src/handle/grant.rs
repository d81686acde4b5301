//! Revocation: handles that can be ended together, wherever their copies are.
//!
//! A handle that was made to be revoked has a grant, which all copies of it share. A copy that can
//! itself be revoked has a grant below that one. Whoever uses a handle looks whether a grant on the
//! way up has ended; nobody has to find the copies.
//!
//! A right to receive from an endpoint means something without being used: senders wait for whoever
//! has it. So each grant counts those below it, and with it they all end at once
//! (`ipc::Port`).

use frame::Frames;
use frame::slab::{Cache, Ref};
use sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::errno::Errno;

/// Grants above each other: as many as each use of a handle looks at.
const DEPTH: u32 = 8;

static GRANTS: Cache<Grant> = Cache::new("grant");

/// Prepares the cache, once, at boot.
pub(super) fn init(frames: &'static Frames) {
    GRANTS.init(frames);
}

/// What copies of a handle have in common.
#[derive(Debug)]
pub struct Grant {
    ended: AtomicBool,
    above: Option<Ref<Grant>>,
    depth: u32,
    /// Rights to receive that have not ended, in copies of this and of what is below.
    receivers: AtomicU32,
}

impl Grant {
    /// A grant below `above`.
    ///
    /// # Errors
    /// `EDQUOT` for too many above each other, `ENOMEM`.
    pub fn below(above: Option<Ref<Self>>) -> Result<Ref<Self>, Errno> {
        let depth = above.as_ref().map_or(0, |above| above.depth + 1);
        if depth >= DEPTH {
            return Err(Errno::EDQUOT);
        }
        let grant = Self {
            ended: AtomicBool::new(false),
            above,
            depth,
            receivers: AtomicU32::new(0),
        };
        GRANTS.alloc_ref(grant).map_err(|_| Errno::ENOMEM)
    }

    /// There is one right to receive more (+1) or less (-1) that this grant counts.
    pub fn count_receiver(&self, change: i32) {
        self.receivers.fetch_add(change as u32, Ordering::Relaxed);
    }

    /// The same for this grant and those above.
    pub fn count_receiver_upwards(&self, change: i32) {
        self.upwards()
            .for_each(|grant| grant.count_receiver(change));
    }

    /// Ends it, and all below it, with their rights to receive; how many there were. Whoever counts them
    /// does not do so at the same moment.
    pub fn end_with_receivers(&self) -> u32 {
        if !self.is_live() {
            return 0;
        }
        let ended = self.receivers.load(Ordering::Relaxed);
        self.end();
        for grant in self.upwards() {
            grant.receivers.fetch_sub(ended, Ordering::Relaxed);
        }
        ended
    }

    /// This one and those above it.
    fn upwards(&self) -> impl Iterator<Item = &Self> {
        core::iter::successors(Some(self), |grant| grant.above.as_deref())
    }

    /// Ends it, and all below it.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether neither it nor one above has ended.
    pub fn is_live(&self) -> bool {
        self.upwards()
            .all(|grant| !grant.ended.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Once;

    fn grant(above: Option<&Ref<Grant>>) -> Ref<Grant> {
        static CACHES: Once = Once::new();
        CACHES.call_once(|| super::super::init(frame::arena::frames(256)));
        Grant::below(above.cloned()).unwrap()
    }

    #[test]
    fn a_grant_ends_with_the_rights_to_receive_below_it_and_no_others() {
        let top = grant(None);
        let (left, right) = (grant(Some(&top)), grant(Some(&top)));
        let deep = grant(Some(&left));
        for holder in [&top, &left, &deep, &deep, &right] {
            holder.count_receiver_upwards(1);
        }
        assert_eq!(deep.end_with_receivers(), 2);
        assert_eq!(deep.end_with_receivers(), 0, "it has ended");
        assert_eq!(
            left.end_with_receivers(),
            1,
            "those of the deeper one have gone before"
        );
        assert!(top.is_live() && right.is_live() && !left.is_live() && !deep.is_live());
        right.count_receiver_upwards(-1);
        assert_eq!(top.end_with_receivers(), 1);
        assert!(!right.is_live());
    }
}
