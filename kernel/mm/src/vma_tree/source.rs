//! Where nodes come from.

use core::ops::DerefMut;

use frame::slab::{Cache, SlabBox};
use frame::{Frames, OutOfMemory};

use super::{Extent, Inner, Leaf};

/// Makes nodes. Dropping what it made gives the memory back.
pub(crate) trait NodeSource<V: Extent>: Sized {
    /// Owns a leaf.
    type Leaf: DerefMut<Target = Leaf<V>>;
    /// Owns an inner node.
    type Inner: DerefMut<Target = Inner<V, Self>>;

    /// An empty leaf.
    fn leaf(&self) -> Result<Self::Leaf, OutOfMemory>;

    /// An inner node without children.
    fn inner(&self) -> Result<Self::Inner, OutOfMemory>;
}

/// Nodes in slabs of frames, not on the kernel heap, whose list of blocks they would make long.
#[derive(Debug)]
pub(crate) struct Slabs<V: Extent + 'static> {
    leaves: Cache<Leaf<V>>,
    inners: Cache<Inner<V, &'static Self>>,
}

impl<V: Extent> Slabs<V> {
    /// Slabs without memory.
    pub(crate) fn new(frames: &'static Frames) -> Self {
        let slabs = Self {
            leaves: Cache::new("area leaves"),
            inners: Cache::new("area nodes"),
        };
        slabs.leaves.init(frames);
        slabs.inners.init(frames);
        slabs
    }
}

impl<V: Extent> NodeSource<V> for &'static Slabs<V> {
    type Leaf = SlabBox<Leaf<V>>;
    type Inner = SlabBox<Inner<V, Self>>;

    fn leaf(&self) -> Result<Self::Leaf, OutOfMemory> {
        self.leaves.alloc(Leaf::new())
    }

    fn inner(&self) -> Result<Self::Inner, OutOfMemory> {
        self.inners.alloc(Inner::new())
    }
}
