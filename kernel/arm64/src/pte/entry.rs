//! What a table entry can mean, without a bit of it.

use crate::addr::PhysAddr;
use crate::attrs::Attrs;

/// How many swap devices an entry can name.
pub const MAX_SWAP_KINDS: u8 = 32;
/// Bits of a swap offset (pages).
pub const SWAP_OFFSET_BITS: u32 = 48;

/// Why an entry keeps its frame although it is invalid for the hardware.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Invalid {
    /// Nobody may access the page.
    ProtNone,
    /// The page shall be tagged but its tag storage is not reserved yet (law 13).
    NoTagStorage,
}

/// What a marker remembers about a page that is not there; at least one of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct MarkerBits {
    /// The page was write-protected by a userfaultfd.
    pub uffd_wp: bool,
    /// An access is answered with a bus error (UFFDIO_POISON).
    pub poison: bool,
}

/// What a table entry means.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Entry {
    /// Nothing is here.
    None,
    /// The next table, at levels −1 to 2.
    Table(PhysAddr),
    /// A valid block or page.
    Leaf {
        /// The frame.
        pa: PhysAddr,
        /// How it is mapped.
        attrs: Attrs,
    },
    /// A frame that stays mapped although the hardware must not use the entry.
    PresentInvalid {
        /// Why. An entry without tag storage may be without access as well: its `attrs` say so.
        reason: Invalid,
        /// The frame.
        pa: PhysAddr,
        /// How it is, or will be, mapped; never contiguous.
        attrs: Attrs,
    },
    /// No page, but something to remember about it.
    Marker(MarkerBits),
    /// The page is on a swap device.
    Swap {
        /// The device, below [`MAX_SWAP_KINDS`].
        kind: u8,
        /// The place on it, below 2^[`SWAP_OFFSET_BITS`].
        offset: u64,
        /// No other mapping shares the page.
        exclusive: bool,
        /// Write-protected by a userfaultfd.
        uffd_wp: bool,
    },
    /// The page is being moved to another frame: wait.
    Migration {
        /// The old frame.
        pa: PhysAddr,
        /// The mapping was writable.
        writable: bool,
        /// No other mapping shares the page.
        exclusive: bool,
        /// The mapping was young.
        young: bool,
        /// The mapping was dirty.
        dirty: bool,
        /// Write-protected by a userfaultfd.
        uffd_wp: bool,
    },
    /// The frame that was here is broken; an access is answered with a bus error.
    Poison,
    /// A word that nothing here writes at this level, kept as it is.
    Corrupt(u64),
}

/// Why an [`Entry`] has no word. All of these are mistakes of the caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EncodeError {
    /// No such entry exists at this level.
    Level,
    /// The address is not a multiple of what an entry of this level maps (a page, for a table).
    Misaligned,
    /// The address has more bits than the format.
    AddressTooLarge,
    /// A valid mapping that nobody may access.
    NoAccess,
    /// `WRITE` or `EXEC` without `READ`, which the hardware cannot express.
    WithoutRead,
    /// A mapping without access that allows something.
    AccessAllowed,
    /// A user mapping that is valid in every address space.
    GlobalUser,
    /// A contiguous entry at level 0, or one that is not valid.
    Contiguous,
    /// A marker that remembers nothing.
    EmptyMarker,
    /// A swap device or offset out of range.
    SwapOutOfRange,
    /// [`Entry::Corrupt`] is not written again.
    Corrupt,
}

impl core::error::Error for EncodeError {}
