//! Walking along the values.

use core::slice;

use arrayvec::ArrayVec;

use super::{Child, Extent, MAX_LEVELS, NodeSource};

/// Values in order. A step costs a constant, but for the few that go on to another node.
pub(crate) struct Iter<'a, V: Extent, N: NodeSource<V>> {
    values: slice::Iter<'a, V>,
    /// What is left of each inner node above.
    above: ArrayVec<slice::Iter<'a, Child<V, N>>, MAX_LEVELS>,
}

impl<'a, V: Extent, N: NodeSource<V>> Iter<'a, V, N> {
    /// Begins at the lowest value that ends above `va`.
    pub(super) fn new(root: Option<&'a Child<V, N>>, va: u64) -> Self {
        let mut iter = Self {
            values: [].iter(),
            above: ArrayVec::new(),
        };
        if let Some(root) = root {
            iter.descend(root, va);
        }
        iter
    }

    fn descend(&mut self, mut node: &'a Child<V, N>, va: u64) {
        loop {
            node = match node {
                Child::Leaf(leaf) => {
                    self.values = leaf.values()[leaf.index_above(va)..].iter();
                    return;
                }
                Child::Inner(inner) => {
                    let mut children = inner.children()[inner.index_above(va)..].iter();
                    let Some(child) = children.next() else {
                        return;
                    };
                    self.above.push(children);
                    child
                }
            };
        }
    }
}

impl<'a, V: Extent, N: NodeSource<V>> Iterator for Iter<'a, V, N> {
    type Item = &'a V;

    fn next(&mut self) -> Option<&'a V> {
        loop {
            if let Some(value) = self.values.next() {
                return Some(value);
            }
            match self.above.last_mut()?.next() {
                Some(child) => self.descend(child, 0),
                None => {
                    self.above.pop();
                }
            }
        }
    }
}
