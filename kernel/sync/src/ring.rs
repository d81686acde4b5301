//! A ring of records that overwrites the oldest: one writer, any number of readers, no lock.
//!
//! The writer never waits and never looks back. A reader copies a record and then looks whether the
//! writer had begun to overwrite it meanwhile; if so there is no such record any more.

use core::ops::Deref;

use crate::atomic::{AtomicU64, Ordering, fence};
use crate::planted::{self, Fault};

/// A ring of records of `WORDS` words each, in the slots `S`.
#[derive(Debug)]
pub struct Ring<S, const WORDS: usize> {
    /// Records that the writer has begun to write.
    begun: AtomicU64,
    /// Records that are complete.
    written: AtomicU64,
    slots: S,
}

impl<S: Deref<Target = [[AtomicU64; WORDS]]>, const WORDS: usize> Ring<S, WORDS> {
    /// An empty ring. Without slots it keeps nothing.
    pub fn new(slots: S) -> Self {
        Self {
            begun: AtomicU64::new(0),
            written: AtomicU64::new(0),
            slots,
        }
    }

    /// Most records that it keeps.
    pub fn capacity(&self) -> u64 {
        self.slots.len() as u64
    }

    fn slot(&self, number: u64) -> Option<&[AtomicU64; WORDS]> {
        self.slots
            .get(number.checked_rem(self.capacity())? as usize)
    }

    /// Writes a record. There is one writer: no two calls at the same time.
    pub fn push(&self, record: [u64; WORDS]) {
        let number = self.written.load(Ordering::Relaxed);
        self.begun.store(number + 1, Ordering::Relaxed);
        // Whoever reads a word of this record in place of the old one's also finds it begun.
        fence(Ordering::Release);
        if let Some(slot) = self.slot(number) {
            let places = slot.iter().zip(record);
            places.for_each(|(place, word)| place.store(word, Ordering::Relaxed));
        }
        self.written.store(number + 1, Ordering::Release);
    }

    /// Records written so far; their numbers are those below.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// The record `number`, unless it is not written yet or overwritten already.
    pub fn get(&self, number: u64) -> Option<[u64; WORDS]> {
        if number >= self.written() {
            return None;
        }
        let slot = self.slot(number)?;
        let record = core::array::from_fn(|word| slot[word].load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let begun = self.begun.load(Ordering::Relaxed);
        let whole = begun <= number + self.capacity() || planted::is(Fault::ReadOverwritten);
        whole.then_some(record)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::vec::Vec;

    type Small = Ring<Box<[[AtomicU64; 2]]>, 2>;

    fn ring(slots: usize) -> Small {
        let slots = (0..slots).map(|_| [const { AtomicU64::new(0) }; 2]);
        Ring::new(slots.collect())
    }

    #[test]
    fn the_newest_records_are_kept() {
        let ring = ring(4);
        assert_eq!((ring.get(0), ring.written()), (None, 0));
        (0..7).for_each(|n| ring.push([n, n * 10]));
        let kept: Vec<_> = (0..9).map(|n| ring.get(n)).collect();
        assert_eq!(kept[..3], [None; 3]);
        assert_eq!(kept[3..7], [3, 4, 5, 6].map(|n| Some([n, n * 10])));
        assert_eq!(kept[7..], [None; 2]);
        assert_eq!((ring.written(), ring.capacity()), (7, 4));
    }

    #[test]
    fn a_ring_without_slots_counts_and_keeps_nothing() {
        let ring = ring(0);
        ring.push([1, 2]);
        assert_eq!((ring.get(0), ring.written()), (None, 1));
    }

    #[test]
    fn a_reader_beside_the_writer_sees_whole_records() {
        let ring = ring(8);
        let writes = if cfg!(miri) { 200 } else { 200_000 };
        std::thread::scope(|scope| {
            scope.spawn(|| (0..writes).for_each(|n| ring.push([n, !n])));
            while ring.written() < writes {
                let newest = ring.written();
                for n in newest.saturating_sub(8)..newest {
                    if let Some(record) = ring.get(n) {
                        assert_eq!(record, [n, !n]);
                    }
                }
            }
        });
        assert_eq!(ring.get(writes - 8), Some([writes - 8, !(writes - 8)]));
    }
}
