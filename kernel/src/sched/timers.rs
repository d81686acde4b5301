//! A queue of time-outs in order of their deadlines.
//!
//! Kept as a vector with the earliest deadline last. Room is made before the lock is taken and
//! before anything else happens ([`Timers::needs`], [`Timers::exchange`]), so that starting to wait
//! never fails half-way.

use alloc::vec::Vec;

/// A time-out: `item` is due at `deadline`.
#[derive(Debug)]
pub struct Entry<T> {
    deadline: u64,
    item: T,
}

/// Time-outs, the earliest first.
#[derive(Debug)]
pub struct Timers<T> {
    entries: Vec<Entry<T>>,
}

impl<T> Timers<T> {
    /// None.
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// The capacity that one more entry needs, if there is no room for it.
    pub fn needs(&self) -> Option<usize> {
        let full = self.entries.len() == self.entries.capacity();
        // By a quarter: what is not used counts as memory of the threads.
        full.then(|| (self.entries.len() + self.entries.len() / 4).max(16))
    }

    /// How many there is room for.
    pub fn room(&self) -> usize {
        self.entries.capacity()
    }

    /// Moves everything to `room`, if that is larger, and returns the vector that is left over,
    /// to be dropped when no lock is held.
    pub fn exchange(&mut self, mut room: Vec<Entry<T>>) -> Vec<Entry<T>> {
        if room.capacity() > self.entries.len() && room.is_empty() {
            room.append(&mut self.entries);
            core::mem::swap(&mut room, &mut self.entries);
        }
        room
    }

    /// The earliest deadline.
    pub fn first(&self) -> Option<u64> {
        self.entries.last().map(|entry| entry.deadline)
    }

    /// Adds a time-out; later than others of the same deadline.
    ///
    /// # Errors
    /// When there is no room: `item` comes back.
    pub fn insert(&mut self, deadline: u64, item: T) -> Result<(), T> {
        if self.needs().is_some() {
            return Err(item);
        }
        let at = self
            .entries
            .partition_point(|entry| entry.deadline > deadline);
        self.entries.insert(at, Entry { deadline, item });
        Ok(())
    }

    /// Takes out the earliest time-out that is due at `now`.
    pub fn pop_due(&mut self, now: u64) -> Option<T> {
        let due = self.first()? <= now;
        if !due {
            return None;
        }
        self.entries.pop().map(|entry| entry.item)
    }

    /// Takes out the first time-out for which `wanted` holds.
    pub fn remove(&mut self, wanted: impl FnMut(&Entry<T>) -> bool) -> Option<T> {
        let at = self.entries.iter().position(wanted)?;
        Some(self.entries.remove(at).item)
    }
}

impl<T> Entry<T> {
    /// What is due.
    pub fn item(&self) -> &T {
        &self.item
    }
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_room(n: usize) -> Timers<u32> {
        let mut timers = Timers::new();
        drop(timers.exchange(Vec::with_capacity(n)));
        timers
    }

    #[test]
    fn time_outs_come_in_order_and_equal_ones_in_the_order_they_were_added() {
        let mut timers = with_room(8);
        for (deadline, item) in [(30, 1), (10, 2), (20, 3), (10, 4)] {
            timers.insert(deadline, item).unwrap();
        }
        assert_eq!(timers.first(), Some(10));
        assert_eq!(timers.pop_due(9), None);
        let order: Vec<_> = core::iter::from_fn(|| timers.pop_due(100)).collect();
        assert_eq!(order, [2, 4, 3, 1]);
    }

    #[test]
    fn without_room_nothing_is_added() {
        let mut timers = Timers::new();
        assert_eq!(timers.needs(), Some(16));
        assert_eq!(timers.insert(1, 7), Err(7));
        drop(timers.exchange(Vec::with_capacity(1)));
        assert_eq!(timers.insert(1, 7), Ok(()));
        assert!(timers.needs().is_some());
        drop(timers.exchange(Vec::with_capacity(4)));
        assert_eq!((timers.first(), timers.needs()), (Some(1), None));
    }

    #[test]
    fn a_removed_time_out_never_comes() {
        let mut timers = with_room(4);
        for i in 0..4 {
            timers.insert(u64::from(i), i).unwrap();
        }
        assert_eq!(timers.remove(|e| *e.item() == 2), Some(2));
        assert_eq!(timers.remove(|e| *e.item() == 2), None);
        let order: Vec<_> = core::iter::from_fn(|| timers.pop_due(100)).collect();
        assert_eq!(order, [0, 1, 3]);
    }
}
