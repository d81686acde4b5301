//! The shape of a translation table tree: which levels exist, and which bits of an address index
//! each of them.
//!
//! Geometry is a run-time value (D2, D12): address spaces of three, four and five levels live side
//! by side, and tests use tables of two entries. There is no "folded" level: a level that a space
//! does not have is simply above its root.

/// Levels of translation for the 4 KiB granule, coarsest first. Level −1 exists with LPA2 only.
/// [ARM "Translation table lookup levels"]
///
/// As wide as a register: where accesses must be aligned, a structure with bytes of padding behind a
/// narrow level is copied byte by byte, and every step of a walk copies one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u64)]
pub enum Level {
    /// Level −1: an entry maps 256 TiB. Holds tables only.
    Lm1 = 0,
    /// Level 0: an entry maps 512 GiB. Holds tables, and blocks with LPA2.
    L0 = 1,
    /// Level 1: an entry maps 1 GiB.
    L1 = 2,
    /// Level 2: an entry maps 2 MiB.
    L2 = 3,
    /// Level 3: an entry maps a page.
    L3 = 4,
}

/// How many levels there can be.
pub const MAX_LEVELS: usize = 5;

impl Level {
    /// All levels, coarsest first.
    pub const ALL: [Self; MAX_LEVELS] = [Self::Lm1, Self::L0, Self::L1, Self::L2, Self::L3];

    /// The level an entry of this level points to; `None` below level 3.
    #[inline(always)]
    pub const fn finer(self) -> Option<Self> {
        match self {
            Self::Lm1 => Some(Self::L0),
            Self::L0 => Some(Self::L1),
            Self::L1 => Some(Self::L2),
            Self::L2 => Some(Self::L3),
            Self::L3 => None,
        }
    }

    /// The level whose entries point to tables of this level; `None` above level −1.
    #[inline(always)]
    pub const fn coarser(self) -> Option<Self> {
        match self {
            Self::Lm1 => None,
            Self::L0 => Some(Self::Lm1),
            Self::L1 => Some(Self::L0),
            Self::L2 => Some(Self::L1),
            Self::L3 => Some(Self::L2),
        }
    }

    /// The level as the architecture numbers it, −1 to 3.
    #[inline(always)]
    pub const fn number(self) -> i8 {
        self as i8 - 1
    }

    /// The level with that architectural number.
    #[inline]
    pub const fn from_number(number: i8) -> Option<Self> {
        match number {
            -1 => Some(Self::Lm1),
            0 => Some(Self::L0),
            1 => Some(Self::L1),
            2 => Some(Self::L2),
            3 => Some(Self::L3),
            _ => None,
        }
    }

    /// Position in [`Level::ALL`].
    #[inline(always)]
    pub const fn position(self) -> usize {
        self as usize
    }

    /// log2 of [`Level::size`].
    #[inline(always)]
    pub const fn shift(self) -> u32 {
        48 - 9 * (self as u32)
    }

    /// Bytes that one entry maps in the hardware's layout (a [`Geometry`] of another shape has its
    /// own [`Geometry::span`]).
    #[inline(always)]
    pub const fn size(self) -> u64 {
        1 << self.shift()
    }
}

/// The shape of one tree of tables.
///
/// Per level: the lowest address bit it indexes and how many bits it indexes. Levels above the root
/// index no bits, so their index is always 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Geometry {
    shifts: [u8; MAX_LEVELS],
    bits: [u8; MAX_LEVELS],
    root: Level,
    va_bits: u8,
    cont_entries: u8,
    hardware: bool,
}

/// Entries in a contiguous block for the 4 KiB granule, at levels 1 to 3.
/// [ARM "The Contiguous bit"]
pub const CONT_ENTRIES: u8 = 16;

impl Geometry {
    /// The hardware's shape for an address range of `va_bits` bits, 16 to 52 (64 − TxSZ).
    /// [ARM "Determining the initial lookup level", 4 KiB granule]
    ///
    /// # Panics
    /// For other values; they are a programming error, as the callers choose among constants.
    pub const fn for_va_bits(va_bits: u8) -> Self {
        assert!(
            va_bits >= 16 && va_bits <= 52,
            "a 4 KiB granule translates 16 to 52 bits"
        );
        let (mut shifts, mut bits) = ([0; MAX_LEVELS], [0; MAX_LEVELS]);
        let mut root = Level::L3;
        let mut i = MAX_LEVELS;
        while i > 0 {
            i -= 1;
            let shift = Level::ALL[i].shift() as u8;
            shifts[i] = shift;
            if va_bits > shift {
                bits[i] = if va_bits - shift < 9 {
                    va_bits - shift
                } else {
                    9
                };
                root = Level::ALL[i];
            }
        }
        Self {
            shifts,
            bits,
            root,
            va_bits,
            cont_entries: CONT_ENTRIES,
            hardware: true,
        }
    }

    /// The hardware's shape with that many levels, at its widest: 1 (21 bits), 2 (30), 3 (39),
    /// 4 (48) or 5 (52, with LPA2).
    pub const fn for_levels(levels: usize) -> Option<Self> {
        match levels {
            1 => Some(Self::for_va_bits(21)),
            2 => Some(Self::for_va_bits(30)),
            3 => Some(Self::for_va_bits(39)),
            4 => Some(Self::for_va_bits(48)),
            5 => Some(Self::for_va_bits(52)),
            _ => None,
        }
    }

    /// A shape of one's own, root first: index bits per level, 1 to 5 levels of 1 to 16 bits, at
    /// most 63 bits with the page offset. `[11, 11, 11, 8]` is s390-like; `[1, 1]` makes a toy with
    /// tables of two entries. The hardware walks shapes of [`Geometry::for_va_bits`] only.
    pub const fn from_index_bits(index_bits: &[u8]) -> Option<Self> {
        let levels = index_bits.len();
        if levels == 0 || levels > MAX_LEVELS {
            return None;
        }
        let (mut shifts, mut bits) = ([0; MAX_LEVELS], [0; MAX_LEVELS]);
        let mut shift = 12;
        let mut i = MAX_LEVELS;
        while i > 0 {
            i -= 1;
            shifts[i] = shift;
            if i >= MAX_LEVELS - levels {
                let width = index_bits[i - (MAX_LEVELS - levels)];
                if width == 0 || width > 16 || shift + width > 63 {
                    return None;
                }
                bits[i] = width;
                shift += width;
            }
        }
        let root = Level::ALL[MAX_LEVELS - levels];
        let (va_bits, cont_entries) = (shift, CONT_ENTRIES);
        Some(Self {
            shifts,
            bits,
            root,
            va_bits,
            cont_entries,
            hardware: false,
        })
    }

    /// The same shape with contiguous blocks of `entries` (a power of two); for toy sizes.
    pub const fn with_cont_entries(mut self, entries: u8) -> Self {
        self.cont_entries = entries;
        self
    }

    /// The shape with one more level above: the table that was the root becomes entry 0 of a new
    /// root (D12). `None` if there is no level left.
    ///
    /// A hardware shape grows to the widest shape of the next number of levels: a root that used
    /// part of its page is used whole from then on. Another shape gets a root as wide as the old
    /// one, within 63 bits. Every address of the old range has the same translation in the new shape, provided the
    /// unused entries of the old root are empty.
    pub const fn grown(self) -> Option<Self> {
        let Some(root) = self.root.coarser() else {
            return None;
        };
        if self.hardware {
            return Self::for_levels(MAX_LEVELS - root.position());
        }
        if self.va_bits == 63 {
            return None;
        }
        let (width, room) = (self.bits[self.root.position()], 63 - self.va_bits);
        let width = if width < room { width } else { room };
        let mut shape = self;
        shape.shifts[root.position()] = self.va_bits;
        shape.bits[root.position()] = width;
        shape.root = root;
        shape.va_bits = self.va_bits + width;
        let mut above = root.position();
        while above > 0 {
            above -= 1;
            shape.shifts[above] = shape.va_bits;
        }
        Some(shape)
    }

    /// The level of the root table.
    #[inline(always)]
    pub const fn root_level(&self) -> Level {
        self.root
    }

    /// How many levels a full walk visits, 1 to 5.
    #[inline(always)]
    pub const fn levels(&self) -> usize {
        MAX_LEVELS - self.root.position()
    }

    /// The levels of this shape, root first.
    pub fn walk(&self) -> impl DoubleEndedIterator<Item = Level> + ExactSizeIterator + use<> {
        Level::ALL.into_iter().skip(self.root.position())
    }

    /// Address bits translated, the page offset included.
    #[inline(always)]
    pub const fn va_bits(&self) -> u8 {
        self.va_bits
    }

    /// The T0SZ or T1SZ value of this range.
    #[inline(always)]
    pub const fn txsz(&self) -> u8 {
        64 - self.va_bits
    }

    /// log2 of [`Geometry::span`].
    #[inline(always)]
    pub const fn shift(&self, level: Level) -> u32 {
        self.shifts[level.position()] as u32
    }

    /// Bytes that one entry of the level maps.
    #[inline(always)]
    pub const fn span(&self, level: Level) -> u64 {
        1u64.wrapping_shl(self.shift(level))
    }

    /// Entries of a table of this level (for the root: those that the range reaches).
    #[inline(always)]
    pub const fn entries(&self, level: Level) -> usize {
        1usize.wrapping_shl(self.bits[level.position()] as u32)
    }

    /// Entries in a contiguous block.
    #[inline(always)]
    pub const fn cont_entries(&self) -> usize {
        self.cont_entries as usize
    }

    /// Which entry of a table of this level translates `va`.
    ///
    /// Only the low [`Geometry::va_bits`] bits count, so addresses of the upper half (TTBR1) and
    /// tagged ones index as they do in hardware.
    #[inline(always)]
    pub const fn index(&self, va: u64, level: Level) -> usize {
        let shifted = va.wrapping_shr(self.shift(level));
        (shifted as usize) & self.entries(level).wrapping_sub(1)
    }

    /// The end of the part of `addr..end` that one entry of this level maps, so that a loop can take
    /// a range entry by entry. An `end` of 0 means 2^64, and a step that reaches it returns 0: the
    /// loop ends when the result equals `end` (GUP-24).
    #[inline(always)]
    pub const fn addr_end(&self, addr: u64, end: u64, level: Level) -> u64 {
        let span = self.span(level);
        let boundary = (addr & !span.wrapping_sub(1)).wrapping_add(span);
        if boundary.wrapping_sub(1) < end.wrapping_sub(1) {
            boundary
        } else {
            end
        }
    }

    /// Whether `va` lies in the lower range (TTBR0) of this shape; the tag byte must be gone.
    #[inline(always)]
    pub const fn contains(&self, va: u64) -> bool {
        va.wrapping_shr(self.va_bits as u32) == 0
    }

    /// Whether `va` lies in the upper range (TTBR1) of this shape.
    #[inline(always)]
    pub const fn contains_upper(&self, va: u64) -> bool {
        (!va).wrapping_shr(self.va_bits as u32) == 0
    }
}
