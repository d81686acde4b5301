//! Addresses as programs give them to the kernel.

/// Where user memory is to be reached on a program's behalf (D4): the address without its tag, and
/// what the allocation tags there are compared with, if the program's own access would be checked.
///
/// One word: the upper byte, which no address needs, has the tag and who asks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct UserAddr(u64);

impl UserAddr {
    const ADDRESS: u64 = (1 << 56) - 1;
    const TAG_SHIFT: u32 = 56;
    /// Reads are checked.
    const READS: u64 = 1 << 60;
    /// Writes are checked.
    const WRITES: u64 = 1 << 61;

    /// Where an address is in its page.
    const IN_PAGE: u64 = 0xfff;

    /// An address in no space.
    pub const NOWHERE: Self = Self(Self::ADDRESS & !Self::IN_PAGE);

    /// What is in no space is aligned as `pointer` is, which is what calls ask first.
    const fn nowhere(pointer: u64) -> Self {
        Self(Self::NOWHERE.0 | pointer & Self::IN_PAGE)
    }

    /// Whether it is in no space whatever that has.
    #[inline(always)]
    pub const fn is_nowhere(self) -> bool {
        self.0 & Self::NOWHERE.0 == Self::NOWHERE.0
    }

    /// An address of which no tag is compared. One with bits in its upper byte is nowhere.
    #[inline(always)]
    pub const fn unchecked(va: u64) -> Self {
        match va & !Self::ADDRESS {
            0 => Self(va),
            _ => Self::nowhere(va),
        }
    }

    /// The same with its upper byte ignored, as where a program may tag its pointers.
    #[inline]
    pub const fn ignoring_tag(pointer: u64) -> Self {
        match pointer & 1 << 55 {
            0 => Self(pointer & Self::ADDRESS),
            _ => Self::nowhere(pointer),
        }
    }

    /// The same, with the allocation tag in bits 59 to 56 of `pointer` to be compared for reads, and
    /// for writes.
    #[inline]
    pub const fn checked(pointer: u64, reads: bool, writes: bool) -> Self {
        let at = Self::ignoring_tag(pointer);
        let mut word = at.0 | pointer & 0xf << Self::TAG_SHIFT;
        if reads {
            word |= Self::READS;
        }
        if writes {
            word |= Self::WRITES;
        }
        Self(word)
    }

    /// The address.
    #[inline(always)]
    pub const fn va(self) -> u64 {
        self.0 & Self::ADDRESS
    }

    /// Whether it is the null pointer, which calls take for none.
    #[inline(always)]
    pub const fn is_null(self) -> bool {
        self.0 & !(Self::READS | Self::WRITES) == 0
    }

    /// What a read is compared with.
    #[inline(always)]
    pub const fn read_tag(self) -> Option<u8> {
        self.tag_if(Self::READS)
    }

    /// What a write is compared with.
    #[inline(always)]
    pub const fn write_tag(self) -> Option<u8> {
        self.tag_if(Self::WRITES)
    }

    #[inline(always)]
    const fn tag_if(self, who: u64) -> Option<u8> {
        match self.0 & who {
            0 => None,
            _ => Some((self.0 >> Self::TAG_SHIFT & 0xf) as u8),
        }
    }

    /// `bytes` further on; nowhere, where there are no more addresses.
    #[inline(always)]
    pub const fn further(self, bytes: u64) -> Self {
        match self.va().checked_add(bytes) {
            Some(va) if va <= Self::ADDRESS => Self(self.0 & !Self::ADDRESS | va),
            _ => Self::NOWHERE,
        }
    }
}

impl From<u64> for UserAddr {
    fn from(va: u64) -> Self {
        Self::unchecked(va)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_nowhere_unless_it_may_be_there() {
        let pointer = 0x4200_0012_3456_7008;
        assert!(UserAddr::unchecked(pointer).is_nowhere());
        // Futexes of the kernel's half are refused for that, and not for their alignment.
        assert_eq!(UserAddr::unchecked(pointer).va() % 16, 8);
        assert_eq!(UserAddr::ignoring_tag(pointer).va(), 0x12_3456_7008);
        assert_eq!(UserAddr::ignoring_tag(pointer).read_tag(), None);
        // Bit 55 selects the kernel's half, whatever is above it.
        assert_eq!(
            UserAddr::ignoring_tag(0x0080_0000_0000_0000),
            UserAddr::NOWHERE
        );
        assert!(UserAddr::ignoring_tag(u64::MAX).is_nowhere());
        assert!(!UserAddr::ignoring_tag(u64::MAX >> 9).is_nowhere());
    }

    #[test]
    fn what_is_compared_goes_along() {
        let checked = UserAddr::checked(0xf7ab_cd00_0000_1000, true, false);
        assert_eq!(checked.va(), UserAddr::NOWHERE.va());
        let checked = UserAddr::checked(0xf700_0000_0000_1000, true, false);
        assert_eq!(
            (checked.va(), checked.read_tag(), checked.write_tag()),
            (0x1000, Some(7), None)
        );
        let further = checked.further(0x234);
        assert_eq!((further.va(), further.read_tag()), (0x1234, Some(7)));
        assert_eq!(further.further(u64::MAX), UserAddr::NOWHERE);
        let both = UserAddr::checked(0x1000, true, true);
        assert_eq!((both.read_tag(), both.write_tag()), (Some(0), Some(0)));
    }

    #[test]
    fn null_is_null_with_checks_and_not_with_a_tag() {
        assert!(UserAddr::checked(0, true, true).is_null());
        assert!(!UserAddr::checked(7 << 56, true, true).is_null());
        assert!(!UserAddr::NOWHERE.is_null());
    }
}
