//! Nodes in reserve, so that a change that has begun cannot fail.

use arrayvec::ArrayVec;
use frame::OutOfMemory;

use super::{Extent, MAX_LEVELS, MAX_ROOM, NodeSource};

/// The most inner nodes that `count` insertions use: at each level but the root's, all might split
/// another node; the root splits once, and gets a new one above it. What has been split or merged
/// is [`MAX_ROOM`] insertions away from the next split.
pub(super) const fn most_inners(levels: usize, count: usize) -> usize {
    levels.saturating_sub(1) * count + 2
}

pub(super) struct Spares<V: Extent, N: NodeSource<V>> {
    leaves: ArrayVec<N::Leaf, MAX_ROOM>,
    inners: ArrayVec<N::Inner, { most_inners(MAX_LEVELS, MAX_ROOM) }>,
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
            inners: ArrayVec::new_const(),
            asked: 0,
            room: 0,
            most_inners: 0,
        }
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
        let had = (self.leaves.len(), self.inners.len());
        if let Err(refused) = self.fill(source, leaves, inners) {
            self.leaves.truncate(had.0);
            self.inners.truncate(had.1);
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
        while self.inners.len() < inners {
            self.inners.push(source.inner()?);
        }
        Ok(())
    }

    /// Gives back what a tree of so many levels has no use for.
    pub(super) fn limit(&mut self, levels: usize) {
        self.most_inners = most_inners(levels, self.asked);
        self.inners.truncate(self.most_inners);
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
        self.inners.pop().expect("room was reserved")
    }

    /// Takes an empty leaf back. It may be needed for what has been reserved.
    pub(super) fn keep_leaf(&mut self, leaf: N::Leaf) {
        if self.leaves.len() < self.asked {
            self.leaves.push(leaf);
        }
    }

    /// Takes back an inner node without children.
    pub(super) fn keep_inner(&mut self, inner: N::Inner) {
        if self.inners.len() < self.most_inners {
            self.inners.push(inner);
        }
    }
}
