//! The search for a free range.
//!
//! A gap between two values is known to the lowest node that has both below it; the gaps before the
//! first and behind the last value belong to nobody and are looked at apart. Only nodes at the
//! borders of the search can promise a gap that is cut off: others keep what they promise, so all
//! in all the search goes down three times at most.

use super::{Child, Extent, Inner, NodeSource, Tree};

/// What is looked for.
struct Search {
    len: u64,
    floor: u64,
    ceiling: u64,
}

impl Search {
    /// What of the gap `[from, to)` may be used, if it suffices.
    fn usable(&self, (from, to): (u64, u64)) -> Option<(u64, u64)> {
        let (from, to) = (from.max(self.floor), to.min(self.ceiling));
        (to >= from && to - from >= self.len).then_some((from, to))
    }

    fn highest(&self, gap: (u64, u64)) -> Option<u64> {
        self.usable(gap).map(|(_, to)| to - self.len)
    }

    fn lowest(&self, gap: (u64, u64)) -> Option<u64> {
        self.usable(gap).map(|(from, _)| from)
    }
}

impl<V: Extent, N: NodeSource<V>> Tree<V, N> {
    /// The highest address from which `len` bytes within `[floor, ceiling)` are free, and not in
    /// the guard of the next value above.
    pub(crate) fn find_gap_below(&self, len: u64, ceiling: u64, floor: u64) -> Option<u64> {
        let search = Search {
            len,
            floor,
            ceiling,
        };
        let Some(root) = &self.root else {
            return search.highest((0, u64::MAX));
        };
        let all = root.summary();
        search
            .highest((all.end, u64::MAX))
            .or_else(|| root.highest_gap(&search))
            .or_else(|| search.highest((0, all.low)))
    }

    /// The lowest address from which `len` bytes within `[floor, ceiling)` are free, and not in the
    /// guard of the next value above.
    pub(crate) fn find_gap_above(&self, len: u64, floor: u64, ceiling: u64) -> Option<u64> {
        let search = Search {
            len,
            floor,
            ceiling,
        };
        let Some(root) = &self.root else {
            return search.lowest((0, u64::MAX));
        };
        let all = root.summary();
        search
            .lowest((0, all.low))
            .or_else(|| root.lowest_gap(&search))
            .or_else(|| search.lowest((all.end, u64::MAX)))
    }
}

impl<V: Extent, N: NodeSource<V>> Child<V, N> {
    fn highest_gap(&self, search: &Search) -> Option<u64> {
        match self {
            Self::Leaf(leaf) => leaf.gaps().rev().find_map(|gap| search.highest(gap)),
            Self::Inner(inner) => inner.highest_gap(search),
        }
    }

    fn lowest_gap(&self, search: &Search) -> Option<u64> {
        match self {
            Self::Leaf(leaf) => leaf.gaps().find_map(|gap| search.lowest(gap)),
            Self::Inner(inner) => inner.lowest_gap(search),
        }
    }
}

impl<V: Extent, N: NodeSource<V>> Inner<V, N> {
    fn highest_gap(&self, search: &Search) -> Option<u64> {
        // Children behind this one begin above the ceiling.
        let last = self.index_above(search.ceiling).min(self.len() - 1);
        let mut top = 0;
        for at in (0..=last).rev() {
            let child = self.summary_of(at);
            let found = search.highest((child.end, top));
            if found.is_some() || child.end <= search.floor {
                return found;
            }
            top = child.low;
            if child.gap >= search.len
                && let Some(found) = self.children()[at].highest_gap(search)
            {
                return Some(found);
            }
        }
        None
    }

    fn lowest_gap(&self, search: &Search) -> Option<u64> {
        // Children before this one end at the floor or below.
        let first = self.index_above(search.floor);
        for at in first..self.len() {
            let child = self.summary_of(at);
            if let Some(before) = at.checked_sub(1) {
                let bottom = self.summary_of(before).end;
                let found = search.lowest((bottom, child.low));
                if found.is_some() || bottom >= search.ceiling {
                    return found;
                }
            }
            if child.gap >= search.len
                && let Some(found) = self.children()[at].lowest_gap(search)
            {
                return Some(found);
            }
        }
        None
    }
}
