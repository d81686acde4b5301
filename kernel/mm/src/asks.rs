//! What pagers are to be asked, and which answers were refusals: a place for each CPU.
//!
//! A fault or a kernel access that needs a page which only a pager can give answers "busy", like one
//! that meets a change of the map, and leaves the question here. Whoever parks for "busy" on the same
//! CPU looks here first. Nothing comes in between: the kernel masks interrupts from the fault to the
//! parking, and nothing preempts it (D3). A question is taken, forgotten, or overwritten by the next;
//! any other "busy" of a fault forgets what is here.

use core::sync::atomic::Ordering;

use frame::slab::Ref;
use sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use sync::{MAX_CPUS, SpinLock, cpu_index, rank};

use crate::fault::facts::Access;
use crate::object::MemObject;

/// A question to the pager of an object.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The object.
    pub object: Ref<MemObject>,
    /// The page that is needed.
    pub index: u64,
    /// The run of absent pages around it that it would be good to have: at most the object's
    /// window, aligned like it, inside of the object, and `index` in it. A hint.
    pub first: u64,
    /// Pages in that run, at least 1.
    pub pages: u32,
    /// What for.
    pub access: Access,
    /// The user address; 0 for an access by the object.
    pub va: u64,
}

/// A page that a pager has said it does not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The number of the object.
    pub object: u32,
    /// The page.
    pub index: u64,
}

/// The places of all CPUs.
#[derive(Debug)]
pub struct Asks([OfCpu; MAX_CPUS]);

#[derive(Debug, Default)]
struct OfCpu {
    /// Whether there is a question: written by this CPU only, so that it costs little to ask.
    any: AtomicBool,
    ask: SpinLock<Option<Ask>, rank::Leaf>,
    /// The refusal that holds for the operation under way; object 0: none.
    object: AtomicU32,
    index: AtomicU64,
}

impl Asks {
    pub(crate) fn new() -> Self {
        Self(core::array::from_fn(|_| OfCpu::default()))
    }

    /// The question of the last fault or access on this CPU that needs a pager.
    pub fn take(&self) -> Option<Ask> {
        let here = self.here();
        match here.any.load(Ordering::Relaxed) {
            true => self.exchange(None),
            false => None,
        }
    }

    /// Drops the question, if there is one: for who does not park, and before an operation of another
    /// thread begins.
    #[inline(always)]
    pub fn forget(&self) {
        if self.here().any.load(Ordering::Relaxed) {
            drop(self.exchange(None));
        }
    }

    /// Leaves a question.
    pub(crate) fn put(&self, ask: Ask) {
        // What was there is dropped with no lock held: it may be the object's last reference.
        drop(self.exchange(Some(ask)));
    }

    /// Says that an access of this CPU to exactly this page fails instead of asking, until it is said
    /// otherwise: before the kernel takes up an operation of a thread whose request was refused,
    /// and with `None` after it.
    pub fn refuse(&self, refused: Option<Refused>) {
        let here = self.here();
        let (object, index) = refused.map_or((0, 0), |page| (page.object, page.index));
        here.index.store(index, Ordering::Relaxed);
        here.object.store(object, Ordering::Relaxed);
    }

    /// Whether that was said of page `index` of `object`.
    pub(crate) fn is_refused(&self, object: u32, index: u64) -> bool {
        let here = self.here();
        here.object.load(Ordering::Relaxed) == object && here.index.load(Ordering::Relaxed) == index
    }

    #[cold]
    fn exchange(&self, ask: Option<Ask>) -> Option<Ask> {
        let here = self.here();
        here.any.store(ask.is_some(), Ordering::Relaxed);
        core::mem::replace(&mut *here.ask.lock(), ask)
    }

    #[inline(always)]
    fn here(&self) -> &OfCpu {
        &self.0[cpu_index() % MAX_CPUS]
    }
}
