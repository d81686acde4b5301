//! Physical and virtual addresses, frame numbers, and half-open ranges of virtual addresses.
//!
//! Addresses are plain numbers with a name: making one claims nothing about memory. Arithmetic that
//! could leave the 64-bit range is checked, because a range may end at the very top of the virtual
//! space (GUP-24).

use core::fmt;

/// log2 of the translation granule: Tessera uses the 4 KiB granule only.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page, which is also the size of a translation table.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The address `raw`, as it is.
            #[inline(always)]
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// The address as a number.
            #[inline(always)]
            pub const fn raw(self) -> u64 {
                self.0
            }

            /// The largest multiple of `align` (a power of two) that is not above the address.
            #[inline(always)]
            pub const fn align_down(self, align: u64) -> Self {
                Self(self.0 & !align.wrapping_sub(1))
            }

            /// The smallest multiple of `align` (a power of two) that is not below the address;
            /// `None` if that is 2^64.
            #[inline]
            pub const fn align_up(self, align: u64) -> Option<Self> {
                match self.0.checked_add(align.wrapping_sub(1)) {
                    Some(sum) => Some(Self(sum & !align.wrapping_sub(1))),
                    None => None,
                }
            }

            /// Whether the address is a multiple of `align` (a power of two).
            #[inline(always)]
            pub const fn is_aligned(self, align: u64) -> bool {
                self.0 & align.wrapping_sub(1) == 0
            }

            /// Bytes between the start of the page and the address, below [`PAGE_SIZE`].
            #[inline(always)]
            pub const fn offset_in_page(self) -> usize {
                (self.0 & (PAGE_SIZE - 1)) as usize
            }

            /// The address `bytes` further on; `None` beyond 2^64 − 1.
            #[inline]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The address `bytes` further back; `None` below zero.
            #[inline]
            pub const fn checked_sub(self, bytes: u64) -> Option<Self> {
                match self.0.checked_sub(bytes) {
                    Some(difference) => Some(Self(difference)),
                    None => None,
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address! {
    /// A physical address.
    PhysAddr
}

address! {
    /// A virtual address of either half of the space, with or without a tag in its top byte.
    VirtAddr
}

impl PhysAddr {
    /// The frame that holds this address.
    #[inline(always)]
    pub const fn pfn(self) -> Pfn {
        Pfn(self.0 >> PAGE_SHIFT)
    }
}

impl VirtAddr {
    /// The address without the tag byte that top-byte-ignore lets EL0 put there: bit 55, which
    /// selects the translation table base, is copied upwards.
    /// [ARM "Address tagging", AArch64.BranchAddr and EffectiveTBI use bit 55]
    #[inline(always)]
    pub const fn untagged(self) -> Self {
        Self((((self.0 << 8) as i64) >> 8) as u64)
    }

    /// Whether translation uses TTBR1 (the kernel's half): bit 55 decides.
    #[inline(always)]
    pub const fn is_upper(self) -> bool {
        self.0 & (1 << 55) != 0
    }
}

/// A physical frame number: a physical address divided by [`PAGE_SIZE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Pfn(u64);

impl Pfn {
    /// Frame number `raw`.
    #[inline(always)]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The frame number as a number.
    #[inline(always)]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The first byte of the frame.
    #[inline(always)]
    pub const fn start(self) -> PhysAddr {
        PhysAddr(self.0 << PAGE_SHIFT)
    }

    /// The frame `frames` further on. Frame numbers have 40 bits at most, so this cannot wrap for
    /// numbers that name memory.
    #[inline(always)]
    pub const fn add(self, frames: u64) -> Self {
        Self(self.0.wrapping_add(frames))
    }

    /// Whether the number is a multiple of `frames` (a power of two).
    #[inline(always)]
    pub const fn is_aligned(self, frames: u64) -> bool {
        self.0 & frames.wrapping_sub(1) == 0
    }
}

impl fmt::Debug for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pfn({:#x})", self.0)
    }
}

/// A half-open range of virtual addresses that never wraps past the top of the space (GUP-24).
///
/// A range may end at 2^64; its end then reads as address 0. Only the range of all 2^64 bytes cannot
/// be expressed. Every question is answered by wrapping arithmetic relative to the start, so the end
/// at the top needs no special case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct VaRange {
    start: VirtAddr,
    end: VirtAddr,
}

impl VaRange {
    /// The range from `start` up to and without `end`; `None` if `end` is below `start`. An `end`
    /// of 0 with a `start` above 0 means the top of the space.
    pub const fn new(start: VirtAddr, end: VirtAddr) -> Option<Self> {
        if start.0 <= end.0 || end.0 == 0 {
            Some(Self { start, end })
        } else {
            None
        }
    }

    /// The range of `len` bytes from `start`; `None` if it would pass 2^64.
    pub const fn from_len(start: VirtAddr, len: u64) -> Option<Self> {
        let end = start.0.wrapping_add(len);
        if end != 0 && end < start.0 {
            return None;
        }
        Some(Self {
            start,
            end: VirtAddr(end),
        })
    }

    /// The first address.
    #[inline(always)]
    pub const fn start(self) -> VirtAddr {
        self.start
    }

    /// The first address after the range; 0 if the range ends at the top of the space.
    #[inline(always)]
    pub const fn end(self) -> VirtAddr {
        self.end
    }

    /// Bytes in the range.
    #[inline(always)]
    pub const fn len(self) -> u64 {
        self.end.0.wrapping_sub(self.start.0)
    }

    /// Whether there is no address in the range.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.start.0 == self.end.0
    }

    /// Whether `va` is in the range.
    #[inline(always)]
    pub const fn contains(self, va: VirtAddr) -> bool {
        va.0.wrapping_sub(self.start.0) < self.len()
    }

    /// Whether all of `other` is in the range. An empty range is contained where its start is in the
    /// range or at its end.
    pub const fn contains_range(self, other: Self) -> bool {
        let offset = other.start.0.wrapping_sub(self.start.0);
        offset <= self.len() && other.len() <= self.len() - offset
    }

    /// Whether the two ranges share an address.
    pub const fn overlaps(self, other: Self) -> bool {
        match self.intersection(other) {
            Some(shared) => !shared.is_empty(),
            None => false,
        }
    }

    /// The addresses in both; `None` if there is none.
    pub const fn intersection(self, other: Self) -> Option<Self> {
        let start = if self.start.0 > other.start.0 {
            self.start
        } else {
            other.start
        };
        // One less than the end orders an end at 2^64 (written 0) above all others. It is only
        // meaningful for ranges that are not empty.
        if self.is_empty() || other.is_empty() {
            return None;
        }
        let (a, b) = (self.end.0.wrapping_sub(1), other.end.0.wrapping_sub(1));
        let last = if a < b { a } else { b };
        if start.0 > last {
            return None;
        }
        Some(Self {
            start,
            end: VirtAddr(last.wrapping_add(1)),
        })
    }

    /// The smallest range of whole pages around this one; `None` if that is all 2^64 bytes.
    pub const fn to_pages(self) -> Option<Self> {
        let start = self.start.align_down(PAGE_SIZE);
        if self.is_empty() {
            return Some(Self { start, end: start });
        }
        let last = self.end.0.wrapping_sub(1) | (PAGE_SIZE - 1);
        let end = last.wrapping_add(1);
        if start.0 == end {
            None
        } else {
            Some(Self {
                start,
                end: VirtAddr(end),
            })
        }
    }
}

impl fmt::Display for VaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start.0, self.end.0)
    }
}
