//! The pages of an object by index: a radix tree that is only ever added to.
//!
//! A node is published once and stays until the object ends, so a lookup needs neither a lock nor a
//! grace period. Small objects have small trees: the height of a page's path depends on its
//! index alone, so that the first 64 pages are one step away however large the object may become.
//!
//! Nodes come from slabs: the fault path makes them.

use core::sync::atomic::Ordering;

use frame::slab::{Ref, SlabBox};
use frame::{FramePins, OutOfMemory, PageSlots, UserFrame};
use sync::Once;
use sync::atomic::AtomicU64;

use super::account::Account;
use super::store::Objects;

/// log2 of the children of a node, and of the slots of a leaf. Under loom trees are toys.
const FAN_BITS: u32 = if cfg!(loom) { 1 } else { 6 };
const FAN: usize = 1 << FAN_BITS;
/// Pages of a leaf.
pub const LEAF_PAGES: u64 = FAN as u64;
/// Nodes on the longest path.
const HEIGHTS: usize = 5;
/// Pages that a tree can have: 2^40 bytes.
pub const MAX_PAGES: u64 = if cfg!(loom) { 1 << HEIGHTS } else { 1 << 28 };

const _: () = assert!(PageSlots::COUNT == FAN);
const _: () = assert!(MAX_PAGES <= 1 << (FAN_BITS as usize * HEIGHTS));

/// What hangs in a place for a node.
enum Node {
    Leaf(SlabBox<PageSlots>),
    Inner(SlabBox<Inner>),
}

/// A node with children.
#[derive(Default)]
pub struct Inner {
    children: Children,
}

struct Children([Once<Node>; FAN]);

impl Default for Children {
    fn default() -> Self {
        Self(core::array::from_fn(|_| Once::new()))
    }
}

/// The pages of one object.
#[derive(Default)]
pub struct PageTree {
    /// The root of height `h` has the pages from 64^`h` (from 0 for the first) to 64^(`h` + 1).
    roots: [Once<Node>; HEIGHTS],
    resident: Resident,
}

/// How many pages there are, and who pays for them.
#[derive(Default)]
struct Resident {
    pages: AtomicU64,
    account: Option<Ref<Account>>,
}

impl Resident {
    #[inline(always)]
    fn add(&self, pages: u64) {
        self.pages.fetch_add(pages, Ordering::Relaxed);
        if let Some(account) = &self.account {
            account.add(pages);
        }
    }

    fn remove(&self, pages: u64) {
        self.pages.fetch_sub(pages, Ordering::Relaxed);
        if let Some(account) = &self.account {
            account.remove(pages);
        }
    }
}

/// The place of one page, found once.
pub struct Place<'a> {
    leaf: &'a PageSlots,
    slot: usize,
    resident: &'a Resident,
}

impl Place<'_> {
    /// Whether it is empty at this moment.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.leaf.is_empty(self.slot)
    }

    /// A reference to the page.
    #[inline]
    pub fn pin(&self) -> Option<UserFrame> {
        self.leaf.pin(self.slot)
    }

    /// How many places from this one on are empty at this moment, of `most` at most, and no more than
    /// belong together.
    pub fn empty_run(&self, most: u64) -> u64 {
        let most = most.min(self.room()) as usize;
        let empty = (self.slot..self.slot + most).take_while(|&slot| self.leaf.is_empty(slot));
        empty.count() as u64
    }

    /// Puts the frames at the first `count` places of `pins` into it and the next ones, which are empty
    /// and belong together.
    ///
    /// # Panics
    /// If one is not empty.
    #[inline]
    pub fn put_group(&self, count: u64, pins: &mut FramePins) {
        self.leaf.put_group(self.slot, count as usize, pins);
        self.resident.add(count);
    }

    /// Goes on to the place `count` further, which belongs together with this one.
    pub fn advance(&mut self, count: u64) {
        self.slot += count as usize;
    }

    /// How many places there are from this one on that belong together.
    #[inline(always)]
    pub fn room(&self) -> u64 {
        (FAN - self.slot) as u64
    }

    /// Puts a page into it, and those behind it in its block into the next ones: `count`, at most
    /// [`Self::room`].
    ///
    /// # Errors
    /// The frame, if there is a page.
    #[inline]
    pub fn put(&self, frame: UserFrame, count: u64) -> Result<(), UserFrame> {
        self.leaf.put_run(self.slot, frame, count as usize)?;
        self.resident.add(count);
        Ok(())
    }
}

/// The height of the path to page `index`.
#[inline(always)]
fn height(index: u64) -> u32 {
    (index | 1).ilog2() / FAN_BITS
}

#[inline(always)]
fn digit(index: u64, height: u32) -> usize {
    (index >> (height * FAN_BITS)) as usize % FAN
}

/// The slot of page `index` in its leaf.
#[inline(always)]
fn slot(index: u64) -> usize {
    digit(index, 0)
}

impl PageTree {
    /// A reference to page `index`.
    #[inline]
    pub fn pin(&self, index: u64) -> Option<UserFrame> {
        self.leaf(index)?.pin(slot(index))
    }

    /// References to the pages from `first` on, of `count`, into the places of `pins` that are in
    /// `wanted`. One path is walked for each leaf.
    #[inline]
    pub fn pin_group(&self, first: u64, count: usize, wanted: u32, pins: &mut FramePins) {
        let mut place = 0;
        while place < count {
            let index = first + place as u64;
            let run = (FAN - slot(index)).min(count - place);
            if let Some(leaf) = self.leaf(index) {
                leaf.pin_group(slot(index), run, place, wanted, pins);
            }
            place += run;
        }
    }

    /// Whether page `index` is `frame` at this moment.
    #[inline]
    pub fn holds(&self, index: u64, frame: arm64::addr::Pfn) -> bool {
        self.leaf(index)
            .is_some_and(|leaf| leaf.holds(slot(index), frame))
    }

    /// Whether page `index` is not there at this moment.
    #[inline]
    pub fn is_absent(&self, index: u64) -> bool {
        self.leaf(index)
            .is_none_or(|leaf| leaf.is_empty(slot(index)))
    }

    /// Whether none of the `count` pages from `first` on is there at this moment. One path is walked for
    /// each leaf.
    #[inline]
    pub fn are_absent(&self, first: u64, count: u64) -> bool {
        let (mut at, end) = (first, first + count);
        while at < end {
            let behind = self.leaf_end(at).min(end);
            let count = (behind - at) as usize;
            if self
                .leaf(at)
                .is_some_and(|leaf| !leaf.are_empty(slot(at), count))
            {
                return false;
            }
            at = behind;
        }
        true
    }

    /// The run of absent pages around page `index`, which is taken to be one, in `[low, high)` of its
    /// leaf.
    pub fn absent_around(&self, index: u64, low: u64, high: u64) -> (u64, u64) {
        let Some(leaf) = self.leaf(index) else {
            return (low, high);
        };
        let absent = |&at: &u64| leaf.is_empty(slot(at));
        let before = (low..index).rev().take_while(absent).count() as u64;
        let behind = (index + 1..high).take_while(absent).count() as u64;
        (index - before, index + 1 + behind)
    }

    /// Pages that are there.
    pub fn resident(&self) -> u64 {
        self.resident.pages.load(Ordering::Relaxed)
    }

    /// Has its pages, of which there are none yet, counted for `account`.
    pub fn charge_to(&mut self, account: Ref<Account>) {
        debug_assert!(self.resident() == 0, "pages that nobody pays for");
        self.resident.account = Some(account);
    }

    /// How many more pages there may be.
    #[inline]
    pub fn left(&self) -> u64 {
        match &self.resident.account {
            None => u64::MAX,
            Some(account) => account.left(),
        }
    }

    /// Makes the nodes on the way to page `index`; the place that it has.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nodes that were made stay.
    #[inline]
    pub fn prepare(&self, index: u64, store: &'static Objects) -> Result<Place<'_>, OutOfMemory> {
        let leaf = self.make_leaf(index, store)?;
        Ok(Place {
            leaf,
            slot: slot(index),
            resident: &self.resident,
        })
    }

    /// Puts the page, and those behind it in its block, to `index` and behind, where `count` pages were
    /// just taken out and the lock of the object is held since.
    pub fn put_back(&self, index: u64, frame: UserFrame, count: u64) {
        let Some(leaf) = self.leaf(index) else { return };
        let put = leaf.put_run(slot(index), frame, count as usize);
        assert!(put.is_ok(), "a place was filled without the lock");
        self.resident.add(count);
    }

    /// Takes page `index` out.
    pub fn take(&self, index: u64) -> Option<UserFrame> {
        let frame = self.leaf(index)?.take(slot(index))?;
        self.resident.remove(1);
        Some(frame)
    }

    /// The first index from `from` on at which a page may be: all pages before are absent. It
    /// looks at one leaf, so the answer may be the first page of the next.
    pub fn skip_absent(&self, from: u64) -> u64 {
        let mut at = from;
        while at < MAX_PAGES {
            match self.find_leaf(at) {
                Ok(leaf) => {
                    let full = (slot(at)..FAN).find(|&index| !leaf.is_empty(index));
                    return at + (full.unwrap_or(FAN) - slot(at)) as u64;
                }
                Err(beyond) => at = beyond,
            }
        }
        MAX_PAGES
    }

    /// The first index from `from` on at which a page may be missing, within one leaf as
    /// [`Self::skip_absent`].
    pub fn skip_present(&self, from: u64) -> u64 {
        let Some(leaf) = self.leaf(from) else {
            return from;
        };
        let hole = (slot(from)..FAN).find(|&index| leaf.is_empty(index));
        from + (hole.unwrap_or(FAN) - slot(from)) as u64
    }

    /// The first index behind the leaf of page `index`.
    pub fn leaf_end(&self, index: u64) -> u64 {
        (index | (FAN as u64 - 1)) + 1
    }

    #[inline(always)]
    fn leaf(&self, index: u64) -> Option<&PageSlots> {
        self.find_leaf(index).ok()
    }

    /// The leaf of page `index`, or the first index that the missing node would not have had.
    #[inline]
    fn find_leaf(&self, index: u64) -> Result<&PageSlots, u64> {
        let mut height = height(index);
        let beyond = |height: u32| (index | ((1u64 << ((height + 1) * FAN_BITS)) - 1)) + 1;
        let root = self.roots.get(height as usize).ok_or(MAX_PAGES)?;
        let mut node = root.get().ok_or_else(|| beyond(height))?;
        loop {
            match node {
                Node::Leaf(leaf) => return Ok(leaf),
                Node::Inner(inner) => {
                    let child = &inner.children.0[digit(index, height)];
                    height -= 1;
                    node = child.get().ok_or_else(|| beyond(height))?;
                }
            }
        }
    }

    fn make_leaf(&self, index: u64, store: &'static Objects) -> Result<&PageSlots, OutOfMemory> {
        let mut height = height(index);
        let mut place = self.roots.get(height as usize).ok_or(OutOfMemory)?;
        loop {
            match place.try_call_once(|| store.node(height))? {
                Node::Leaf(leaf) => return Ok(leaf),
                Node::Inner(inner) => {
                    place = &inner.children.0[digit(index, height)];
                    height -= 1;
                }
            }
        }
    }

    /// Frees nodes with the pages in them until `budget` is spent; true when nothing is left.
    pub fn prune(&mut self, budget: &mut u32) -> bool {
        let freed = self.roots.iter_mut().all(|root| prune(root, budget));
        if freed {
            // All that is left to count, whatever was pruned before.
            self.resident.remove(self.resident());
        }
        freed
    }
}

impl Objects {
    fn node(&'static self, height: u32) -> Result<Node, OutOfMemory> {
        match height {
            0 => self.new_leaf().map(Node::Leaf),
            _ => self.new_inner().map(Node::Inner),
        }
    }
}

/// Frees what hangs in `place`, leaf by leaf; true when it is empty.
fn prune(place: &mut Once<Node>, budget: &mut u32) -> bool {
    match place.get_mut() {
        None => return true,
        Some(Node::Leaf(_)) if *budget == 0 => return false,
        Some(Node::Leaf(_)) => *budget = budget.saturating_sub(FAN as u32),
        Some(Node::Inner(inner)) => {
            if !inner
                .children
                .0
                .iter_mut()
                .all(|child| prune(child, budget))
            {
                return false;
            }
        }
    }
    *place = Once::new();
    true
}

impl core::fmt::Debug for PageTree {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PageTree({} pages)", self.resident())
    }
}

impl core::fmt::Debug for Inner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let children = self.children.0.iter().filter(|child| child.is_completed());
        write!(f, "Inner({} children)", children.count())
    }
}
