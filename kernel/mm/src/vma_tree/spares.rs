//! Nodes in reserve, so that a change that has begun cannot fail.

use arrayvec::ArrayVec;
use frame::OutOfMemory;

use super::{Extent, MAX_ROOM, NodeSource, inner};

/// The most inner nodes that `count` insertions use: at each level but the root's, all might split
/// another node; the root splits once, and gets a new one above it. A node that has been split has
/// room for [`MAX_ROOM`] more, and one that has been merged gave the other back.
pub(super) const fn most_inners(levels: usize, count: usize) -> usize {
    levels.saturating_sub(1) * count + 2
}

const _: () = assert!(inner::CAPACITY / 2 >= MAX_ROOM, "a node might split twice");

pub(super) struct Spares<V: Extent, N: NodeSource<V>> {
    leaves: ArrayVec<N::Leaf, MAX_ROOM>,
    /// The first of a chain: each holds the next, as spaces are to stay small.
    inners: Option<N::Inner>,
    inner_count: usize,
    /// The insertions that were asked for last: what is worth keeping nodes for.
    asked: usize,
    /// Those of them that are left.
    room: usize,
    /// The most inner nodes worth keeping.
    most_inners: usize,
}

impl<V: Extent, N: NodeSource<V>> Spares<V, N> {
    pub(super) const fn new() -> Self {
        Self {
            leaves: ArrayVec::new_const(),
            inners: None,
            inner_count: 0,
            asked: 0,
            room: 0,
            most_inners: 0,
        }
    }

    /// As [`Self::refill`] without nodes, into a tree of one leaf, if nothing is to be given back.
    #[inline(always)]
    pub(super) fn need_no_refill(&mut self, count: usize) -> bool {
        let most_inners = most_inners(0, count);
        let fine = self.leaves.len() <= count && self.inner_count <= most_inners;
        if fine {
            (self.asked, self.room, self.most_inners) = (count, count, most_inners);
        }
        fine
    }

    /// Has so many nodes at least, for `count` insertions into a tree of so many levels.
    pub(super) fn refill(
        &mut self,
        source: &N,
        leaves: usize,
        inners: usize,
        count: usize,
        levels: usize,
    ) -> Result<(), OutOfMemory> {
        let had = (self.leaves.len(), self.inner_count);
        if let Err(refused) = self.fill(source, leaves, inners) {
            self.leaves.truncate(had.0);
            self.truncate_inners(had.1);
            return Err(refused);
        }
        (self.asked, self.room) = (count, count);
        self.limit(levels);
        Ok(())
    }

    fn fill(&mut self, source: &N, leaves: usize, inners: usize) -> Result<(), OutOfMemory> {
        while self.leaves.len() < leaves {
            self.leaves.push(source.leaf()?);
        }
        while self.inner_count < inners {
            self.add_inner(source.inner()?);
        }
        Ok(())
    }

    /// Gives back what a tree of so many levels has no use for.
    pub(super) fn limit(&mut self, levels: usize) {
        self.most_inners = most_inners(levels, self.asked);
        self.truncate_inners(self.most_inners);
        self.leaves.truncate(self.asked);
    }

    /// An insertion takes place.
    pub(super) fn use_room(&mut self) {
        debug_assert!(self.room > 0, "an insertion without room");
        self.room = self.room.saturating_sub(1);
    }

    pub(super) fn leaf(&mut self) -> N::Leaf {
        self.leaves.pop().expect("room was reserved")
    }

    pub(super) fn inner(&mut self) -> N::Inner {
        self.take_inner().expect("room was reserved")
    }

    fn take_inner(&mut self) -> Option<N::Inner> {
        let mut first = self.inners.take()?;
        self.inners = first.release();
        self.inner_count -= 1;
        Some(first)
    }

    fn add_inner(&mut self, mut inner: N::Inner) {
        if let Some(next) = self.inners.take() {
            inner.hold(next);
        }
        self.inners = Some(inner);
        self.inner_count += 1;
    }

    fn truncate_inners(&mut self, count: usize) {
        while self.inner_count > count {
            drop(self.take_inner());
        }
    }

    /// Takes an empty leaf back. It may be needed for what has been reserved.
    pub(super) fn keep_leaf(&mut self, leaf: N::Leaf) {
        if self.leaves.len() < self.asked {
            self.leaves.push(leaf);
        }
    }

    /// Takes back an inner node without children.
    pub(super) fn keep_inner(&mut self, inner: N::Inner) {
        if self.inner_count < self.most_inners {
            self.add_inner(inner);
        }
    }
}
