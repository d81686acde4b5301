//! An inner node: children in order, and what it knows of them.

use arrayvec::ArrayVec;

use super::spares::Spares;
use super::{Child, Extent, NodeSource, Summary, count_up_to, insert_into, leaf, remove_from};

/// Children of an inner node.
pub(super) const CAPACITY: usize = 16;

/// Children, and the summary of each. The root has at least two, others a third of the capacity.
pub(crate) struct Inner<V: Extent, N: NodeSource<V>> {
    /// Where each child ends; `u64::MAX` behind the last.
    ends: [u64; CAPACITY],
    /// Where the guard of each child's first value begins.
    lows: [u64; CAPACITY],
    /// The widest gap inside each child.
    gaps: [u64; CAPACITY],
    children: ArrayVec<Child<V, N>, CAPACITY>,
    /// The widest gap inside a child or between two.
    widest: u64,
}

impl<V: Extent, N: NodeSource<V>> Inner<V, N> {
    pub(super) fn new() -> Self {
        Self {
            ends: [u64::MAX; CAPACITY],
            lows: [u64::MAX; CAPACITY],
            gaps: [u64::MAX; CAPACITY],
            children: ArrayVec::new(),
            widest: 0,
        }
    }

    /// Holds another spare node while it is one itself, and has no children.
    pub(super) fn hold(&mut self, next: N::Inner) {
        self.children.push(Child::Inner(next));
    }

    /// Gives that node back.
    pub(super) fn release(&mut self) -> Option<N::Inner> {
        match self.children.pop()? {
            Child::Inner(next) => Some(next),
            Child::Leaf(_) => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.children.len()
    }

    pub(super) fn children(&self) -> &[Child<V, N>] {
        &self.children
    }

    /// Of the child at `at`.
    #[inline]
    pub(super) fn summary_of(&self, at: usize) -> Summary {
        Summary {
            end: self.ends[at],
            low: self.lows[at],
            gap: self.gaps[at],
        }
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            end: self.ends[self.len().saturating_sub(1)],
            low: self.lows[0],
            gap: self.widest,
        }
    }

    /// Index of the first child that ends above `va`.
    #[inline]
    pub(super) fn index_above(&self, va: u64) -> usize {
        count_up_to(&self.ends, va)
    }

    /// The first child that ends above `va`.
    #[inline]
    pub(super) fn child_above(&self, va: u64) -> Option<&Child<V, N>> {
        self.children.get(self.index_above(va))
    }

    /// The last child that ends at `va` or below.
    pub(super) fn child_before(&self, va: u64) -> Option<&Child<V, N>> {
        self.children.get(self.index_above(va).checked_sub(1)?)
    }

    pub(super) fn insert(&mut self, value: V, spares: &mut Spares<V, N>) -> Option<N::Inner> {
        let at = self.place_for(value.start());
        let right = self.children[at].insert(value, spares);
        self.refresh(at);
        self.insert_child(at + 1, right?, spares)
    }

    /// The child for a value. Between a full leaf and one with room before it, that one.
    fn place_for(&self, start: u64) -> usize {
        let at = self.index_above(start).min(self.len() - 1);
        let Some(before) = at.checked_sub(1) else {
            return at;
        };
        match &self.children[at] {
            Child::Leaf(leaf)
                if leaf.len() == leaf::CAPACITY
                    && leaf.index_above(start) == 0
                    && self.children[before].len() < leaf::CAPACITY =>
            {
                before
            }
            _ => at,
        }
    }

    /// Adds a child; returns what was split off if there was no room.
    fn insert_child(
        &mut self,
        at: usize,
        child: Child<V, N>,
        spares: &mut Spares<V, N>,
    ) -> Option<N::Inner> {
        const MIDDLE: usize = CAPACITY / 2;
        if self.len() < CAPACITY {
            self.put(at, child);
            return None;
        }
        let mut right = spares.inner();
        right.take_behind(self, MIDDLE);
        match at <= MIDDLE {
            true => self.put(at, child),
            false => right.put(at - MIDDLE, child),
        }
        Some(right)
    }

    pub(super) fn remove(&mut self, start: u64, spares: &mut Spares<V, N>) -> Option<V> {
        let at = self.index_above(start);
        let value = self.children.get_mut(at)?.remove(start, spares)?;
        self.settle(at, spares);
        Some(value)
    }

    /// Takes out what one leaf has in `[start, end)`, the lowest that has anything.
    pub(super) fn remove_some(&mut self, start: u64, end: u64, spares: &mut Spares<V, N>) -> usize {
        let at = self.index_above(start);
        let Some(child) = self.children.get_mut(at) else {
            return 0;
        };
        let removed = child.remove_some(start, end, spares);
        if removed > 0 {
            self.settle(at, spares);
        }
        removed
    }

    /// Something was taken out of the child at `at`.
    fn settle(&mut self, at: usize, spares: &mut Spares<V, N>) {
        self.refresh(at);
        if self.children[at].is_small() {
            self.even_out(at, spares);
        }
    }

    pub(super) fn update_all(&mut self, start: u64, end: u64, change: &mut impl FnMut(&mut V)) {
        let first = self.index_above(start);
        for at in first..self.len() {
            if at > first && self.ends[at - 1] >= end {
                return;
            }
            self.children[at].update_all(start, end, change);
            self.refresh(at);
        }
    }

    pub(super) fn update<R>(&mut self, start: u64, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        let at = self.index_above(start);
        let result = self.children.get_mut(at)?.update(start, change);
        self.refresh(at);
        result
    }

    /// As a leaf does: the summary of the child stays as it is.
    pub(super) fn cut(&mut self, at: u64, cut: impl FnOnce(&mut V) -> V) -> bool {
        let child = self.index_above(at);
        self.children[child].cut(at, cut)
    }

    pub(super) fn join(
        &mut self,
        border: u64,
        absorb: impl FnOnce(&mut V, &V),
        spares: &mut Spares<V, N>,
    ) -> bool {
        let at = self.index_above(border);
        let Some(child) = self.children.get_mut(at) else {
            return false;
        };
        let done = child.join(border, absorb, spares);
        if done {
            self.settle(at, spares);
        }
        done
    }

    /// Merges a small child with a neighbour or, as inner nodes must not stay small, fills it up.
    fn even_out(&mut self, at: usize, spares: &mut Spares<V, N>) {
        let after = (at + 1 < self.len()).then_some(at);
        let mut pairs = at.checked_sub(1).into_iter().chain(after);
        match pairs.find(|&left| self.children[left].fits(&self.children[left + 1])) {
            Some(left) => self.merge(left, spares),
            None => self.balance(after.unwrap_or_else(|| at - 1)),
        }
    }

    /// Merges the child at `left` with the next one.
    fn merge(&mut self, left: usize, spares: &mut Spares<V, N>) {
        match (self.take(left + 1), &mut self.children[left]) {
            (Child::Leaf(mut next), Child::Leaf(leaf)) => {
                leaf.append(&mut next);
                spares.keep_leaf(next);
            }
            (Child::Inner(mut next), Child::Inner(inner)) => {
                inner.take_behind(&mut next, 0);
                spares.keep_inner(next);
            }
            _ => unreachable!("children of one node are of one kind"),
        }
        self.refresh(left);
    }

    /// Moves a child between the inner nodes at `left` and behind it, to the one that has fewer.
    fn balance(&mut self, left: usize) {
        if let Ok([Child::Inner(a), Child::Inner(b)]) =
            self.children.get_disjoint_mut([left, left + 1])
        {
            let last = a.len() - 1;
            match a.len() < b.len() {
                true => a.push(b.take(0)),
                false => b.put(0, a.take(last)),
            }
        }
        self.refresh(left);
        self.refresh(left + 1);
    }

    /// Moves the children of another node from `from` on here, behind the others.
    fn take_behind(&mut self, other: &mut Self, from: usize) {
        let (at, len) = (self.len(), other.len());
        let to = at + len - from;
        self.ends[at..to].copy_from_slice(&other.ends[from..len]);
        self.lows[at..to].copy_from_slice(&other.lows[from..len]);
        self.gaps[at..to].copy_from_slice(&other.gaps[from..len]);
        self.children.extend(other.children.drain(from..));
        other.ends[from..].fill(u64::MAX);
        self.measure();
        other.measure();
    }

    /// Adds a child behind the others.
    pub(super) fn push(&mut self, child: Child<V, N>) {
        self.put(self.len(), child);
    }

    /// Takes out the last child.
    pub(super) fn pop(&mut self) -> Option<Child<V, N>> {
        let at = self.len().checked_sub(1)?;
        Some(self.take(at))
    }

    fn put(&mut self, at: usize, child: Child<V, N>) {
        let len = self.len();
        let Summary { end, low, gap } = child.summary();
        insert_into(&mut self.ends, len, at, end);
        insert_into(&mut self.lows, len, at, low);
        insert_into(&mut self.gaps, len, at, gap);
        self.children.insert(at, child);
        self.measure();
    }

    fn take(&mut self, at: usize) -> Child<V, N> {
        remove_from(&mut self.ends, at);
        remove_from(&mut self.lows, at);
        remove_from(&mut self.gaps, at);
        let child = self.children.remove(at);
        self.measure();
        child
    }

    fn set(&mut self, at: usize, summary: Summary) {
        self.ends[at] = summary.end;
        self.lows[at] = summary.low;
        self.gaps[at] = summary.gap;
    }

    /// The child at `at` may have changed.
    fn refresh(&mut self, at: usize) {
        let summary = self.children[at].summary();
        if summary == self.summary_of(at) {
            return;
        }
        let before = self.widest_near(at);
        self.set(at, summary);
        let after = self.widest_near(at);
        match before == self.widest && after < before {
            true => self.measure(),
            false => self.widest = self.widest.max(after),
        }
    }

    /// The widest gap inside the child at `at` or at its borders.
    fn widest_near(&self, at: usize) -> u64 {
        let before = match at {
            0 => 0,
            _ => self.gap_before(at),
        };
        let after = match at + 1 < self.len() {
            true => self.gap_before(at + 1),
            false => 0,
        };
        self.gaps[at].max(before).max(after)
    }

    /// The gap between the child at `at` and the one before it.
    fn gap_before(&self, at: usize) -> u64 {
        self.lows[at].saturating_sub(self.ends[at - 1])
    }

    fn measure(&mut self) {
        let inside = self.gaps[..self.len()].iter().copied().max();
        let between = (1..self.len()).map(|at| self.gap_before(at)).max();
        self.widest = inside.max(between).unwrap_or(0);
    }
}
