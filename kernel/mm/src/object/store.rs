//! Where objects come from, and where large ones wait for their end.

use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use frame::slab::{Cache, Ref, SlabBox};
use frame::{Frames, OutOfMemory, PageSlots};
use sync::SpinLock;
use sync::atomic::AtomicU32;
use sync::rank;

use super::account::Account;
use super::image::ImageObject;
use super::mem::{MemObject, Source};
use super::name::Name;
use super::pager::{Pager, PagerLink};
use super::tree::{Inner, PageTree};
use crate::stats::Counter;

/// The memory of all objects of a machine.
#[derive(Debug)]
pub struct Objects {
    frames: &'static Frames,
    objects: Cache<MemObject>,
    leaves: Cache<PageSlots>,
    inners: Cache<Inner>,
    remains: Cache<Remains>,
    accounts: Cache<Account>,
    /// Page trees whose objects have ended.
    buried: SpinLock<Option<SlabBox<Remains>>, rank::Leaf>,
    /// How many: what is looked at on every way out of the kernel.
    graves: AtomicU32,
    next_number: AtomicU32,
    /// Objects that may have pages in tag storage, to be found by their numbers.
    stored: SpinLock<ArrayVec<Ref<MemObject>, STORED>, rank::Leaf>,
    pages_dropped: Counter,
    pages_written_back: Counter,
}

/// Most objects with pages in tag storage.
const STORED: usize = 64;

/// What an object leaves: made with it, so that its end needs no memory.
#[derive(Debug, Default)]
pub(super) struct Remains {
    tree: PageTree,
    next: Option<SlabBox<Self>>,
}

impl Objects {
    /// No objects, on `frames`.
    pub fn new(frames: &'static Frames) -> Self {
        let new = Self {
            frames,
            objects: Cache::new("memory objects"),
            leaves: Cache::new("page slots"),
            inners: Cache::new("page nodes"),
            remains: Cache::new("object remains"),
            accounts: Cache::new("object accounts"),
            buried: SpinLock::new(None),
            graves: AtomicU32::new(0),
            next_number: AtomicU32::new(0),
            stored: SpinLock::new(ArrayVec::new_const()),
            pages_dropped: Counter::default(),
            pages_written_back: Counter::default(),
        };
        new.objects.init(frames);
        new.leaves.init(frames);
        new.inners.init(frames);
        new.remains.init(frames);
        new.accounts.init(frames);
        new
    }

    /// A new account, for [`MemObject::charge_to`].
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn account(&'static self) -> Result<Ref<Account>, OutOfMemory> {
        self.accounts.alloc_ref(Account::new())
    }

    /// A new object of `size` bytes, without pages.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn create(&'static self, size: u64) -> Result<Ref<MemObject>, OutOfMemory> {
        self.create_named(size, Name::SHARED)
    }

    /// A new object of `size` bytes, without pages, that the map list calls `name`.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn create_named(
        &'static self,
        size: u64,
        name: Name,
    ) -> Result<Ref<MemObject>, OutOfMemory> {
        self.make(size, name, Source::Zeros)
    }

    /// A new object of `size` bytes whose pages come from a pager that the kernel knows by `key`. It is
    /// asked for runs of up to `window` pages, aligned alike: a power of two up to 64; others are
    /// rounded down.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn pager(
        &'static self,
        size: u64,
        key: u64,
        window: u32,
    ) -> Result<Ref<MemObject>, OutOfMemory> {
        self.make(size, Name::PAGER, Source::Pager(Pager::new(key, window)))
    }

    /// As [`Self::pager`], with something that the kernel keeps with the object.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn pager_with(
        &'static self,
        size: u64,
        key: u64,
        window: u32,
        link: PagerLink,
    ) -> Result<Ref<MemObject>, OutOfMemory> {
        let pager = Pager::new(key, window).with_link(link);
        self.make(size, Name::PAGER, Source::Pager(pager))
    }

    /// A new object whose pages begin as those of `image`.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn create_image(
        &'static self,
        image: ImageObject,
        name: Name,
    ) -> Result<Ref<MemObject>, OutOfMemory> {
        self.make(image.len(), name, Source::Image(image))
    }

    fn make(
        &'static self,
        size: u64,
        name: Name,
        source: Source,
    ) -> Result<Ref<MemObject>, OutOfMemory> {
        let remains = self.remains.alloc(Remains::default())?;
        let number = self.new_number();
        let object = MemObject::new(self, number, size, remains, name, source);
        self.objects.alloc_ref(object)
    }

    /// The frames that pages come from.
    pub fn frames(&self) -> &'static Frames {
        self.frames
    }

    /// Objects that exist.
    pub fn count(&self) -> u64 {
        self.objects.stats().objects
    }

    /// Clean pages that were dropped, to come from their pagers again.
    pub fn pages_dropped(&self) -> u64 {
        self.pages_dropped.get()
    }

    /// Written pages that pagers have collected.
    pub fn pages_written_back(&self) -> u64 {
        self.pages_written_back.get()
    }

    pub(super) fn count_dropped(&self, pages: u64) {
        self.pages_dropped.add(pages);
    }

    pub(super) fn count_written_back(&self, pages: u64) {
        self.pages_written_back.add(pages);
    }

    /// Whether pages of `object` may be put into tag storage: it can be found by its number from then on.
    /// Not if too many others have pages there.
    pub(crate) fn store_pages_of(&self, object: &Ref<MemObject>) -> bool {
        let is_it = |other: &Ref<MemObject>| Ref::ptr_eq(object, other);
        let mut stored = self.stored.lock();
        if stored.iter().any(is_it) {
            return true;
        }
        if stored.is_full() {
            drop(stored);
            self.sweep();
            stored = self.stored.lock();
        }
        stored.try_push(object.clone()).is_ok()
    }

    /// The object that may have pages in tag storage and has this number.
    pub(crate) fn stored(&self, number: u32) -> Option<Ref<MemObject>> {
        let stored = self.stored.lock();
        stored
            .iter()
            .find(|object| object.number() == number)
            .cloned()
    }

    /// Ends objects that nobody has any more but those who look for pages in tag storage.
    pub fn sweep(&self) {
        loop {
            let mut stored = self.stored.lock();
            let at = stored.iter().position(|object| Ref::count(object) == 1);
            let Some(at) = at else { return };
            let object = stored.swap_remove(at);
            // It ends with no lock held.
            drop(stored);
            drop(object);
        }
    }

    /// Forgets an object whose pages can never come again: they stay where they are.
    pub fn forget_stored(&self, object: &Ref<MemObject>) {
        let mut stored = self.stored.lock();
        let at = stored.iter().position(|other| Ref::ptr_eq(object, other));
        let forgotten = at.map(|at| stored.swap_remove(at));
        drop(stored);
        drop(forgotten);
    }

    /// Whether nothing waits for [`Self::reap`].
    pub fn is_reaped(&self) -> bool {
        self.graves.load(Ordering::Acquire) == 0
    }

    /// Frees about `budget` pages of objects that have ended; true if more are left.
    pub fn reap(&self, budget: u32) -> bool {
        let mut left = budget.max(1);
        while left > 0 && !self.is_reaped() {
            let Some(mut remains) = self.exhume() else {
                return false;
            };
            if !remains.tree.prune(&mut left) {
                self.bury(remains);
            }
        }
        !self.is_reaped()
    }

    pub(super) fn new_leaf(&'static self) -> Result<SlabBox<PageSlots>, OutOfMemory> {
        self.leaves.alloc(PageSlots::new(self.frames))
    }

    pub(super) fn new_inner(&'static self) -> Result<SlabBox<Inner>, OutOfMemory> {
        self.inners.alloc(Inner::default())
    }

    /// Ends a page tree, at once if that is little work.
    pub(super) fn end(&self, mut tree: PageTree, remains: Option<SlabBox<Remains>>) {
        let mut at_once = 64;
        if tree.prune(&mut at_once) {
            return;
        }
        if let Some(mut remains) = remains {
            remains.tree = tree;
            self.bury(remains);
        }
    }

    fn bury(&self, mut remains: SlabBox<Remains>) {
        let mut buried = self.buried.lock();
        remains.next = buried.take();
        *buried = Some(remains);
        self.graves.fetch_add(1, Ordering::Release);
    }

    fn exhume(&self) -> Option<SlabBox<Remains>> {
        let mut buried = self.buried.lock();
        let mut first = buried.take()?;
        *buried = first.next.take();
        self.graves.fetch_sub(1, Ordering::Release);
        Some(first)
    }

    /// Numbers are not zero; after 2^32 objects they repeat, and an old one may still be met.
    fn new_number(&self) -> u32 {
        let next = |number: u32| Some(number.checked_add(1).unwrap_or(1));
        let last = self
            .next_number
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        last.unwrap_or_else(|last| last).checked_add(1).unwrap_or(1)
    }
}
