//! Areas in order: a B+ tree that also knows its gaps.
//!
//! Values are kept in leaves, by where they begin; an inner node knows of each child where it ends,
//! where its guard begins, and the widest gap between two of its values. So look-up, change and the
//! search for a free range each go down once, or a few times at the borders of the search: their
//! cost is logarithmic.
//!
//! Nodes come from a [`NodeSource`], and only in [`Tree::reserve`]: it may fail, what follows it may
//! not. A tree of few values is a single leaf, whose search is a handful of comparisons.

mod gaps;
mod inner;
mod iter;
mod leaf;
mod source;
mod spares;
#[cfg(test)]
mod tests;

use core::fmt;

use frame::OutOfMemory;
use inner::Inner;
pub(crate) use iter::Iter;
use leaf::Leaf;
pub(crate) use source::{NodeSource, Slabs};
use spares::Spares;

/// Most insertions that can be reserved at once.
pub(crate) const MAX_ROOM: usize = 8;
/// Most levels of inner nodes: enough for millions of leaves, however badly they are filled.
const MAX_LEVELS: usize = 10;

/// A value that covers addresses. While it is in a tree, they change in
/// [`Tree::update`] and [`Tree::update_all`] only.
pub(crate) trait Extent {
    /// First address.
    fn start(&self) -> u64;
    /// First address behind.
    fn end(&self) -> u64;
    /// The lowest address that others keep away from; at most the start.
    fn guarded_start(&self) -> u64;
}

/// What lies below an inner node or a tree.
enum Child<V: Extent, N: NodeSource<V>> {
    Leaf(N::Leaf),
    Inner(N::Inner),
}

/// What a node says of all its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Summary {
    /// Where the last one ends.
    end: u64,
    /// Where the guard of the first one begins.
    low: u64,
    /// The widest gap between two of them.
    gap: u64,
}

/// Values that do not overlap, in order.
pub(crate) struct Tree<V: Extent, N: NodeSource<V>> {
    root: Option<Child<V, N>>,
    /// Inner nodes between the root and a leaf.
    levels: usize,
    len: usize,
    spares: Spares<V, N>,
}

impl<V: Extent, N: NodeSource<V>> Tree<V, N> {
    /// No values.
    pub(crate) const fn new() -> Self {
        Self {
            root: None,
            levels: 0,
            len: 0,
            spares: Spares::new(),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes room for `count` insertions, at most [`MAX_ROOM`], whatever is removed in between.
    ///
    /// # Errors
    /// [`OutOfMemory`]: everything is as it was.
    #[inline(always)]
    pub(crate) fn reserve(&mut self, source: &N, count: usize) -> Result<(), OutOfMemory> {
        let fits = matches!(self.root, Some(Child::Leaf(_))) && self.len + count <= leaf::CAPACITY;
        match fits && self.spares.need_no_refill(count) {
            true => Ok(()),
            false => self.refill(source, count),
        }
    }

    #[inline(never)]
    fn refill(&mut self, source: &N, count: usize) -> Result<(), OutOfMemory> {
        if count > MAX_ROOM || self.levels == MAX_LEVELS {
            return Err(OutOfMemory);
        }
        let (leaves, inners) = match (&self.root, self.levels) {
            (None, _) => (1, 0),
            (Some(_), 0) if self.len + count <= leaf::CAPACITY => (0, 0),
            // A leaf splits at either end and in the middle; its parts do not, so soon.
            (Some(_), 0) => (count.min(3), 1),
            (Some(_), levels) => (count, spares::most_inners(levels, count)),
        };
        self.spares
            .refill(source, leaves, inners, count, self.levels)
    }

    /// The value that contains `va`.
    #[inline]
    pub(crate) fn find(&self, va: u64) -> Option<&V> {
        let mut node = self.root.as_ref()?;
        loop {
            node = match node {
                Child::Inner(inner) => inner.child_above(va)?,
                Child::Leaf(leaf) => return leaf.find(va),
            };
        }
    }

    /// The lowest value that ends above `va`, whether or not it contains it, behind the one before.
    pub(crate) fn first_above(&self, va: u64) -> (Option<&V>, Option<&V>) {
        let mut before = None;
        let mut next = self.root.as_ref();
        while let Some(node) = next {
            next = match node {
                Child::Inner(inner) => {
                    before = inner.child_before(va).or(before);
                    inner.child_above(va)
                }
                Child::Leaf(leaf) => {
                    let (previous, above) = leaf.first_above(va);
                    return (previous.or_else(|| before?.last()), above);
                }
            };
        }
        (before.and_then(Child::last), None)
    }

    /// Values from the lowest one that ends above `va` on.
    pub(crate) fn iter_from(&self, va: u64) -> Iter<'_, V, N> {
        Iter::new(self.root.as_ref(), va)
    }

    /// Values that overlap `[start, end)`.
    pub(crate) fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &V> {
        self.iter_from(start)
            .take_while(move |value| value.start() < end)
    }

    /// Adds a value that overlaps no other. [`Self::reserve`] came before.
    pub(crate) fn insert(&mut self, value: V) {
        self.len += 1;
        self.spares.use_room();
        match &mut self.root {
            Some(root) => {
                if let Some(right) = root.insert(value, &mut self.spares) {
                    self.grow(right);
                }
            }
            None => {
                let mut leaf = self.spares.leaf();
                leaf.insert(0, value);
                self.root = Some(Child::Leaf(leaf));
            }
        }
    }

    /// Puts a new root above the old one and what was split off it.
    fn grow(&mut self, right: Child<V, N>) {
        let mut top = self.spares.inner();
        for child in self.root.take().into_iter().chain([right]) {
            top.push(child);
        }
        self.root = Some(Child::Inner(top));
        self.levels += 1;
    }

    /// Takes out the value that begins at `start`.
    pub(crate) fn remove_at(&mut self, start: u64) -> Option<V> {
        let value = self.root.as_mut()?.remove(start, &mut self.spares)?;
        self.len -= 1;
        self.shrink();
        Some(value)
    }

    /// Takes out and drops what overlaps `[start, end)`, a leaf at a time.
    pub(crate) fn remove_all(&mut self, start: u64, end: u64) {
        while let Some(root) = &mut self.root {
            let removed = root.remove_some(start, end, &mut self.spares);
            if removed == 0 {
                return;
            }
            self.len -= removed;
            self.shrink();
        }
    }

    /// Takes out a root that has become useless.
    #[inline(always)]
    fn shrink(&mut self) {
        let useless = match &self.root {
            Some(Child::Inner(top)) => top.len() == 1,
            Some(Child::Leaf(leaf)) => leaf.len() == 0,
            None => false,
        };
        if useless {
            self.take_root();
        }
    }

    #[cold]
    fn take_root(&mut self) {
        match self.root.take() {
            Some(Child::Inner(mut top)) if top.len() == 1 => {
                self.root = top.pop();
                self.levels -= 1;
                self.spares.keep_inner(top);
                self.spares.limit(self.levels);
            }
            Some(Child::Leaf(leaf)) if leaf.len() == 0 => self.spares.keep_leaf(leaf),
            root => self.root = root,
        }
    }

    /// Cuts the value around `at`, which begins below, in two: `cut` shortens it and returns the
    /// rest. [`Self::reserve`] came before. False: the leaf is full, and nothing was done.
    #[inline]
    pub(crate) fn cut(&mut self, at: u64, cut: impl FnOnce(&mut V) -> V) -> bool {
        let done = self.root.as_mut().is_some_and(|root| root.cut(at, cut));
        if done {
            self.len += 1;
            self.spares.use_room();
        }
        done
    }

    /// Joins the values that meet at `border`: `absorb` is told to take the upper one into the lower
    /// one. False: they are in different leaves, and nothing was done.
    #[inline]
    pub(crate) fn join(&mut self, border: u64, absorb: impl FnOnce(&mut V, &V)) -> bool {
        let Some(root) = &mut self.root else {
            return false;
        };
        let done = root.join(border, absorb, &mut self.spares);
        if done {
            self.len -= 1;
            self.shrink();
        }
        done
    }

    /// Changes the value that begins at `start`. It may end up wider or narrower, or be another
    /// one, but stays between its neighbours.
    pub(crate) fn update<R>(&mut self, start: u64, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        self.root.as_mut()?.update(start, change)
    }

    /// Changes all that overlap `[start, end)`, as [`Self::update`] does one.
    pub(crate) fn update_all(&mut self, start: u64, end: u64, mut change: impl FnMut(&mut V)) {
        if let Some(root) = &mut self.root {
            root.update_all(start, end, &mut change);
        }
    }
}

impl<V: Extent, N: NodeSource<V>> Child<V, N> {
    fn summary(&self) -> Summary {
        match self {
            Self::Leaf(leaf) => leaf.summary(),
            Self::Inner(inner) => inner.summary(),
        }
    }

    /// Values or children in it.
    fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.len(),
            Self::Inner(inner) => inner.len(),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Leaf(_) => leaf::CAPACITY,
            Self::Inner(_) => inner::CAPACITY,
        }
    }

    /// Whether it is to be merged with a neighbour, or be given something by one.
    fn is_small(&self) -> bool {
        self.len() < self.capacity() / 3
    }

    /// Whether it can take in a neighbour and stay clear of the next split.
    fn fits(&self, next: &Self) -> bool {
        self.len() + next.len() <= self.capacity() / 4 * 3 || self.len() == 0 || next.len() == 0
    }

    /// Adds a value; returns what was split off, to the right.
    #[inline(always)]
    fn insert(&mut self, value: V, spares: &mut Spares<V, N>) -> Option<Self> {
        match self {
            Self::Leaf(leaf) => insert_in_leaf(leaf, value, spares).map(Self::Leaf),
            Self::Inner(inner) => inner.insert(value, spares).map(Self::Inner),
        }
    }

    #[inline(always)]
    fn remove(&mut self, start: u64, spares: &mut Spares<V, N>) -> Option<V> {
        match self {
            Self::Leaf(leaf) => leaf.remove_at(start),
            Self::Inner(inner) => inner.remove(start, spares),
        }
    }

    fn remove_some(&mut self, start: u64, end: u64, spares: &mut Spares<V, N>) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.remove_all(start, end),
            Self::Inner(inner) => inner.remove_some(start, end, spares),
        }
    }

    fn update_all(&mut self, start: u64, end: u64, change: &mut impl FnMut(&mut V)) {
        match self {
            Self::Leaf(leaf) => leaf.update_all(start, end, change),
            Self::Inner(inner) => inner.update_all(start, end, change),
        }
    }

    fn update<R>(&mut self, start: u64, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        match self {
            Self::Leaf(leaf) => leaf.update(start, change),
            Self::Inner(inner) => inner.update(start, change),
        }
    }

    fn cut(&mut self, at: u64, cut: impl FnOnce(&mut V) -> V) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.cut(at, cut),
            Self::Inner(inner) => inner.cut(at, cut),
        }
    }

    fn join(
        &mut self,
        border: u64,
        absorb: impl FnOnce(&mut V, &V),
        spares: &mut Spares<V, N>,
    ) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.join(border, absorb),
            Self::Inner(inner) => inner.join(border, absorb, spares),
        }
    }

    fn last(&self) -> Option<&V> {
        let mut node = self;
        loop {
            node = match node {
                Self::Inner(inner) => inner.children().last()?,
                Self::Leaf(leaf) => return leaf.values().last(),
            };
        }
    }
}

/// Splits a full leaf where the value belongs: at an end, only the value goes to the new leaf, so
/// that values which come in order fill their leaves.
#[inline(always)]
fn insert_in_leaf<V: Extent, N: NodeSource<V>>(
    leaf: &mut N::Leaf,
    value: V,
    spares: &mut Spares<V, N>,
) -> Option<N::Leaf> {
    const MIDDLE: usize = leaf::CAPACITY / 2;
    let at = leaf.index_above(value.start());
    if leaf.len() < leaf::CAPACITY {
        leaf.insert(at, value);
        return None;
    }
    let mut right = spares.leaf();
    match at {
        0 => {
            right.insert(0, value);
            core::mem::swap(leaf, &mut right);
        }
        leaf::CAPACITY => right.insert(0, value),
        _ => {
            leaf.split_into(MIDDLE, &mut right);
            match at <= MIDDLE {
                true => leaf.insert(at, value),
                false => right.insert(at - MIDDLE, value),
            }
        }
    }
    Some(right)
}

/// How many of `ends`, which grow, are at most `va`. Without branches: their outcome could not be
/// predicted.
#[inline(always)]
fn count_up_to<const LEN: usize>(ends: &[u64; LEN], va: u64) -> usize {
    let (mut from, mut len) = (0, LEN);
    while len > 1 {
        let half = len / 2;
        from += half * usize::from(ends[from + half - 1] <= va);
        len -= half;
    }
    from + usize::from(ends[from] <= va)
}

/// Makes room for `value` in the first `len` of `array`.
fn insert_into<const LEN: usize>(array: &mut [u64; LEN], len: usize, at: usize, value: u64) {
    array.copy_within(at..len, at + 1);
    array[at] = value;
}

/// Takes one out of `array`, and puts `u64::MAX` behind the others.
fn remove_from<const LEN: usize>(array: &mut [u64; LEN], at: usize) {
    array.copy_within(at + 1.., at);
    array[LEN - 1] = u64::MAX;
}

impl<V: Extent + fmt::Debug, N: NodeSource<V>> fmt::Debug for Tree<V, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter_from(0)).finish()
    }
}
