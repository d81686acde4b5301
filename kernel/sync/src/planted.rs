//! Planted faults (DESIGN §5, tier T7): each is a place in the shipped sources where one test build
//! can be told, at run time, to do the wrong thing, so that the tests can be tested.
//!
//! The list below is the only one. In a build without the `planted` feature [`is`] is the constant
//! `false` and nothing of a fault remains in the code.

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// A fault that can be planted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum Fault { $($(#[$doc])* $name),+ }

        impl Fault {
            /// Every fault with its name.
            pub const ALL: &'static [(Self, &'static str)] =
                &[$((Self::$name, stringify!($name))),+];
        }
    };
}

faults! {
    /// The kernel copies past an allocation tag that is not the pointer's.
    CopyUnchecked,
    /// A freed page keeps its tag storage.
    KeepTagStorage,
    /// A block of tag storage is taken with the data that is in it.
    ReserveWithoutTake,
    /// Memory that is to carry tags is mapped tagged, whether it has them or not.
    TagWithoutStorage,
    /// Registers of a device are mapped as normal memory.
    DeviceAsNormal,
    /// `Gather::flush` hands out its token without an invalidation.
    SkipFlush,
    /// A leaf invalidation covers the first page of its range only.
    NarrowFlush,
    /// Tables are torn out, but only last-level translations are invalidated.
    KeepWalkCache,
    /// The level hint of an invalidation names the level above.
    WrongLevelHint,
    /// Folding and unfolding write the new entries over the live ones.
    MakeWithoutBreak,
    /// Folding breaks, but makes again without an invalidation in between, on any CPU.
    BreakWithoutFlush,
    /// After an unfold only the page asked for is invalidated.
    UnfoldFlushesOnePage,
    /// A block is folded wherever sixteen entries fit, aligned or not.
    FoldMisaligned,
    /// A block is folded without a look at the attributes of its entries.
    FoldMixedAttributes,
    /// A block is folded although its frames belong to more than one folio.
    FoldAcrossFolios,
    /// Folding and unfolding drop the access flags of all but the first entry.
    ConvertLosesYoung,
    /// Folding and unfolding drop the dirty state of all but the first entry.
    ConvertLosesDirty,
    /// The locked getter reads its own entry only.
    SkipGather,
    /// The lockless getter takes whatever sixteen values it reads as one block.
    SkipConsistency,
    /// A live entry is changed by load and store.
    StoreOverLive,
    /// "Nothing to do" is decided on the gathered view.
    GatheredNoop,
    /// Changing the rights of a part of a block leaves the block folded.
    ProtectWithoutUnfold,
    /// Taking out a part of a block leaves the rest folded.
    ZapWithoutUnfold,
    /// A detached table is destructed at once.
    DestructBeforeGrace,
    /// A table taken out of its parent is given back without its flush.
    FreeTableUnflushed,
    /// The constructor hook's refusal loses the frame.
    LeakOnRefusal,
    /// Adoption constructs the root and forgets the tables under it.
    AdoptRootOnly,
    /// A step of a walk loads the entry a second time.
    ReloadInWalk,
    /// A range walk goes on with the entry it has when a boundary of the root is crossed.
    StaleSlotAcrossBoundary,
    /// A pin is not compared with the entry again.
    PinWithoutRecheck,
    /// A pin is not compared with what leads to its table again.
    GupWithoutParentRecheck,
    /// Entries of a pin are loaded a second time after they were decided on.
    GupReload,
    /// What is another's is pinned without a look at the rights of its area.
    GupUnasked,
    /// A table is linked under a parent that may have been unlinked.
    LinkUnderDeadParent,
    /// A table is linked although the area of the fault was retired.
    LinkRetired,
    /// An absent table is skipped without its parent's lock.
    SkipAbsentUnlocked,
    /// A table is unlinked by a look at its entry count without its lock.
    UnlinkUnlocked,
    /// Growing publishes the new root before the old one hangs under it.
    GrowBeforeLink,
    /// A former root is reclaimed like any empty table.
    FreeFormerRoot,
    /// TCR is written while the old root is still loaded.
    TcrUnderOldRoot,
    /// A CPU whose root has grown reloads it without dropping its translations.
    GrowWithoutFlush,
    /// A new generation of identifiers begins without a pending flush on every CPU.
    NoRolloverFlush,
    /// Identifiers in use on other CPUs are not reserved when a generation begins.
    ForgetReservedAsids,
    /// Splitting a block links the table over the live block.
    SplitWithoutBreak,
    /// A table is collapsed although one of its entries differs.
    CollapseUnchecked,
    /// Removed entries are not counted.
    MiscountEntries,
    /// A full block counts one reference instead of sixteen.
    OneReferencePerBlock,
    /// The write window stays open after its batch.
    LeaveWindowOpen,
    /// A table page is not turned read-only by its constructor.
    LeaveTableWritable,
    /// A reader of a ring takes a record without a look whether it is being overwritten.
    ReadOverwritten,
    /// An unmapping drops the userfaultfd mark whatever its reason.
    DropMarkOnZap,
    /// A change of rights makes marked and special entries writable.
    WriteOverMark,
    /// An entry is replaced by another frame's without a break.
    ReplaceWithoutBreak,
    /// An entry is replaced by break and make without an invalidation in between.
    ReplaceWithoutFlush,
    /// An entry is replaced without a look at whether it is the one that this was decided from.
    ReplaceUnchecked,
    /// A fault is carried out without a look at whether its area is current.
    SkipCurrent,
    /// A change of the map retires nothing that faults have planned.
    RetireNothing,
    /// A change of the map retires what faults have planned only after its first visit.
    RetireLate,
    /// Rights are given without a look at whether the entry is the one that this was decided from.
    GiveUnchecked,
    /// A page is mapped without a look at whether it is the object's still.
    MapDetached,
    /// A page is copied and the copy mapped without a look at whether it is the object's still.
    CopyDetached,
    /// A copy takes the place of a marker without a look at whether the page is the object's still.
    CopyOverMarker,
    /// Fault-around takes pages that are behind the end of the object.
    AroundBeyondEnd,
    /// Fault-around maps pages behind the end of the area.
    AroundBeyondArea,
    /// Fault-around maps pages of watched ranges.
    AroundWatched,
    /// Fault-around is all that a fault on a marker that nobody watches any more comes to.
    AroundMarker,
    /// The areas that a change is about are not busy.
    LeaveUnbusy,
    /// The areas that a change is about are busy no more when it begins to take their pages out.
    PublishEarly,
    /// An object becomes shorter when its mappings have been visited.
    ShrinkLate,
    /// A mapping is taken off the list of its object before its pages are taken out.
    ForgetEarly,
    /// Entries are moved before the object knows of their new place.
    MoveBeforeLink,
    /// Entries are moved without the lock of their object.
    MoveUnlocked,
    /// A page is mapped in the place of a marker without its mark.
    DropMarkOnMap,
    /// A block is mapped without a look at whether the area is current.
    BlockUnchecked,
    /// A page that somebody else has too is made writable.
    ReuseLent,
    /// Unmapping for a hole drops marks, and fault-around maps pages of watched ranges: the race of
    /// the thread that the rules about both come from.
    PunchUnseen,
    /// A lookup in a page cache does not load the slot again.
    SlotWithoutRecheck,
    /// A hole's pages are not visited again after they were detached.
    DetachWithoutVisit,
    /// A visit of mappings goes on although entries were moved.
    IgnoreMoves,
    /// Truncation frees pages without a visit of their mappings.
    FreeWithoutVisit,
    /// Pages are supplied without a look at the size.
    SupplyBeyondEnd,
    /// Pages go to another owner and stay mapped where they were.
    SupplyMapped,
    /// An unmapping forgets that an entry was dirty.
    ForgetDirtyOnZap,
    /// Clean pages are dropped without a look whether they were written since they were unmapped.
    DropDirty,
    /// Entries are made clean without a flush.
    CleanUnflushed,
    /// A page that somebody else holds too goes to another owner as it is.
    SupplyHeld,
    /// A sleep is claimed by a look and a store instead of one step.
    ClaimTwice,
    /// A thread that has parked does not look again whether it would have been woken before.
    ParkWithoutCheck,
    /// A futex's word is compared before its bucket is locked.
    FutexCompareUnlocked,
    /// A waiter that is moved to another futex keeps its key.
    RequeueWithoutKey,
    /// A requeue locks the bucket that it takes from first, whatever the addresses.
    RequeueUnordered,
    /// A word of a shared object is found by its address.
    SharedByAddress,
    /// A CPU looks at other queues before it announces that it runs less than before.
    AnnounceLate,
    /// All threads that wait for a CPU are alike.
    QueueWithoutPriority,
    /// Threads run where they may not.
    IgnoreAffinity,
    /// The end of the last right to receive does not close the endpoint.
    CloseSilently,
    /// Notification bits that nobody waits for are dropped.
    LoseNotification,
    /// A message goes to a receiver that something else has woken.
    SendToTheWoken,
    /// An answer goes to a caller that something else has woken.
    AnswerTheWoken,
    /// Whoever waits for an answer that is given up is not told.
    ForgetCaller,
    /// A message is taken from a sender that something else has woken.
    TakeTheWoken,
    /// A thread whose sleep was ended by something else stays in its endpoint's queue.
    StayQueued,
    /// A receiver does not look whether notification bits are set.
    IgnoreBits,
    /// Rights to receive that are revoked count on.
    RevokeSilently,
    /// Clean pages of pagers stay when memory is short.
    KeepClean,
    /// Pages of objects are not counted for whoever made the object.
    ChargeNothing,
}

impl Fault {
    /// The fault of that name.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|(_, known)| *known == name)
            .map(|&(fault, _)| fault)
    }
}

/// Whether `fault` is planted in this run.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_fault: Fault) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use on::{is, plant};

#[cfg(feature = "planted")]
mod on {
    use super::Fault;
    // Core's atomic on purpose: the choice is made before anything is explored by loom.
    use core::sync::atomic::{AtomicU32, Ordering};

    const UNKNOWN: u32 = u32::MAX;
    const NONE: u32 = u32::MAX - 1;

    static CHOSEN: AtomicU32 = AtomicU32::new(UNKNOWN);

    /// Whether `fault` is planted in this run: on the host the one named by the environment
    /// variable `TESSERA_FAULT`, in the kernel the one given to [`plant`].
    #[inline]
    pub fn is(fault: Fault) -> bool {
        let chosen = match CHOSEN.load(Ordering::Relaxed) {
            UNKNOWN => choose(),
            chosen => chosen,
        };
        chosen == fault as u32
    }

    /// Plants `fault` from here on, or none.
    pub fn plant(fault: Option<Fault>) {
        CHOSEN.store(fault.map_or(NONE, |fault| fault as u32), Ordering::Relaxed);
    }

    #[cfg(not(target_os = "none"))]
    fn choose() -> u32 {
        let named = std::env::var("TESSERA_FAULT").ok();
        plant(named.map(|name| {
            Fault::named(&name).unwrap_or_else(|| panic!("no fault is called {name}"))
        }));
        CHOSEN.load(Ordering::Relaxed)
    }

    #[cfg(target_os = "none")]
    fn choose() -> u32 {
        NONE
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, is};

    /// The one test that every fault kills.
    #[test]
    fn no_fault_is_planted_unless_asked_for() {
        for &(fault, name) in Fault::ALL {
            assert!(!is(fault), "{name} is planted");
            assert_eq!(Fault::named(name), Some(fault));
        }
        assert_eq!(Fault::named("skipflush"), None);
    }
}
