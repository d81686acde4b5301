//! A leaf: values in order.

use core::ops::Range;

use arrayvec::ArrayVec;

use super::{Extent, Summary, count_up_to, insert_into, remove_from};

/// Values in a leaf: what an ordinary program has fits one.
pub(super) const CAPACITY: usize = 24;

/// Values, and apart from them, close together, what they are searched by.
pub(crate) struct Leaf<V> {
    /// Where each value ends; `u64::MAX` behind the last.
    ends: [u64; CAPACITY],
    values: ArrayVec<V, CAPACITY>,
    /// The widest gap between two of them.
    widest: u64,
}

impl<V: Extent> Leaf<V> {
    pub(super) fn new() -> Self {
        Self {
            ends: [u64::MAX; CAPACITY],
            values: ArrayVec::new(),
            widest: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn values(&self) -> &[V] {
        &self.values
    }

    /// The ranges between two values; guards may leave nothing of them.
    pub(super) fn gaps(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        gaps(&self.values)
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            end: self.values.last().map_or(0, V::end),
            low: self.values.first().map_or(u64::MAX, V::guarded_start),
            gap: self.widest,
        }
    }

    /// Index of the first value that ends above `va`.
    #[inline]
    pub(super) fn index_above(&self, va: u64) -> usize {
        count_up_to(&self.ends, va)
    }

    #[inline]
    pub(super) fn find(&self, va: u64) -> Option<&V> {
        let value = self.values.get(self.index_above(va))?;
        (value.start() <= va).then_some(value)
    }

    /// The first value that ends above `va`, behind the one before.
    #[inline(always)]
    pub(super) fn first_above(&self, va: u64) -> (Option<&V>, Option<&V>) {
        let at = self.index_above(va);
        let before = at.checked_sub(1).and_then(|at| self.values.get(at));
        (before, self.values.get(at))
    }

    fn index_of(&self, start: u64) -> Option<usize> {
        let at = self.index_above(start);
        (self.values.get(at)?.start() == start).then_some(at)
    }

    #[inline(always)]
    pub(super) fn insert(&mut self, at: usize, value: V) {
        let before = self.widest_near(at, at);
        insert_into(&mut self.ends, self.values.len(), at, value.end());
        self.values.insert(at, value);
        self.changed(before, self.widest_near(at, at + 1));
    }

    #[inline(always)]
    pub(super) fn remove_at(&mut self, start: u64) -> Option<V> {
        let at = self.index_of(start)?;
        let before = self.widest_near(at, at + 1);
        remove_from(&mut self.ends, at);
        let value = self.values.remove(at);
        self.changed(before, self.widest_near(at, at));
        Some(value)
    }

    /// Takes out what overlaps `[start, end)`; returns how many that were.
    pub(super) fn remove_all(&mut self, start: u64, end: u64) -> usize {
        let inside = self.inside(start, end);
        let removed = inside.len();
        if removed > 0 {
            self.ends.copy_within(inside.end.., inside.start);
            self.values.drain(inside);
            self.ends[self.values.len()..].fill(u64::MAX);
            self.measure();
        }
        removed
    }

    /// Indices of the values that overlap `[start, end)`.
    fn inside(&self, start: u64, end: u64) -> Range<usize> {
        let from = self.index_above(start);
        let count = self.values[from..].partition_point(|value| value.start() < end);
        from..from + count
    }

    pub(super) fn update_all(&mut self, start: u64, end: u64, change: &mut impl FnMut(&mut V)) {
        let mut moved = false;
        for at in self.inside(start, end) {
            let value = &mut self.values[at];
            let before = (value.end(), value.guarded_start());
            change(value);
            self.ends[at] = value.end();
            moved |= before != (value.end(), value.guarded_start());
        }
        if moved {
            self.measure();
        }
    }

    #[inline(always)]
    pub(super) fn update<R>(&mut self, start: u64, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        let at = self.index_of(start)?;
        let value = &mut self.values[at];
        let before = (value.guarded_start(), value.end());
        let result = change(value);
        let after = (value.guarded_start(), value.end());
        debug_assert!(self.in_order(at), "a value was moved past its neighbour");
        if before != after {
            self.moved(at, before, after);
        }
        Some(result)
    }

    /// The value at `at` covered `old` with its guard, and covers `new` now.
    fn moved(&mut self, at: usize, old: (u64, u64), new: (u64, u64)) {
        self.ends[at] = new.1;
        let (mut before, mut after) = (0, 0);
        if old.0 != new.0 && at > 0 {
            let bottom = self.ends[at - 1];
            before = old.0.saturating_sub(bottom);
            after = new.0.saturating_sub(bottom);
        }
        if old.1 != new.1
            && let Some(next) = self.values.get(at + 1)
        {
            let top = next.guarded_start();
            before = before.max(top.saturating_sub(old.1));
            after = after.max(top.saturating_sub(new.1));
        }
        self.changed(before, after);
    }

    /// Cuts the value around `at` in two, which leaves the gaps as they are. False: there is no room
    /// for another one.
    #[inline(always)]
    pub(super) fn cut(&mut self, at: u64, cut: impl FnOnce(&mut V) -> V) -> bool {
        let index = self.index_above(at);
        let len = self.values.len();
        if len == CAPACITY {
            return false;
        }
        let upper = cut(&mut self.values[index]);
        insert_into(&mut self.ends, len, index, at);
        self.values.insert(index + 1, upper);
        true
    }

    /// Joins the values that meet at `border`, which leaves the gaps as they are. False: they are not
    /// both here.
    #[inline(always)]
    pub(super) fn join(&mut self, border: u64, absorb: impl FnOnce(&mut V, &V)) -> bool {
        let index = self.index_above(border);
        if index == 0 || index >= self.values.len() {
            return false;
        }
        let next = self.values.remove(index);
        remove_from(&mut self.ends, index - 1);
        absorb(&mut self.values[index - 1], &next);
        true
    }

    fn in_order(&self, at: usize) -> bool {
        let from = at.saturating_sub(1);
        let mut pairs = self.values[from..].windows(2).take(2);
        pairs.all(|pair| pair[0].end() <= pair[1].start())
    }

    /// Moves the values from `at` on to an empty leaf.
    pub(super) fn split_into(&mut self, at: usize, right: &mut Self) {
        right.take_all(self.values.drain(at..));
        self.ends[at..].fill(u64::MAX);
        self.measure();
    }

    /// Moves the values of the next leaf here, which have room.
    pub(super) fn append(&mut self, next: &mut Self) {
        self.take_all(next.values.drain(..));
        *next = Self::new();
    }

    fn take_all(&mut self, values: impl Iterator<Item = V>) {
        for value in values {
            self.ends[self.values.len()] = value.end();
            self.values.push(value);
        }
        self.measure();
    }

    fn measure(&mut self) {
        self.widest = self.widest_near(1, self.values.len());
    }

    /// The widest of the gaps before the values from `from` to `to`, without the one before all.
    fn widest_near(&self, from: usize, to: usize) -> u64 {
        let to = self.values.len().min(to + 1);
        let mut widest = 0;
        for at in from.max(1)..to {
            let low = self.values[at].guarded_start();
            widest = widest.max(low.saturating_sub(self.ends[at - 1]));
        }
        widest
    }

    /// Gaps changed of which the widest was `before` and is `after` now.
    fn changed(&mut self, before: u64, after: u64) {
        match before == self.widest && after < before {
            true => self.measure(),
            false => self.widest = self.widest.max(after),
        }
    }
}

fn gaps<V: Extent>(values: &[V]) -> impl DoubleEndedIterator<Item = (u64, u64)> {
    let pairs = values.windows(2);
    pairs.map(|pair| (pair[0].end(), pair[1].guarded_start()))
}
