//! What all address spaces of a machine share.

use core::sync::atomic::Ordering;

use arm64::addr::Pfn;
use frame::{Unreserved, UserFrame};
use pgtable::asid::{Asids, SET_ASIDE};
use pgtable::{Graveyard, Machine};
use sync::MAX_CPUS;
use sync::atomic::{AtomicU32, AtomicUsize};

use crate::asks::Asks;
use crate::layout::MAX_MAP_COUNT;
use crate::object::Objects;
use crate::policy::Policy;
use crate::stats::{Counter, Counters};
use crate::tags::TagEvents;
use crate::trace::{Categories, Listener, Tracer};
use crate::vma::AreaNodes;

/// The number of `init_mm`.
pub const INIT_MM: u32 = 1;

/// Who drops about so many clean pages of objects with pagers when memory is short, and says how many
/// were dropped. It is called with no lock held, on any way into the fault path.
pub type Reclaimer = fn(u32) -> u64;

/// Machine, identifiers and the graveyard of tables.
pub struct MmContext<M: Machine> {
    pub(crate) machine: &'static M,
    pub(crate) graveyard: &'static Graveyard,
    asids: Asids<MAX_CPUS>,
    objects: Objects,
    asks: Asks,
    policy: Policy,
    max_map_count: AtomicUsize,
    area_nodes: AreaNodes,
    zero_page: UserFrame,
    reclaimer: Reclaimer,
    pub(crate) tag_events: TagEvents,
    /// Instructions (or ticks) so far: what the first fault of a space is measured with.
    pub(crate) clock: fn() -> u64,
    next_id: AtomicU32,
    pub(crate) tracer: Tracer,
    /// Spaces that have ended, and what they counted.
    pub(crate) spaces_ended: Counter,
    pub(crate) ended: Counters,
}

impl<M: Machine> MmContext<M> {
    /// A context for a machine of `cpus` CPUs.
    ///
    /// # Panics
    /// If identifiers of that many bits do not suffice for so many CPUs:
    /// [`pgtable::asid::usable_bits`] says what does.
    pub fn new(
        machine: &'static M,
        graveyard: &'static Graveyard,
        asid_bits: u8,
        cpus: usize,
        clock: fn() -> u64,
    ) -> Self {
        let asids = Asids::new(asid_bits, cpus, SET_ASIDE);
        Self {
            machine,
            graveyard,
            asids: asids.expect("an identifier for every CPU and one more"),
            objects: Objects::new(machine.frames()),
            asks: Asks::new(),
            policy: Policy::new(),
            max_map_count: AtomicUsize::new(MAX_MAP_COUNT),
            area_nodes: AreaNodes::new(machine.frames()),
            zero_page: zero_page(machine),
            reclaimer: |_| 0,
            tag_events: TagEvents::default(),
            clock,
            next_id: AtomicU32::new(INIT_MM + 16),
            tracer: Tracer::new(|_| {}),
            spaces_ended: Counter::default(),
            ended: Counters::default(),
        }
    }

    /// With somebody who knows the objects that have pagers, and drops clean pages of some
    /// ([`crate::MemObject::reclaim`]) when memory is short.
    #[must_use]
    pub fn reclaimed_by(self, reclaimer: Reclaimer) -> Self {
        Self { reclaimer, ..self }
    }

    /// Has about `budget` clean pages dropped that pagers can give again; how many were. No lock is
    /// held.
    pub fn reclaim(&self, budget: u32) -> u64 {
        (self.reclaimer)(budget)
    }

    /// With somebody who listens to what happens in its spaces.
    #[must_use]
    pub fn traced_by(self, listener: Listener, categories: Categories) -> Self {
        let tracer = Tracer::new(listener);
        tracer.choose(categories);
        Self { tracer, ..self }
    }

    /// Who listens, and to what.
    #[inline(always)]
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// How many spaces have ended, and what they counted together.
    pub fn ended(&self) -> (u64, &Counters) {
        (self.spaces_ended.get(), &self.ended)
    }

    /// What costs are measured with.
    #[inline]
    pub fn clock(&self) -> fn() -> u64 {
        self.clock
    }

    /// The identifiers under which spaces are in the TLBs.
    #[inline]
    pub fn asids(&self) -> &Asids<MAX_CPUS> {
        &self.asids
    }

    /// Which folios faults try for.
    #[inline(always)]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Where the nodes of all indices of areas come from.
    pub(crate) fn area_nodes(&self) -> &AreaNodes {
        &self.area_nodes
    }

    /// Most areas of one space (`vm.max_map_count`), for spaces made from now on.
    pub fn max_map_count(&self) -> usize {
        self.max_map_count.load(Ordering::Relaxed)
    }

    /// Sets that limit.
    pub fn set_max_map_count(&self, limit: usize) {
        self.max_map_count.store(limit, Ordering::Relaxed);
    }

    /// The page of zeros that all share. It is never written and never freed.
    #[inline(always)]
    pub fn zero_page(&self) -> Pfn {
        self.zero_page.pfn()
    }

    /// A reference to that page, to copy zeros from.
    pub fn zeros(&self) -> &UserFrame {
        &self.zero_page
    }

    /// Where memory objects come from.
    #[inline]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// What pagers are to be asked.
    #[inline(always)]
    pub fn asks(&self) -> &Asks {
        &self.asks
    }

    pub(crate) fn new_id(&self) -> u32 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Most pages that one private writable mapping may promise: what the machine has.
    pub fn promise_limit(&self) -> u64 {
        let banks = self.machine.frames().banks();
        banks.map(|bank| bank.end.raw() - bank.start.raw()).sum()
    }
}

/// Takes a frame for good and clears it.
///
/// # Panics
/// If there is none: nothing can run on such a machine.
fn zero_page<M: Machine>(machine: &M) -> UserFrame {
    match machine.frames().alloc_fresh(0, false) {
        Ok(mut frame) => {
            // It is mapped tagged too, where tags are wanted (TAG-28).
            frame.zero_tagged_pages(0, 1);
            machine.sync_instructions(frame.pfn().start());
            match machine.frames().reserve_tags(frame.pfn(), 1) {
                Ok(reserved) => frame.into_tagged(reserved).into_user().into_inner(),
                Err(Unreserved::Claimed(claim)) => match claim.complete() {
                    Ok(block) => {
                        let reserved = machine.frames().reserve_tags(frame.pfn(), 1);
                        drop(block);
                        match reserved {
                            Ok(reserved) => frame.into_tagged(reserved).into_user().into_inner(),
                            Err(_) => frame.into_user(),
                        }
                    }
                    Err(_) => frame.into_user(),
                },
                Err(_) => frame.into_user(),
            }
        }
        Err(_) => panic!("no memory for the page of zeros"),
    }
}
