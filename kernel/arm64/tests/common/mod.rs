//! Every combination of attributes, for the tests of the codec.

use arm64::attrs::{Attrs, MemType, Prot};
use arm64::pte::Format;

/// Both descriptor formats.
pub const FORMATS: [Format; 2] = [Format::NORMAL, Format::LPA2];

/// All 4096 values of `Attrs`; a few, which together have every bit set and clear, for an
/// interpreter.
pub fn all_attrs() -> impl Iterator<Item = Attrs> {
    let step = if cfg!(miri) { 455 } else { 1 };
    (0u16..4096).step_by(step).map(|n| {
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
