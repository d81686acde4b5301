//! What the hardware sees in a stage 1 descriptor of the 4 KiB granule, decoded on its own from
//! Arm DDI 0487 “VMSAv8-64 descriptor formats”: the oracle shares no line with the codec it judges.

use arm64::geometry::Level;

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 2;
const INDEX: u64 = 7 << 2;
const EL0: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
/// Access flag.
pub const ACCESSED: u64 = 1 << 10;
const NOT_GLOBAL: u64 = 1 << 11;
const DIRTY_MANAGED: u64 = 1 << 51;
const CONTIGUOUS: u64 = 1 << 52;
const NO_EXEC_EL1: u64 = 1 << 53;
const NO_EXEC_EL0: u64 = 1 << 54;
const SOFTWARE_DIRTY: u64 = 1 << 55;
const MARK: u64 = 1 << 57;
/// The kernel's own: the frame is not counted.
const UNCOUNTED: u64 = 1 << 56;
/// The kernel's own: an invalid word that only remembers its mark.
const MARKER: u64 = 1 << 60 | MARK;
/// The kernel's own: why an entry is invalid although it keeps its frame.
const WITHHELD: u64 = 3 << 58;

/// Bits of a right that a translation grants.
pub mod right {
    /// EL0 has the access too.
    pub const EL0: u8 = 1;
    /// Writes are permitted, be it after the hardware has recorded them.
    pub const WRITE: u8 = 2;
    /// Writes pass without any record.
    pub const UNRECORDED: u8 = 4;
    /// EL0 may execute.
    pub const EXEC_EL0: u8 = 8;
    /// EL1 may execute.
    pub const EXEC_EL1: u8 = 16;
}

/// A descriptor, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Desc {
    /// The hardware takes a translation fault here.
    Invalid,
    /// The next table.
    Table(u64),
    /// A block or page.
    Leaf(Leaf),
}

/// A block or page mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// First physical address.
    pub pa: u64,
    /// Bytes.
    pub size: u64,
    /// The contiguous hint.
    pub contiguous: bool,
    /// Index into MAIR_EL1.
    pub memory: u8,
    /// In every address space.
    pub global: bool,
    /// What it allows: bits of [`right`].
    pub rights: u8,
    /// Access flag.
    pub young: bool,
    /// Written, by the hardware's or by software's account.
    pub dirty: bool,
    /// The userfaultfd mark.
    pub mark: bool,
    /// Its frame is not counted.
    pub special: bool,
    /// What the entries of a contiguous block must agree on.
    pub shared: u64,
}

impl Desc {
    /// Decodes `word` in a table of `level`; `lpa2` as `TCR_EL1.DS` has it.
    pub fn new(word: u64, level: Level, lpa2: bool) -> Self {
        let page = word & TABLE_OR_PAGE != 0;
        match (word & VALID != 0, level) {
            (false, _) => Self::Invalid,
            (true, Level::L3) if page => Self::leaf(word, level, lpa2),
            (true, Level::L3) => Self::Invalid,
            (true, _) if page => Self::Table(address(word, lpa2)),
            (true, Level::L1 | Level::L2) => Self::leaf(word, level, lpa2),
            (true, Level::L0) if lpa2 => Self::leaf(word, level, lpa2),
            (true, _) => Self::Invalid,
        }
    }

    /// What an entry that is invalid for the hardware would map if it were valid: the kernel keeps
    /// the frame of a page that nobody may access.
    pub fn withheld(word: u64, level: Level, lpa2: bool) -> Option<Leaf> {
        let withheld = word & VALID == 0 && word & WITHHELD != 0;
        withheld.then(|| Self::leaf(word, level, lpa2).as_leaf())?
    }

    fn leaf(word: u64, level: Level, lpa2: bool) -> Self {
        let has = |bits| word & bits != 0;
        let right = |on, bit| if on { bit } else { 0 };
        let size = level.size();
        let recorded = has(DIRTY_MANAGED) && !has(READ_ONLY);
        let managed = if has(DIRTY_MANAGED) { READ_ONLY } else { 0 };
        Self::Leaf(Leaf {
            pa: address(word, lpa2) & !(size - 1),
            size,
            contiguous: has(CONTIGUOUS),
            memory: ((word & INDEX) >> 2) as u8,
            global: !has(NOT_GLOBAL),
            rights: right(has(EL0), right::EL0)
                | right(has(DIRTY_MANAGED) || !has(READ_ONLY), right::WRITE)
                | right(!has(READ_ONLY), right::UNRECORDED)
                | right(!has(NO_EXEC_EL0) && has(EL0), right::EXEC_EL0)
                | right(!has(NO_EXEC_EL1), right::EXEC_EL1),
            young: has(ACCESSED),
            dirty: recorded || has(SOFTWARE_DIRTY),
            mark: has(MARK),
            special: has(UNCOUNTED),
            shared: word & !(address_mask(lpa2) | ACCESSED | SOFTWARE_DIRTY | managed),
        })
    }

    /// The leaf, if it is one.
    pub fn as_leaf(self) -> Option<Leaf> {
        match self {
            Self::Leaf(leaf) => Some(leaf),
            _ => None,
        }
    }
}

impl Leaf {
    /// Whether the two may be cached side by side: same kind of memory and, unless
    /// `sizes_may_differ` (FEAT_BBM level 2), same size and contiguity.
    pub fn is_like(&self, other: &Self, sizes_may_differ: bool) -> bool {
        let write_back = |memory| memory == 1 || memory == 2;
        let memory =
            self.memory == other.memory || write_back(self.memory) && write_back(other.memory);
        let size = self.size == other.size && self.contiguous == other.contiguous;
        memory && (size || sizes_may_differ)
    }

    /// Whether the two translate alike: what may not change while either is cached. `from` is the
    /// distance of `other`'s first address from `self`'s.
    pub fn agrees_with(&self, other: &Self, from: u64, sizes_may_differ: bool) -> bool {
        self.pa.wrapping_add(from) == other.pa && self.is_like(other, sizes_may_differ)
    }

    /// Whether everything that `self` allows `newer` allows too.
    pub fn is_within(&self, newer: &Self) -> bool {
        self.rights & !newer.rights == 0
    }
}

/// Whether the word maps nothing and remembers a userfaultfd mark.
pub fn is_marker(word: u64) -> bool {
    word == MARKER
}

/// The word that a table walker writes when it sets the access flag; for a write of a page whose
/// dirty state it manages, that too.
pub fn touched(word: u64, write: bool) -> u64 {
    let record = write && word & DIRTY_MANAGED != 0;
    (word | ACCESSED) & !(if record { READ_ONLY } else { 0 })
}

fn address_mask(lpa2: bool) -> u64 {
    if lpa2 {
        ((1 << 50) - (1 << 12)) | 3 << 8
    } else {
        (1 << 48) - (1 << 12)
    }
}

fn address(word: u64, lpa2: bool) -> u64 {
    if lpa2 {
        word & ((1 << 50) - (1 << 12)) | (word >> 8 & 3) << 50
    } else {
        word & ((1 << 48) - (1 << 12))
    }
}
