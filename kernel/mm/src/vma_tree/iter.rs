//! Walking along the values.

use core::slice;

use super::{Child, Extent, NodeSource};

/// Values in order. Behind the last value of a leaf the next leaf is looked for from the root: once
/// for so many values that a step costs a constant, and nothing has to be kept of the way.
pub(crate) struct Iter<'a, V: Extent, N: NodeSource<V>> {
    root: Option<&'a Child<V, N>>,
    values: slice::Iter<'a, V>,
    /// Where the values of this leaf end, or where the search began if there was none.
    end: u64,
}

impl<'a, V: Extent, N: NodeSource<V>> Iter<'a, V, N> {
    /// Begins at the lowest value that ends above `va`.
    #[inline]
    pub(super) fn new(root: Option<&'a Child<V, N>>, va: u64) -> Self {
        let mut iter = Self {
            root,
            values: [].iter(),
            end: va,
        };
        iter.go_to(va);
        iter
    }

    /// Goes on at the lowest value that ends above `va`, if there is one.
    fn go_to(&mut self, va: u64) {
        let mut next = self.root;
        while let Some(node) = next {
            next = match node {
                Child::Inner(inner) => inner.child_above(va),
                Child::Leaf(leaf) => {
                    self.values = leaf.values()[leaf.index_above(va)..].iter();
                    self.end = leaf.summary().end;
                    return;
                }
            };
        }
    }
}

impl<'a, V: Extent, N: NodeSource<V>> Iterator for Iter<'a, V, N> {
    type Item = &'a V;

    #[inline]
    fn next(&mut self) -> Option<&'a V> {
        let value = self.values.next();
        value.or_else(|| {
            self.go_to(self.end);
            self.values.next()
        })
    }
}
