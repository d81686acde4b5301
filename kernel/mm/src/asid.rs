//! Address-space identifiers: a bit map. An identifier is given back only after its flush, so
//! handing it out again needs none.

use sync::SpinLock;
use sync::rank;

const WORDS: usize = 1 << (16 - 6);

/// The identifiers of the machine. Zero and one are never handed out: they belong to the reserved
/// root and to the window on protected tables.
#[derive(Debug)]
pub struct Asids {
    used: SpinLock<Map, rank::Leaf>,
}

#[derive(Debug)]
struct Map {
    bits: [u64; WORDS],
    limit: usize,
    /// Where the last search ended, so that identifiers are reused late.
    next: usize,
}

impl Asids {
    /// Identifiers of `bits` bits, 8 or 16.
    pub const fn new(bits: u8) -> Self {
        let mut map = Map {
            bits: [0; WORDS],
            limit: 1 << bits,
            next: 2,
        };
        map.bits[0] = 0b11;
        Self {
            used: SpinLock::new(map),
        }
    }

    /// Takes a free one.
    pub fn take(&self) -> Option<u16> {
        let mut map = self.used.lock();
        let words = map.limit / 64;
        for step in 0..=words {
            let word = (map.next / 64 + step) % words;
            let free = (!map.bits[word]).trailing_zeros() as usize;
            if free < 64 {
                map.bits[word] |= 1 << free;
                map.next = (word * 64 + free + 1) % map.limit;
                return Some((word * 64 + free) as u16);
            }
        }
        None
    }

    /// Gives one back whose translations have been invalidated everywhere.
    pub fn give_back(&self, asid: u16) {
        let mut map = self.used.lock();
        map.bits[usize::from(asid) / 64] &= !(1 << (asid % 64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_identifier_is_handed_out_once_and_zero_never() {
        let asids = Asids::new(8);
        let mut seen = [false; 256];
        while let Some(asid) = asids.take() {
            assert!(!core::mem::replace(&mut seen[usize::from(asid)], true));
        }
        assert!(!seen[0] && seen[1..].iter().all(|&s| s));
        asids.give_back(77);
        assert_eq!(asids.take(), Some(77));
        assert_eq!(asids.take(), None);
    }
}
