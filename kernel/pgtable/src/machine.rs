//! What the engine asks of the machine it runs on: memory, invalidation, hooks.

use arm64::addr::PhysAddr;
use arm64::pte::Format;
use frame::Frames;
use sync::grace::Grace;

use crate::TableError;
use crate::slot::ReadSide;
use crate::space::SpaceKind;
use crate::stats::TableStats;
use crate::table::TableDesc;

/// What a TLB invalidation covers, always broadcast to the inner-shareable domain and completed
/// before [`Machine::invalidate`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidation {
    /// Every translation of one address-space identifier, walk caches included.
    Asid(u16),
    /// The last-level translation of one page of one address space.
    Page {
        /// The identifier of the space.
        asid: u16,
        /// An address inside the page.
        va: u64,
    },
    /// Global (kernel) translations of a range of pages, walk caches included.
    Kernel {
        /// First byte.
        start: u64,
        /// First byte after the range.
        end: u64,
    },
}

/// The machine under the engine. The kernel implements it over the direct map and TLBI
/// instructions, host tests over an arena.
///
/// The constructor and destructor hooks have no default on purpose: a port has to say what it
/// does with a table page (CTOR-17, CTOR-20).
pub trait Machine: Sync + 'static {
    /// The allocator that table frames come from and the window through which they are reached.
    fn frames(&self) -> &'static Frames;

    /// How descriptors place their address bits on this machine.
    fn format(&self) -> Format;

    /// Makes stores to tables visible to the table walkers of all CPUs, before the next
    /// instruction where `kind` is a kernel space (Arm ARM D8.2.10 “Ordering of memory accesses
    /// from translation table walks”).
    fn publish(&self, kind: SpaceKind);

    /// Invalidates and waits for completion on all CPUs.
    fn invalidate(&self, what: Invalidation);

    /// Makes the bytes of the page at `pa`, written as data, visible to instruction fetches.
    fn sync_instructions(&self, pa: PhysAddr);

    /// Opens a read-side section that lasts as long as `stay` is borrowed, a value of the caller's
    /// stack frame. The implementor vouches that this CPU reports no quiescent state meanwhile.
    fn read_side<'g, T>(&self, stay: &'g T) -> ReadSide<'g>;

    /// Grace periods: what a detached table waits for.
    fn grace(&self) -> &'static Grace;

    /// Where tables of all spaces are counted.
    fn stats(&self) -> &'static TableStats;

    /// Called for every table page before it can be linked.
    ///
    /// # Errors
    /// Any error unwinds the construction: the frame is freed, the caller sees the error.
    fn on_construct(&self, table: &TableDesc) -> Result<(), TableError>;

    /// Called for every table page after its grace period, before the frame is freed.
    fn on_destruct(&self, table: &TableDesc);
}
