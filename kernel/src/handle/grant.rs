//! Revocation: handles that can be ended together, wherever their copies are.
//!
//! A handle that was made to be revoked has a grant, which all copies of it share. A copy that can
//! itself be revoked has a grant below that one. Whoever uses a handle looks whether a grant on the
//! way up has ended; nobody has to find the copies.

use frame::Frames;
use frame::slab::{Cache, Ref};
use sync::atomic::{AtomicBool, Ordering};

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
        };
        GRANTS.alloc_ref(grant).map_err(|_| Errno::ENOMEM)
    }

    /// Ends it, and all below it.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether neither it nor one above has ended.
    pub fn is_live(&self) -> bool {
        let mut grant = self;
        loop {
            if grant.ended.load(Ordering::Acquire) {
                return false;
            }
            match &grant.above {
                Some(above) => grant = above,
                None => return true,
            }
        }
    }
}
