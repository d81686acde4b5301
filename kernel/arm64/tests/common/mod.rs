//! Every combination of attributes, for the tests of the codec.

use arm64::attrs::{Attrs, MemType, Prot};
use arm64::pte::Format;

/// Both descriptor formats.
pub const FORMATS: [Format; 2] = [Format::NORMAL, Format::LPA2];

/// All 4096 values of `Attrs`.
pub fn all_attrs() -> impl Iterator<Item = Attrs> {
    (0u16..4096).map(|n| {
        let bit = |i: u16| n >> i & 1 != 0;
        Attrs {
            prot: Prot::from_bits_truncate((n & 15) as u8),
            mem: MemType::ALL[usize::from(n >> 4 & 3)],
            global: bit(6),
            young: bit(7),
            dirty: bit(8),
            contiguous: bit(9),
            uffd_wp: bit(10),
            special: bit(11),
        }
    })
}
