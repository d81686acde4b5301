//! The tree against a sorted vector, its costs in visits of nodes, and its memory.

use std::boxed::Box;
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::vec::Vec;

use frame::{Class, OutOfMemory, arena};
use proptest::prelude::*;

use super::{Child, Extent, Inner, Leaf, NodeSource, Slabs, Tree, inner, leaf};

/// A value that cannot be copied and whose loss or copy would be seen by its count.
#[derive(Debug)]
struct Area {
    start: u64,
    end: u64,
    guard: u64,
    _alive: Rc<()>,
}

impl Extent for Area {
    fn start(&self) -> u64 {
        self.start
    }
    fn end(&self) -> u64 {
        self.end
    }
    fn guarded_start(&self) -> u64 {
        self.start.saturating_sub(self.guard)
    }
}

/// What the nodes of a test have in common.
#[derive(Debug, Default)]
struct Counts {
    visits: Cell<u64>,
    alive: Cell<usize>,
    /// Allocations that succeed from now on.
    left: Cell<Option<usize>>,
}

/// Nodes on the heap of the host, counted.
#[derive(Clone, Debug, Default)]
struct Heap(Rc<Counts>);

struct Counted<T> {
    value: Box<T>,
    counts: Rc<Counts>,
}

impl Heap {
    fn make<T>(&self, value: T) -> Result<Counted<T>, OutOfMemory> {
        if let Some(left) = self.0.left.get() {
            self.0
                .left
                .set(Some(left.checked_sub(1).ok_or(OutOfMemory)?));
        }
        self.0.alive.set(self.0.alive.get() + 1);
        Ok(Counted {
            value: Box::new(value),
            counts: self.0.clone(),
        })
    }

    fn visits(&self, what: impl FnOnce()) -> u64 {
        let before = self.0.visits.get();
        what();
        self.0.visits.get() - before
    }
}

impl NodeSource<Area> for Heap {
    type Leaf = Counted<Leaf<Area>>;
    type Inner = Counted<Inner<Area, Self>>;

    fn leaf(&self) -> Result<Self::Leaf, OutOfMemory> {
        self.make(Leaf::new())
    }
    fn inner(&self) -> Result<Self::Inner, OutOfMemory> {
        self.make(Inner::new())
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.counts.visits.set(self.counts.visits.get() + 1);
        &self.value
    }
}

impl<T> DerefMut for Counted<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.counts.visits.set(self.counts.visits.get() + 1);
        &mut self.value
    }
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        self.counts.alive.set(self.counts.alive.get() - 1);
    }
}

/// A tree and the vector it is compared with.
struct Pair {
    heap: Heap,
    alive: Rc<()>,
    tree: Tree<Area, Heap>,
    sorted: Vec<(u64, u64, u64)>,
}

impl Pair {
    fn new() -> Self {
        Self {
            heap: Heap::default(),
            alive: Rc::new(()),
            tree: Tree::new(),
            sorted: Vec::new(),
        }
    }

    fn reserve(&mut self, count: usize) {
        self.tree.reserve(&self.heap, count).unwrap();
    }

    fn above(&self, va: u64) -> usize {
        self.sorted.partition_point(|area| area.1 <= va)
    }

    fn is_free(&self, start: u64, end: u64) -> bool {
        self.sorted
            .get(self.above(start))
            .is_none_or(|area| area.0 >= end)
    }

    /// Room for it was reserved.
    fn insert(&mut self, start: u64, end: u64, guard: u64) {
        if start < end && self.is_free(start, end) {
            self.sorted.insert(self.above(start), (start, end, guard));
            self.tree.insert(Area {
                start,
                end,
                guard,
                _alive: self.alive.clone(),
            });
        }
    }

    fn remove(&mut self, at: usize) {
        let (start, end, _) = self.sorted.remove(at);
        let area = self.tree.remove_at(start).unwrap();
        assert_eq!((area.start, area.end), (start, end));
    }

    /// Takes out what overlaps, without cutting it.
    fn remove_all(&mut self, start: u64, end: u64) {
        self.sorted.retain(|area| area.1 <= start || area.0 >= end);
        self.tree.remove_all(start, end);
    }

    /// Cuts off the last bytes of what overlaps.
    fn shorten_all(&mut self, start: u64, end: u64) {
        for area in &mut self.sorted {
            if area.1 > start && area.0 < end {
                area.1 = area.0 + 1;
            }
        }
        self.tree
            .update_all(start, end, |area| area.end = area.start + 1);
    }

    /// Moves the borders of an area within the free space around it.
    fn resize(&mut self, at: usize, by: (u64, u64), guard: u64) {
        let bottom = at.checked_sub(1).map_or(0, |at| self.sorted[at].1);
        let top = self.sorted.get(at + 1).map_or(u64::MAX >> 8, |next| next.0);
        let (start, ..) = self.sorted[at];
        let from = bottom + by.0 % (top - bottom);
        let to = from + 1 + by.1 % (top - from);
        self.sorted[at] = (from, to, guard);
        let old = self.tree.update(start, |area| {
            (area.start, area.end, area.guard) = (from, to, guard);
            start
        });
        assert_eq!(old, Some(start));
    }

    /// Cuts an area in two, as far as there is room in its leaf.
    fn cut(&mut self, at: usize, by: u64) {
        let (start, end, guard) = self.sorted[at];
        let middle = start + 1 + by % (end - start).max(2);
        if middle >= end {
            return;
        }
        let alive = self.alive.clone();
        let done = self.tree.cut(middle, |area| {
            area.end = middle;
            Area {
                start: middle,
                end,
                guard: 0,
                _alive: alive,
            }
        });
        if done {
            self.sorted[at] = (start, middle, guard);
            self.sorted.insert(at + 1, (middle, end, 0));
        }
    }

    /// Joins an area with the one before it, if they meet and are in one leaf.
    fn join(&mut self, at: usize) {
        let (border, end, guard) = self.sorted[at];
        let meets = at > 0 && self.sorted[at - 1].1 == border && guard == 0;
        if meets && self.tree.join(border, |area, next| area.end = next.end) {
            self.sorted.remove(at);
            self.sorted[at - 1].1 = end;
        }
    }

    fn gaps(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        let below = [0].into_iter().chain(self.sorted.iter().map(|area| area.1));
        let guards = self.sorted.iter().map(|area| area.0.saturating_sub(area.2));
        let gaps: Vec<_> = below.zip(guards.chain([u64::MAX])).collect();
        gaps.into_iter()
    }

    fn check_gaps(&self, len: u64, floor: u64, ceiling: u64) {
        let fits = |(from, to): (u64, u64)| {
            let (from, to) = (from.max(floor), to.min(ceiling));
            (to >= from && to - from >= len).then_some((from, to))
        };
        let highest = self.gaps().rev().find_map(fits).map(|(_, to)| to - len);
        let lowest = self.gaps().find_map(fits).map(|(from, _)| from);
        let what = (len, floor, ceiling);
        assert_eq!(
            self.tree.find_gap_below(len, ceiling, floor),
            highest,
            "{what:?}"
        );
        assert_eq!(
            self.tree.find_gap_above(len, floor, ceiling),
            lowest,
            "{what:?}"
        );
    }

    fn check_at(&self, va: u64) {
        let key = |area: Option<&Area>| area.map(|area| (area.start, area.end, area.guard));
        let at = self.above(va);
        let above = self.sorted.get(at).copied();
        let before = at.checked_sub(1).map(|at| self.sorted[at]);
        let (found_before, found) = self.tree.first_above(va);
        assert_eq!((key(found_before), key(found)), (before, above));
        assert_eq!(key(self.tree.find(va)), above.filter(|area| area.0 <= va));
        let next = self.tree.overlapping(va, va + 50).map(|area| area.start);
        let sorted = self.sorted[at..].iter().map(|area| area.0);
        assert!(next.eq(sorted.take_while(|start| *start < va + 50)));
    }

    fn check(&self) {
        assert_eq!(self.tree.len(), self.sorted.len());
        assert_eq!(Rc::strong_count(&self.alive), 1 + self.sorted.len());
        let areas = self.tree.iter_from(0);
        assert!(
            areas
                .map(|area| area.start)
                .eq(self.sorted.iter().map(|area| area.0))
        );
        if let Some(root) = &self.tree.root {
            assert_eq!(check_node(root, true), self.tree.levels);
        }
    }
}

/// What each node claims is so, and leaves are all at one level, which is returned.
fn check_node(node: &Child<Area, Heap>, root: bool) -> usize {
    match node {
        Child::Leaf(leaf) => {
            assert!(leaf.len() > 0);
            let gaps = leaf.values().windows(2);
            let gaps = gaps.map(|pair| pair[1].guarded_start().saturating_sub(pair[0].end));
            assert_eq!(leaf.summary().gap, gaps.max().unwrap_or(0));
            0
        }
        Child::Inner(node) => {
            assert!(node.len() >= if root { 2 } else { inner::CAPACITY / 3 });
            let levels = node.children().iter().map(|child| check_node(child, false));
            let levels: Vec<_> = levels.collect();
            assert!(levels.iter().all(|level| *level == levels[0]));
            let summaries: Vec<_> = node.children().iter().map(Child::summary).collect();
            let known: Vec<_> = (0..node.len()).map(|at| node.summary_of(at)).collect();
            assert_eq!(summaries, known);
            let between = known.windows(2);
            let between = between.map(|pair| pair[1].low.saturating_sub(pair[0].end));
            let widest = known.iter().map(|child| child.gap).chain(between).max();
            assert_eq!(Some(node.summary().gap), widest);
            levels[0] + 1
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(usize),
    Insert(u64, u64, u64),
    /// So many, one behind or below the other.
    Row(u64, bool, usize),
    Remove(prop::sample::Index),
    /// So many in order.
    RemoveRow(prop::sample::Index, usize),
    RemoveAll(u64, u64),
    ShortenAll(u64, u64),
    Resize(prop::sample::Index, (u64, u64), u64),
    /// Cut, and so many around it joined, from the last one on.
    CutAndJoin(prop::sample::Index, u64, usize),
    Look(u64),
    Gaps(u64, u64, u64),
}

const SPAN: u64 = 20_000;

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (0..9usize).prop_map(Step::Reserve),
        (0..SPAN, 1..12u64, 0..20u64).prop_map(|(at, len, guard)| Step::Insert(at, len, guard)),
        (0..SPAN, any::<bool>(), 1..120usize).prop_map(|(at, up, len)| Step::Row(at, up, len)),
        index().prop_map(Step::Remove),
        (index(), 1..80usize).prop_map(|(at, len)| Step::RemoveRow(at, len)),
        (index(), any::<(u64, u64)>(), 0..20u64)
            .prop_map(|(at, by, guard)| Step::Resize(at, by, guard)),
        (0..SPAN, 1..1500u64).prop_map(|(at, len)| Step::RemoveAll(at, len)),
        (0..SPAN, 1..3000u64).prop_map(|(at, len)| Step::ShortenAll(at, len)),
        (index(), any::<u64>(), 0..60usize)
            .prop_map(|(at, by, joined)| Step::CutAndJoin(at, by, joined)),
        (0..SPAN).prop_map(Step::Look),
        (1..200u64, 0..SPAN, 0..SPAN).prop_map(|(len, from, to)| Step::Gaps(len, from, to)),
    ]
}

fn apply(pair: &mut Pair, room: &mut usize, step: Step) {
    let len = pair.sorted.len();
    match step {
        Step::Reserve(count) => {
            pair.reserve(count);
            *room = count;
        }
        Step::Insert(at, len, guard) if *room > 0 => {
            pair.insert(at, at + len, guard);
            *room -= 1;
        }
        Step::Insert(..) => {}
        Step::CutAndJoin(at, by, joined) if len > 0 => {
            let at = at.index(len);
            pair.reserve(1);
            pair.cut(at, by);
            *room = 0;
            for at in (0..=at + 1).rev().take(joined) {
                if at < pair.sorted.len() {
                    pair.join(at);
                }
            }
        }
        Step::CutAndJoin(..) => {}
        Step::Row(at, up, count) => {
            for i in 0..count as u64 {
                pair.reserve(1);
                let at = if up {
                    at + 4 * i
                } else {
                    (at + 4 * count as u64) - 4 * i
                };
                pair.insert(at, at + 1 + i % 3, 0);
            }
            *room = 0;
        }
        _ if len == 0 => {}
        Step::Remove(at) => pair.remove(at.index(len)),
        Step::RemoveRow(at, count) => {
            let at = at.index(len);
            for _ in 0..count.min(len - at) {
                pair.remove(at);
            }
        }
        Step::RemoveAll(at, len) => pair.remove_all(at, at + len),
        Step::ShortenAll(at, len) => pair.shorten_all(at, at + len),
        Step::Resize(at, by, guard) => pair.resize(at.index(len), by, guard),
        Step::Look(va) => pair.check_at(va),
        Step::Gaps(len, from, to) => pair.check_gaps(len, from, to),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 3 } else { 96 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_tree_does_what_a_sorted_vector_does(
        steps in prop::collection::vec(step(), 1..if cfg!(miri) { 30 } else { 200 })
    ) {
        let mut pair = Pair::new();
        let mut room = 0;
        for step in steps {
            apply(&mut pair, &mut room, step);
            pair.check();
        }
        let Pair { heap, tree, alive, .. } = pair;
        drop(tree);
        prop_assert_eq!(heap.0.alive.get(), 0);
        prop_assert_eq!(Rc::strong_count(&alive), 1);
    }
}

/// Numbers below `count` in an order without pattern.
fn shuffled(count: u64) -> Vec<u64> {
    let mut order: Vec<_> = (0..count).collect();
    let mut random = 1u64;
    for i in (1..order.len()).rev() {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
        order.swap(i, (random >> 33) as usize % (i + 1));
    }
    order
}

const MANY: u64 = if cfg!(miri) { 150 } else { 100_000 };

/// Visits of nodes, by whatever part of an operation, that are few: some for each level, and there
/// are four or five levels.
const FEW: u64 = 60;

fn fill(pair: &mut Pair, order: impl Iterator<Item = u64>) {
    let heap = pair.heap.clone();
    for i in order {
        let tree = &mut pair.tree;
        let (start, alive) = (0x1_0000 + i * 8, pair.alive.clone());
        let visits = heap.visits(|| {
            tree.reserve(&heap, 1).unwrap();
            let area = Area {
                start,
                end: start + 4,
                guard: 0,
                _alive: alive,
            };
            tree.insert(area);
        });
        assert!(visits < FEW, "{visits} visits by an insertion");
    }
}

fn check_costs(pair: &Pair) {
    let (heap, tree) = (&pair.heap, &pair.tree);
    for i in (0..MANY).step_by(997) {
        let va = 0x1_0000 + i * 8;
        let visits = heap.visits(|| {
            assert!(tree.find(va + 3).is_some());
            assert!(tree.find(va + 4).is_none());
            assert!(tree.first_above(va + 4).0.is_some());
        });
        assert!(visits <= 30, "{visits} visits by look-ups");
        let visits = heap.visits(|| {
            assert_eq!(
                tree.find_gap_below(4, va + 7, 0),
                Some(va.saturating_sub(4))
            );
            assert_eq!(
                tree.find_gap_above(4, va + 5, u64::MAX),
                Some(va + 12).filter(|_| i + 1 < MANY).or(Some(va + 5))
            );
            assert_eq!(tree.find_gap_below(5, va, 0x1_0000), None);
            assert_eq!(tree.find_gap_above(5, 0x1_0000, va), None);
            // Wide enough gaps outside the borders are not looked into.
            assert_eq!(tree.find_gap_below(4, va + 8, va + 5), None);
            assert_eq!(tree.find_gap_above(4, va + 5, va + 8), None);
        });
        assert!(visits < FEW, "{visits} visits by searches for gaps");
    }
    let visits = heap.visits(|| assert_eq!(tree.iter_from(0).count() as u64, MANY));
    assert!(visits <= MANY, "{visits} visits by a walk");
}

fn empty(pair: &mut Pair, order: impl Iterator<Item = u64>) {
    pair.reserve(super::MAX_ROOM);
    let tree = &mut pair.tree;
    for i in order {
        let start = 0x1_0000 + i * 8;
        let visits = pair.heap.visits(|| {
            assert!(tree.update(start, |area| area.end -= 1).is_some());
            assert!(tree.remove_at(start).is_some());
        });
        assert!(visits < FEW, "{visits} visits by a removal");
    }
    assert_eq!(tree.len(), 0);
    let alive = pair.heap.0.alive.get();
    assert!(alive <= super::MAX_ROOM + 2, "{alive} spare nodes");
}

#[test]
fn costs_are_logarithmic_in_random_order() {
    let mut pair = Pair::new();
    fill(&mut pair, shuffled(MANY).into_iter());
    check_costs(&pair);
    empty(&mut pair, shuffled(MANY).into_iter().rev());
}

fn check_leaves_are_full(pair: &Pair) {
    let leaves = MANY / leaf::CAPACITY as u64;
    assert!(pair.heap.0.alive.get() as u64 <= leaves + leaves / 6 + 20);
}

#[test]
fn costs_are_logarithmic_upwards_and_leaves_are_full() {
    let mut pair = Pair::new();
    fill(&mut pair, 0..MANY);
    check_costs(&pair);
    check_leaves_are_full(&pair);
    empty(&mut pair, 0..MANY);
}

#[test]
fn costs_are_logarithmic_downwards_and_leaves_are_full() {
    let mut pair = Pair::new();
    fill(&mut pair, (0..MANY).rev());
    check_costs(&pair);
    check_leaves_are_full(&pair);
    empty(&mut pair, (0..MANY).rev());
}

#[test]
fn leaves_are_full_when_values_come_upwards_below_others() {
    let mut pair = Pair::new();
    let (low, high) = (MANY / 5, MANY / 5 * 4);
    fill(&mut pair, (high..MANY).chain(0..low).chain(low..high));
    check_leaves_are_full(&pair);
}

#[test]
fn a_single_leaf_may_split_at_both_ends_and_in_the_middle() {
    let mut pair = Pair::new();
    for i in 0..leaf::CAPACITY as u64 {
        pair.reserve(1);
        pair.insert(1000 + i * 8, 1004 + i * 8, 0);
    }
    pair.reserve(3);
    for start in [2000, 0, 1044] {
        pair.insert(start, start + 4, 0);
        pair.check();
    }
    assert_eq!(pair.tree.root.as_ref().map(Child::len), Some(4));
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes")]
fn a_reservation_outlives_the_removal_of_everything_else() {
    let mut pair = Pair::new();
    let most = (leaf::CAPACITY * inner::CAPACITY) as u64;
    for i in 0..most {
        pair.reserve(1);
        pair.insert(i * 8, i * 8 + 4, 0);
    }
    assert_eq!(pair.tree.levels, 1);
    // Both spare inner nodes are used up, come back, and one is used again.
    pair.reserve(4);
    pair.insert(most * 8, most * 8 + 1, 0);
    assert_eq!(pair.tree.levels, 2);
    while pair.sorted.len() > leaf::CAPACITY {
        pair.remove(leaf::CAPACITY);
    }
    assert_eq!(pair.tree.levels, 0);
    for i in 0..3 {
        pair.insert(i * 8 + 5, i * 8 + 6, 0);
        pair.check();
    }
    assert_eq!(pair.tree.levels, 1);
}

#[test]
fn a_refused_reservation_leaves_everything_as_it_was() {
    for len in [0, 20, 24, 400, 5_000] {
        for left in 0..40 {
            let mut pair = Pair::new();
            for i in 0..len {
                pair.reserve(1);
                pair.insert(i * 8, i * 8 + 4, 0);
            }
            pair.heap.0.left.set(Some(left));
            let before = pair.heap.0.alive.get();
            let refused = pair.tree.reserve(&pair.heap, 8).is_err();
            pair.check();
            if refused {
                assert_eq!(pair.heap.0.alive.get(), before);
            } else {
                for i in 0..8 {
                    pair.insert(i * 80 + 5, i * 80 + 7, 0);
                }
                pair.check();
                break;
            }
        }
        if cfg!(miri) && len == 24 {
            break;
        }
    }
}

#[test]
fn more_than_can_be_reserved_is_refused() {
    let mut pair = Pair::new();
    assert!(pair.tree.reserve(&pair.heap, super::MAX_ROOM + 1).is_err());
    assert_eq!(pair.heap.0.alive.get(), 0);
}

#[test]
fn a_guard_keeps_others_away_from_below() {
    let mut pair = Pair::new();
    for (start, end, guard) in [(100, 200, 0), (1000, 1100, 300), (2000, 2100, 5000)] {
        pair.reserve(1);
        pair.insert(start, end, guard);
    }
    assert_eq!(pair.tree.find_gap_below(100, 2000, 0), Some(600));
    assert_eq!(pair.tree.find_gap_below(501, 2000, 0), None);
    assert_eq!(pair.tree.find_gap_above(500, 150, 2000), Some(200));
    assert_eq!(pair.tree.find_gap_above(501, 150, 5000), Some(2100));
    // The guard counts at a ceiling inside it, too.
    assert_eq!(pair.tree.find_gap_below(100, 900, 0), Some(600));
    pair.check();
}

#[test]
#[should_panic(expected = "an insertion without room")]
#[cfg(debug_assertions)]
fn an_insertion_without_room_is_a_bug() {
    let mut pair = Pair::new();
    pair.insert(0, 1, 0);
}

#[test]
fn changes_of_many_at_once_visit_each_leaf_a_few_times() {
    let mut pair = Pair::new();
    fill(&mut pair, 0..MANY);
    let leaves = pair.heap.0.alive.get() as u64;
    let (heap, tree) = (&pair.heap, &mut pair.tree);
    let mut seen = 0;
    let visits = heap.visits(|| tree.update_all(0, u64::MAX, |_| seen += 1));
    assert_eq!(seen, MANY);
    assert!(visits < 4 * leaves, "{visits} visits by a change of all");
    let visits = heap.visits(|| tree.remove_all(0, u64::MAX));
    assert_eq!(tree.len(), 0);
    assert!(visits < FEW * leaves, "{visits} visits by a removal of all");
}

/// Slabs of nodes, and the frames they come from. Values of threads are none of the tests' business.
fn slabs(pages: u64) -> (&'static &'static Slabs<Plain>, &'static frame::Frames) {
    use std::sync::Mutex;
    static KEPT: Mutex<Vec<&'static &'static Slabs<Plain>>> = Mutex::new(Vec::new());

    let frames = arena::frames(pages);
    let slabs: &'static Slabs<Plain> = Box::leak(Box::new(Slabs::new(frames)));
    let slabs: &'static &'static _ = Box::leak(Box::new(slabs));
    KEPT.lock().unwrap().push(slabs);
    (slabs, frames)
}

/// The least value.
#[derive(Debug)]
struct Plain(u64);

impl Extent for Plain {
    fn start(&self) -> u64 {
        self.0
    }
    fn end(&self) -> u64 {
        self.0 + 1
    }
    fn guarded_start(&self) -> u64 {
        self.0
    }
}

#[test]
fn nodes_come_from_frames_and_go_back() {
    let (slabs, frames) = slabs(256);
    let mut tree: Tree<Plain, _> = Tree::new();
    let many = if cfg!(miri) { 200 } else { 4_000 };
    for i in 0..many {
        tree.reserve(slabs, 1).unwrap();
        tree.insert(Plain(i * 2));
    }
    assert_eq!(tree.find(many), Some(&Plain(many)));
    assert!(frames.stats().of(Class::Slab) > 0);
    drop(tree);
    assert_eq!(frames.stats().of(Class::Slab), 0);
}

#[test]
fn without_frames_the_reservation_is_refused() {
    let (slabs, frames) = slabs(if cfg!(miri) { 8 } else { 64 });
    let mut tree: Tree<Plain, _> = Tree::new();
    let mut len = 0;
    while tree.reserve(slabs, 2).is_ok() {
        tree.insert(Plain(len));
        len += 1;
    }
    assert_eq!(tree.len() as u64, len);
    assert!(tree.iter_from(0).map(|value| value.0).eq(0..len));
    drop(tree);
    assert_eq!(frames.stats().of(Class::Slab), 0);
}

impl PartialEq for Plain {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
