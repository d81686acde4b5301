//! What a stage 1 descriptor of the 4 KiB granule says, decoded on its own from
//! Arm DDI 0487 “VMSAv8-64 descriptor formats” and “Memory attribute fields”.

/// How many finest-first levels a descriptor can stand on: -1, 0, 1, 2 and 3.
pub const FINEST: i8 = 3;

/// Which descriptor format TCR_EL1.DS selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoder {
    /// DS = 1: bits \[9:8\] hold address bits \[51:50\] and there is no shareability field.
    pub lpa2: bool,
}

/// A descriptor, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// All zero.
    Empty,
    /// Not valid for hardware, but not zero: something the kernel keeps there.
    Software(u64),
    /// Points to a table of the next finer level.
    Table {
        /// Physical address of that table.
        address: u64,
        /// The hierarchical attribute bits (NSTable, APTable, UXNTable, PXNTable), all 0 when unused.
        attributes: u64,
    },
    /// Maps memory.
    Leaf(Leaf),
    /// Valid for hardware but meaningless at its level.
    Corrupt(u64),
}

/// A block or page mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// First physical address mapped.
    pub address: u64,
    /// Bytes mapped.
    pub size: u64,
    /// EL1 may write, now or (DBM) as soon as hardware marks it dirty.
    pub writable: bool,
    /// EL0 may read, and write if `writable` (AP\[1\]).
    pub el0: bool,
    /// EL1 may execute (PXN clear).
    pub el1_exec: bool,
    /// EL0 may execute (UXN clear).
    pub el0_exec: bool,
    /// Matches every ASID (nG clear).
    pub global: bool,
    /// The contiguous hint.
    pub contiguous: bool,
    /// Index into MAIR_EL1.
    pub memory_type: u8,
    /// All the bits that a contiguous block must agree on: no address, access flag or dirty state.
    pub shared_bits: u64,
}

const VALID: u64 = 1 << 0;
const TABLE_OR_PAGE: u64 = 1 << 1;
const AP1_EL0: u64 = 1 << 6;
const AP2_READ_ONLY: u64 = 1 << 7;
const ACCESS_FLAG: u64 = 1 << 10;
const NOT_GLOBAL: u64 = 1 << 11;
const DBM: u64 = 1 << 51;
const CONTIGUOUS: u64 = 1 << 52;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
const SOFTWARE_DIRTY: u64 = 1 << 55;
const HIERARCHICAL: u64 = 0x1f << 59;

/// Bytes that one entry of `level` maps or points to.
pub const fn entry_size(level: i8) -> u64 {
    1 << (12 + 9 * (FINEST - level) as u32)
}

impl Decoder {
    /// Takes `raw`, found in a table of `level`, apart.
    pub fn decode(self, raw: u64, level: i8) -> Entry {
        if raw == 0 {
            return Entry::Empty;
        }
        if raw & VALID == 0 {
            return Entry::Software(raw);
        }
        match (raw & TABLE_OR_PAGE != 0, level) {
            (true, FINEST) | (false, 1 | 2) => self.leaf(raw, level),
            (true, -1..FINEST) => Entry::Table {
                address: self.address(raw),
                attributes: raw & HIERARCHICAL,
            },
            _ => Entry::Corrupt(raw),
        }
    }

    fn leaf(self, raw: u64, level: i8) -> Entry {
        let (address, size) = (self.address(raw), entry_size(level));
        if address % size != 0 {
            return Entry::Corrupt(raw);
        }
        let writable = raw & AP2_READ_ONLY == 0 || raw & DBM != 0;
        let mut own = self.address_bits() | ACCESS_FLAG | SOFTWARE_DIRTY;
        if raw & DBM != 0 {
            own |= AP2_READ_ONLY;
        }
        Entry::Leaf(Leaf {
            address,
            size,
            writable,
            el0: raw & AP1_EL0 != 0,
            el1_exec: raw & PXN == 0,
            el0_exec: raw & UXN == 0,
            global: raw & NOT_GLOBAL == 0,
            contiguous: raw & CONTIGUOUS != 0,
            memory_type: (raw >> 2 & 7) as u8,
            shared_bits: raw & !own,
        })
    }

    /// The bits of a descriptor that are address.
    fn address_bits(self) -> u64 {
        if self.lpa2 {
            bits(12, 49) | bits(8, 9)
        } else {
            bits(12, 47)
        }
    }

    fn address(self, raw: u64) -> u64 {
        if self.lpa2 {
            raw & bits(12, 49) | (raw >> 8 & 3) << 50
        } else {
            raw & bits(12, 47)
        }
    }
}

/// A mask of bits `low..=high`.
const fn bits(low: u32, high: u32) -> u64 {
    (u64::MAX >> (63 - high)) & (u64::MAX << low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NORMAL: Decoder = Decoder { lpa2: false };
    const LPA2: Decoder = Decoder { lpa2: true };

    #[test]
    fn each_level_knows_its_own_leaf_encodings() {
        for level in [-1, 0] {
            assert!(matches!(
                NORMAL.decode(0x4000_0401, level),
                Entry::Corrupt(_)
            ));
        }
        assert!(matches!(NORMAL.decode(0x4000_0401, 1), Entry::Leaf(_)));
        assert!(matches!(NORMAL.decode(0x4020_0401, 2), Entry::Leaf(_)));
        assert!(matches!(NORMAL.decode(0x4000_0401, 3), Entry::Corrupt(_)));
        assert!(matches!(NORMAL.decode(0x4000_0403, 3), Entry::Leaf(_)));
        assert!(matches!(NORMAL.decode(0x4000_0003, 2), Entry::Table { .. }));
        assert_eq!(NORMAL.decode(0, 3), Entry::Empty);
        assert_eq!(NORMAL.decode(0xbeef_0000, 3), Entry::Software(0xbeef_0000));
    }

    #[test]
    fn a_block_must_be_aligned_to_its_size() {
        assert!(matches!(NORMAL.decode(0x4000_1401, 2), Entry::Corrupt(_)));
        assert!(matches!(NORMAL.decode(0x4020_0401, 1), Entry::Corrupt(_)));
    }

    #[test]
    fn bits_9_and_8_are_address_only_with_ds() {
        let raw = 0x0003_0000_4000_0703;
        let Entry::Leaf(wide) = LPA2.decode(raw, 3) else {
            panic!()
        };
        assert_eq!(wide.address, 0x000f_0000_4000_0000);
        let Entry::Leaf(narrow) = NORMAL.decode(raw, 3) else {
            panic!()
        };
        assert_eq!(narrow.address, 0x4000_0000);
        let table = LPA2.decode(0x4000_0303, 0);
        assert_eq!(
            table,
            Entry::Table {
                address: 0x000c_0000_4000_0000,
                attributes: 0
            }
        );
    }

    #[test]
    fn dbm_counts_as_writable_and_its_dirty_state_is_not_an_attribute() {
        let leaf = |raw| match NORMAL.decode(raw, 3) {
            Entry::Leaf(leaf) => leaf,
            other => panic!("{other:?}"),
        };
        let clean = leaf(0x4000_0703 | DBM | AP2_READ_ONLY);
        let dirty = leaf(0x4000_1703 | DBM);
        assert!(clean.writable && dirty.writable);
        assert_eq!(clean.shared_bits, dirty.shared_bits);
        let read_only = leaf(0x4000_0703 | AP2_READ_ONLY);
        assert!(!read_only.writable);
        assert_ne!(read_only.shared_bits, leaf(0x4000_0703).shared_bits);
    }

    #[test]
    fn the_permission_bits_are_read_one_by_one() {
        let Entry::Leaf(leaf) = NORMAL.decode(0x4000_0403 | AP1_EL0 | PXN | NOT_GLOBAL, 3) else {
            panic!()
        };
        assert!(leaf.el0 && leaf.el0_exec && !leaf.el1_exec && !leaf.global && !leaf.contiguous);
        let Entry::Leaf(leaf) = NORMAL.decode(0x4000_040b | UXN | CONTIGUOUS, 3) else {
            panic!()
        };
        assert!(!leaf.el0 && !leaf.el0_exec && leaf.el1_exec && leaf.global && leaf.contiguous);
        assert_eq!(leaf.memory_type, 2);
    }

    #[test]
    fn entry_sizes_are_those_of_the_granule() {
        assert_eq!(
            [3, 2, 1, 0].map(entry_size),
            [1 << 12, 1 << 21, 1 << 30, 1 << 39]
        );
        assert_eq!(entry_size(-1), 1 << 48);
    }
}
