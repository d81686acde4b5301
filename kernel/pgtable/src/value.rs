//! What a getter returns: the value of an entry, without an address and without the contiguous bit.

use arm64::attrs::{MemType, Prot};
use arm64::geometry::Level;
use arm64::pte::{Entry, Format, Pte};

/// The value of an entry as the core sees it (PTE-04, PTE-08): a copy, never a place.
///
/// Whether the hardware translates by a contiguous block is not in it; a walk tells how far the
/// translation reaches ([`crate::Walked::Seen::span`]). Accessed and dirty are those of the whole
/// block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Value(Pte);

impl Value {
    /// The empty entry.
    pub(crate) const NONE: Self = Self(Pte::NONE);

    #[inline(always)]
    pub(crate) fn new(raw: Pte) -> Self {
        Self(raw)
    }

    /// The word, for the engine alone.
    #[inline(always)]
    pub(crate) fn pte(self) -> Pte {
        self.0
    }

    /// The value of the next entry of a contiguous block.
    #[inline(always)]
    pub(crate) fn next(self, level: Level) -> Self {
        Self(self.0.further(level.size()))
    }

    /// Whether the entry is empty.
    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.0.is_none()
    }

    /// Whether it is a valid block or page of `level`.
    #[inline(always)]
    pub fn is_leaf(self, level: Level) -> bool {
        self.0.is_leaf(level)
    }

    /// Whether it refers to a frame, valid or not.
    #[inline(always)]
    pub fn maps_frame(self, level: Level) -> bool {
        self.0.maps_frame(level)
    }

    /// Accessed.
    #[inline(always)]
    pub fn young(self) -> bool {
        self.0.young()
    }

    /// Written.
    #[inline(always)]
    pub fn dirty(self) -> bool {
        self.0.dirty()
    }

    /// Writes are permitted, though the first may still fault to become dirty.
    #[inline(always)]
    pub fn writable(self) -> bool {
        self.0.writable()
    }

    /// EL0 may read.
    #[inline(always)]
    pub fn user_readable(self) -> bool {
        self.0.user_readable()
    }

    /// Maps a frame that is not counted.
    #[inline(always)]
    pub fn special(self) -> bool {
        self.0.is_present() && self.0.special()
    }

    /// Maps registers of a device to programs.
    #[inline]
    pub fn is_device(self) -> bool {
        self.special() && self.mem_type() == MemType::Device
    }

    /// Write-protected by a userfaultfd.
    #[inline(always)]
    pub fn uffd_wp(self) -> bool {
        self.0.uffd_wp()
    }

    /// The permissions of a mapping.
    #[inline]
    pub fn prot(self) -> Prot {
        self.0.prot()
    }

    /// The memory type of a mapping.
    #[inline]
    pub fn mem_type(self) -> MemType {
        self.0.mem_type()
    }

    /// What the value means; never contiguous.
    #[inline]
    pub fn decode(self, format: Format, level: Level) -> Entry {
        format.decode(self.0, level)
    }

    /// Whether an entry seen as `was` is still what it was: of one that refers to a frame the hardware
    /// may have recorded accesses since, others are the same word.
    #[inline]
    pub(crate) fn is_still(self, was: Self) -> bool {
        self == was || self.0.is_present() && was.0.is_present() && self.same_but_ad(was)
    }

    /// Whether two values of entries that refer to frames differ by accessed and dirty at most.
    #[inline]
    pub fn same_but_ad(self, other: Self) -> bool {
        self.0.without_ad() == other.0.without_ad()
    }
}
