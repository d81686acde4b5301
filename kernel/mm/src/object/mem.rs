//! Shared memory.

use core::sync::atomic::Ordering;

use arm64::addr::{PAGE_SHIFT, PAGE_SIZE, Pfn};
use frame::slab::{Ref, SlabBox};
use frame::{Bytes, FramePins, FreshFrame, UserFrame};
use sync::atomic::{AtomicU32, AtomicU64};
use sync::planted::{self, Fault};
use sync::{SpinGuard, SpinLock, rank};

use super::account::Account;
use super::image::ImageObject;
use super::mappings::Mappings;
use super::name::Name;
use super::pager::Pager;
use super::store::{Objects, Remains};
use super::tree::{MAX_PAGES, PageTree};

/// Most bytes of an object.
pub const MAX_SIZE: u64 = MAX_PAGES << PAGE_SHIFT;

bitflags::bitflags! {
    /// What may not be done to an object any more (`F_ADD_SEALS`, with its numbers).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Seals: u32 {
        /// Add seals.
        const SEAL = 0x01;
        /// Make it shorter.
        const SHRINK = 0x02;
        /// Make it longer.
        const GROW = 0x04;
        /// Change contents.
        const WRITE = 0x08;
        /// Change contents, but through mappings that exist.
        const FUTURE_WRITE = 0x10;
        /// Change whether it can be executed.
        const EXEC = 0x20;
    }
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectError {
    /// No memory.
    NoMemory,
    /// More than [`MAX_SIZE`].
    TooLarge,
    /// A seal forbids it.
    Sealed,
    /// It is mapped writable: writing cannot be sealed.
    Mapped,
    /// Another change of its pages is under way: park and begin again.
    Busy,
    /// The page is not there, and only the pager can give it: ask it and begin again.
    Absent,
    /// Only the pager gives pages to this object.
    Paged,
}

/// Why a page did not get into an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupplyError {
    /// There is a page already (somewhere in the range of a folio), or the range is none that a folio
    /// may have: it is not in one leaf of the tree.
    Raced,
    /// The object ends before.
    BeyondEnd,
    /// No memory for the place it would have, or more pages than whoever pays may have.
    NoMemory,
}

/// A memory object: what `memfd_create` and `mmap(MAP_SHARED | MAP_ANONYMOUS)` make.
pub struct MemObject {
    store: &'static Objects,
    number: u32,
    /// Changed under the lock only.
    size: AtomicU64,
    seals: AtomicU32,
    tree: PageTree,
    state: SpinLock<State, rank::Object>,
    remains: Option<SlabBox<Remains>>,
    name: Name,
    source: Source,
}

/// What pages begin as.
#[derive(Debug)]
pub(super) enum Source {
    /// Zeros.
    Zeros,
    /// The bytes of an image.
    Image(ImageObject),
    /// What the pager gives.
    Pager(Pager),
}

struct State {
    mappings: Mappings,
    /// Counts steps that moved or copied entries from one mapping to another: a visit of mappings
    /// that has let the lock go begins again when it has changed.
    moves: u64,
    /// A change of many pages is under way.
    taken: bool,
}

impl MemObject {
    pub(super) fn new(
        store: &'static Objects,
        number: u32,
        size: u64,
        remains: SlabBox<Remains>,
        name: Name,
        source: Source,
    ) -> Self {
        let state = State {
            mappings: Mappings::default(),
            moves: 0,
            taken: false,
        };
        Self {
            store,
            number,
            size: AtomicU64::new(size),
            seals: AtomicU32::new(Seals::SEAL.bits()),
            tree: PageTree::default(),
            state: SpinLock::new(state),
            remains: Some(remains),
            name,
            source,
        }
    }

    /// Has its pages counted for `account`. It is new: nobody else has it, and it has no pages.
    pub fn charge_to(this: &mut Ref<Self>, account: &Ref<Account>) {
        let alone = Ref::get_mut(this);
        debug_assert!(alone.is_some(), "an object that is in use already");
        if let Some(object) = alone {
            object.tree.charge_to(account.clone());
        }
    }

    /// Whether its pages begin as zeros: it is memory and nothing else.
    pub fn is_plain(&self) -> bool {
        matches!(self.source, Source::Zeros)
    }

    /// The pager, if pages come from one.
    #[inline(always)]
    pub(super) fn pager(&self) -> Option<&Pager> {
        match &self.source {
            Source::Pager(pager) => Some(pager),
            _ => None,
        }
    }

    /// Its number, which frames of its pages name as their owner; never 0.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Where it comes from.
    pub fn store(&self) -> &'static Objects {
        self.store
    }

    /// Size in bytes.
    #[inline]
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// What people know it by, in the map list.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Fills a fresh, zeroed page with what page `index` begins with: the bytes of the image, if
    /// there is one.
    pub fn fill(&self, index: u64, page: &mut [u8]) {
        if let Source::Image(image) = &self.source {
            image.fill(index << PAGE_SHIFT, page);
        }
    }

    /// Whether page `index` is there, without a lock.
    #[inline]
    pub fn is_resident(&self, index: u64) -> bool {
        index < self.pages() && !self.tree.is_absent(index)
    }

    /// References to the pages from `first` on that are there and inside of the object at this moment,
    /// into the places of `pins` that are in `wanted`; without a lock, for who holds that of a table
    /// (D5, check 4). The size is read before the pages: it shrinks before a visit waits for the
    /// table's lock.
    pub fn pin_group(&self, first: u64, wanted: u32, pins: &mut FramePins) {
        let end = match planted::is(Fault::AroundBeyondEnd) {
            true => MAX_PAGES,
            false => self.pages(),
        };
        let inside = usize::try_from(end.saturating_sub(first)).unwrap_or(usize::MAX);
        let places = (u32::BITS - wanted.leading_zeros()) as usize;
        self.tree.pin_group(first, inside.min(places), wanted, pins);
    }

    /// Whether none of the `count` pages from `first` on is there, and all lie inside.
    pub fn is_absent_block(&self, first: u64, count: u64) -> bool {
        first + count <= self.pages() && self.tree.are_absent(first, count)
    }

    /// Says that nothing in `[start, end)` of space `id` shows pages of the object any more. Where
    /// that cuts a mapping in two, a [`super::Room`] is held.
    pub(crate) fn forget(&self, id: u32, start: u64, end: u64) {
        self.with_mappings(|mappings| mappings.unlink(id, start, end));
    }

    /// Pages that hold a byte of it: the first index that faults must not reach.
    #[inline]
    pub fn pages(&self) -> u64 {
        self.size().div_ceil(PAGE_SIZE)
    }

    /// A reference to page `index` if it is there, without a lock.
    #[inline]
    pub fn resident(&self, index: u64) -> Option<UserFrame> {
        self.tree.pin(index)
    }

    /// Whether page `index` is `frame` and inside of the object at this moment: what is looked at
    /// again under the lock of a table before an entry is made (D5, check 4).
    #[inline]
    pub fn holds(&self, index: u64, frame: Pfn) -> bool {
        index < self.pages() && self.tree.holds(index, frame)
    }

    /// Pages that are there.
    pub fn resident_pages(&self) -> u64 {
        self.tree.resident()
    }

    /// Makes `frame` page `index`.
    ///
    /// # Errors
    /// [`SupplyError`]; the frame is freed.
    pub fn supply(&self, index: u64, frame: FreshFrame) -> Result<UserFrame, SupplyError> {
        debug_assert_eq!(frame.order(), 0, "a folio supplied as a page");
        self.supply_folio(index, frame)
    }

    /// Makes the frames of a block the pages from `first` on: all of them, or none.
    ///
    /// # Errors
    /// [`SupplyError`]; the block is freed.
    pub fn supply_folio(&self, first: u64, block: FreshFrame) -> Result<UserFrame, SupplyError> {
        self.insert(first, block, Self::pages)
    }

    /// As [`Self::supply`], beyond the end too: what `FALLOC_FL_KEEP_SIZE` asks for.
    pub(super) fn preallocate(&self, index: u64, frame: FreshFrame) -> Result<(), SupplyError> {
        self.insert(index, frame, |_| MAX_PAGES).map(drop)
    }

    #[inline(always)]
    fn insert(
        &self,
        first: u64,
        block: FreshFrame,
        limit: impl Fn(&Self) -> u64,
    ) -> Result<UserFrame, SupplyError> {
        let count = 1 << block.order();
        let fits = || match first.checked_add(count) {
            Some(end) if end <= limit(self) => Ok(()),
            _ if planted::is(Fault::SupplyBeyondEnd) => Ok(()),
            _ => Err(SupplyError::BeyondEnd),
        };
        fits()?;
        if count > self.tree.left() {
            return Err(SupplyError::NoMemory);
        }
        let place = self.tree.prepare(first, self.store);
        let place = place.map_err(|_| SupplyError::NoMemory)?;
        if count > place.room() {
            return Err(SupplyError::Raced);
        }
        let frame = block.into_object(self.number);
        let ours = frame.clone();
        let state = self.state.lock();
        let put = fits().map(|()| place.put(ours, count));
        drop(state);
        match put {
            Ok(Ok(())) => Ok(frame),
            Ok(Err(_ours)) => Err(SupplyError::Raced),
            Err(error) => Err(error),
        }
    }

    /// The seals.
    pub fn seals(&self) -> Seals {
        Seals::from_bits_truncate(self.seals.load(Ordering::Acquire))
    }

    /// Allows sealing, before anybody else knows of the object: it begins with the seals `first`
    /// instead of [`Seals::SEAL`].
    pub fn allow_sealing(&self, first: Seals) {
        self.seals.store(first.bits(), Ordering::Release);
    }

    /// Adds seals.
    ///
    /// # Errors
    /// [`ObjectError::Sealed`] if there may be no more; [`ObjectError::Mapped`] if writing is to be
    /// sealed while a shared mapping may write.
    pub fn add_seals(&self, more: Seals) -> Result<(), ObjectError> {
        let state = self.state.lock();
        let seals = self.seals();
        if seals.contains(Seals::SEAL) {
            return Err(ObjectError::Sealed);
        }
        let writing = more.contains(Seals::WRITE) && !seals.contains(Seals::WRITE);
        if writing && state.mappings.is_writable() {
            return Err(ObjectError::Mapped);
        }
        self.seals.store((seals | more).bits(), Ordering::Release);
        Ok(())
    }

    /// Whether contents may not be changed by those who come now.
    pub fn is_write_sealed(&self) -> bool {
        self.seals().intersects(Seals::WRITE | Seals::FUTURE_WRITE)
    }

    /// Whether a change of many pages is under way: what a thread looks at again after it queued
    /// itself.
    pub fn is_busy(&self) -> bool {
        self.state.lock().taken
    }

    /// Writes `bytes`, which lie in one page, at byte `at`. The object becomes longer if they end
    /// behind its end.
    ///
    /// `reach` is where the part of the whole write ends that lies in this page: it is refused as a
    /// whole when the object may not become so long.
    ///
    /// # Errors
    /// [`ObjectError`]; [`ObjectError::Busy`] for a write behind the end while pages are being taken
    /// out there: what is written must not be among them.
    pub fn write(&self, at: u64, bytes: &[u8], reach: u64) -> Result<(), ObjectError> {
        let offset = (at % PAGE_SIZE) as usize;
        let fill = |page: &mut FreshFrame| {
            page.bytes_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        let write = |page: &UserFrame| page.write(offset, bytes);
        self.write_with(at, bytes.len(), reach, fill, write)
    }

    /// As [`Self::write`], from a page of memory.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_bytes(&self, at: u64, bytes: Bytes<'_>, reach: u64) -> Result<(), ObjectError> {
        let offset = (at % PAGE_SIZE) as usize;
        let fill = |page: &mut FreshFrame| page.copy_from(offset, bytes);
        let write = |page: &UserFrame| page.copy_from(offset, bytes);
        self.write_with(at, bytes.len, reach, fill, write)
    }

    /// Writes `len` bytes at byte `at`: by `fill` to memory that nobody else sees yet, or by `write`
    /// to the page that is there.
    #[inline(always)]
    fn write_with(
        &self,
        at: u64,
        len: usize,
        reach: u64,
        fill: impl Fn(&mut FreshFrame),
        write: impl Fn(&UserFrame),
    ) -> Result<(), ObjectError> {
        if reach > MAX_SIZE {
            return self.may_write(&self.state.lock(), reach);
        }
        let place = self.tree.prepare(at / PAGE_SIZE, self.store);
        let place = place.map_err(|_| ObjectError::NoMemory)?;
        loop {
            let fresh = match place.is_empty() {
                true if self.waits_for_pager(at / PAGE_SIZE, len) => {
                    return Err(ObjectError::Absent);
                }
                true => Some(self.written(len, &fill)?),
                false => None,
            };
            let state = self.state.lock();
            self.may_write(&state, reach)?;
            let put = fresh.is_some_and(|page| place.put(page, 1).is_ok());
            if !put {
                // Taken out since it was looked for: one is made.
                let Some(page) = place.pin() else {
                    continue;
                };
                write(&page);
                self.note_written(&page);
            }
            let end = at + len as u64;
            if end > self.size() {
                self.size.store(end, Ordering::Release);
            }
            return Ok(());
        }
    }

    /// A new page that `fill` writes `len` bytes of; the others are zeros.
    #[inline(always)]
    fn written(
        &self,
        len: usize,
        fill: impl Fn(&mut FreshFrame),
    ) -> Result<UserFrame, ObjectError> {
        if self.tree.left() == 0 {
            return Err(ObjectError::NoMemory);
        }
        let whole = len == PAGE_SIZE as usize;
        let fresh = self.store.frames().alloc_fresh(0, !whole);
        let mut fresh = fresh.map_err(|_| ObjectError::NoMemory)?;
        fill(&mut fresh);
        let page = fresh.into_object(self.number);
        self.note_written(&page);
        Ok(page)
    }

    /// Whether a write that ends at byte `reach` is allowed now.
    fn may_write(&self, state: &State, reach: u64) -> Result<(), ObjectError> {
        if self.is_write_sealed() {
            return Err(ObjectError::Sealed);
        }
        if reach <= self.size() {
            return Ok(());
        }
        self.may_grow(reach)?;
        match state.taken {
            true => Err(ObjectError::Busy),
            false => Ok(()),
        }
    }

    /// Reads from byte `at` into the front of `bytes`, to the end of a page or of the object at
    /// most. Returns how many bytes; none at the end.
    pub fn read(&self, at: u64, bytes: &mut [u8]) -> usize {
        let count = self.readable(at, bytes.len());
        let bytes = &mut bytes[..count];
        match self.resident(at / PAGE_SIZE) {
            Some(page) => page.read((at % PAGE_SIZE) as usize, bytes),
            None => bytes.fill(0),
        }
        count
    }

    /// Of `len` bytes from `at` on, those that lie in the first page and in the object.
    pub fn readable(&self, at: u64, len: usize) -> usize {
        let left = self.size().saturating_sub(at);
        len.min(left.min(PAGE_SIZE - at % PAGE_SIZE) as usize)
    }

    /// The first index from `from` on at which a page may be, if `present`, or may be missing, if
    /// not. One leaf is looked at, so that the search of a large object can go in steps.
    pub fn search(&self, from: u64, present: bool) -> u64 {
        match present {
            true => self.tree.skip_absent(from),
            false => self.tree.skip_present(from),
        }
    }

    fn may_grow(&self, size: u64) -> Result<(), ObjectError> {
        match size > MAX_SIZE {
            true => Err(ObjectError::TooLarge),
            false if self.seals().contains(Seals::GROW) => Err(ObjectError::Sealed),
            false => Ok(()),
        }
    }

    /// Locks the object for a step that moves or copies entries from one mapping of it to another,
    /// and counts the step (D14). Two objects are locked in the order of their addresses.
    pub fn lock_for_move(&self) -> MoveGuard<'_> {
        let mut state = self.state.lock_nested((&raw const *self).addr() as u64);
        state.moves += 1;
        MoveGuard { _state: state }
    }

    /// Pieces that the reverse map has.
    pub fn mapping_count(&self) -> usize {
        self.state.lock().mappings.len()
    }

    pub(super) fn tree(&self) -> &PageTree {
        &self.tree
    }

    /// The lock, for who puts pages into places that are empty and are to stay so until then.
    pub(super) fn lock(&self) -> StateGuard<'_> {
        StateGuard(self.state.lock())
    }

    pub(super) fn reserve(&self, places: usize, writable: bool) -> Result<(), ObjectError> {
        let mut state = self.state.lock();
        if writable && self.is_write_sealed() {
            return Err(ObjectError::Sealed);
        }
        state.mappings.reserve(places, writable)
    }

    /// Runs `look` under the lock.
    pub(super) fn with_mappings<R>(&self, look: impl FnOnce(&mut Mappings) -> R) -> R {
        look(&mut self.state.lock().mappings)
    }

    /// As [`Self::with_mappings`], with the count of moves.
    pub(super) fn visit<R>(&self, look: impl FnOnce(&Mappings, u64) -> R) -> R {
        let state = self.state.lock();
        look(&state.mappings, state.moves)
    }
}

impl Drop for MemObject {
    fn drop(&mut self) {
        let tree = core::mem::take(&mut self.tree);
        self.store.end(tree, self.remains.take());
    }
}

impl core::fmt::Debug for MemObject {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (number, size) = (self.number, self.size());
        let resident = self.resident_pages();
        write!(f, "MemObject({number}: {size} bytes, {resident} pages)")
    }
}

/// An object locked: no page is put into it by anybody else, and its end stays where it is.
pub(super) struct StateGuard<'a>(
    #[expect(dead_code, reason = "held")] SpinGuard<'a, State, rank::Object>,
);

/// An object locked while entries move. Faults on its pages and visits of its mappings wait.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct MoveGuard<'a> {
    _state: SpinGuard<'a, State, rank::Object>,
}

impl core::fmt::Debug for MoveGuard<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MoveGuard")
    }
}

/// The right to change many pages of an object, over many steps. One has it at a time.
#[derive(Debug)]
pub(super) struct Turn {
    object: Ref<MemObject>,
}

impl Turn {
    /// Takes the object for a change; `check` decides under the lock and has the first effect.
    pub(super) fn take(
        object: &Ref<MemObject>,
        check: impl FnOnce(&MemObject) -> Result<(), ObjectError>,
    ) -> Result<Self, ObjectError> {
        let mut state = object.state.lock();
        if state.taken {
            return Err(ObjectError::Busy);
        }
        check(object)?;
        state.taken = true;
        drop(state);
        Ok(Self {
            object: object.clone(),
        })
    }

    pub(super) fn object(&self) -> &Ref<MemObject> {
        &self.object
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.object.state.lock().taken = false;
    }
}

/// What a turn may decide when it is taken, and what it does at its end.
impl MemObject {
    /// Changes the size, as the holder of the lock.
    pub(super) fn set_size(&self, size: u64) -> Result<(), ObjectError> {
        let old = self.size();
        if size > old {
            self.may_grow(size)?;
        } else if size < old && self.seals().contains(Seals::SHRINK) {
            return Err(ObjectError::Sealed);
        }
        self.size.store(size, Ordering::Release);
        Ok(())
    }

    /// Whether the object may become `size` bytes long.
    pub(super) fn may_become(&self, size: u64) -> Result<(), ObjectError> {
        match size > self.size() {
            true => self.may_grow(size),
            false => Ok(()),
        }
    }

    /// The size at the end of a change that held the turn: nobody has made it longer meanwhile.
    pub(super) fn grow_to(&self, size: u64) -> Result<(), ObjectError> {
        let _state = self.state.lock();
        if size > self.size() {
            self.may_grow(size)?;
            self.size.store(size, Ordering::Release);
        }
        Ok(())
    }
}
