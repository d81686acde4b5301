//! A pager gives pages of its own to an object: moved, not copied, where they are its alone (D17).
//!
//! The places in the object are found first and stay empty under its lock; then one table of the
//! source is visited, once for up to sixteen pages; what it gave up is flushed once; then the pages
//! change their owner. Nothing can come in between that would have to be undone, but want of memory
//! for a page that has to be copied: what was taken out behind it goes back.

use arm64::addr::{PAGE_SIZE, Pfn};
use arm64::attrs::{Attrs, MemType, Prot};
use arrayvec::ArrayVec;
use frame::slab::Ref;
use frame::{FramePins, Frames, FreshFrame, UserFrame};
use pgtable::{Gather, Leaf, Machine, PageAt, ReadSide, User, Visit, Zap, ZapReason};
use sync::planted::{self, Fault};

use crate::change::range;
use crate::fault::facts::Access;
use crate::object::{MemObject, SupplyError, Vacancy};
use crate::space::Space;
use crate::uaccess::CopyStop;
use crate::vma::{Vma, shows_tags};

/// Pages of one visit: those of a contiguous block.
const BATCH: usize = 16;
/// What a copy costs, in pages that move.
const COPY_COST: u64 = 4;

/// How far a supply has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Pages that the object has now, from the first on.
    pub pages: u64,
    /// Why not more. None: all are there, or the budget is spent.
    pub stop: Option<MoveStop>,
}

/// Why a supply ended at a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveStop {
    /// The object has that page already. To whoever waits for it, that is an answer too (law 11).
    Exists,
    /// The object ends before it.
    BeyondEnd,
    /// The supplier has no readable memory at the address.
    Fault,
    /// A change is about the supplier's memory, or it has to be asked for itself ([`crate::Asks`]):
    /// park, then go on.
    Busy,
    /// No memory.
    NoMemory,
}

impl From<SupplyError> for MoveStop {
    fn from(error: SupplyError) -> Self {
        match error {
            SupplyError::Raced => Self::Exists,
            SupplyError::BeyondEnd => Self::BeyondEnd,
            SupplyError::NoMemory => Self::NoMemory,
        }
    }
}

impl From<CopyStop> for MoveStop {
    fn from(stop: CopyStop) -> Self {
        match stop {
            CopyStop::Busy => Self::Busy,
            CopyStop::OutOfMemory => Self::NoMemory,
            CopyStop::Fault | CopyStop::Miss => Self::Fault,
        }
    }
}

/// The memory that pages come from, as it was under the map's lock.
struct Origin {
    end: u64,
    anonymous: bool,
    attrs: Attrs,
    epoch: u64,
}

/// Where one page comes from.
enum Source {
    /// Nowhere: it is zeros.
    Zeros,
    /// A page that stays where it is.
    Copy(UserFrame),
    /// What was taken out comes next.
    Taken,
}

/// Why a batch has to be begun again.
enum Again {
    Stop(MoveStop),
    /// The map has changed.
    Retired,
    /// A page is not there, and is none of anonymous memory.
    Missing(u64),
}

impl<E: Into<MoveStop>> From<E> for Again {
    fn from(error: E) -> Self {
        Self::Stop(error.into())
    }
}

/// What a batch came to.
struct Given {
    pages: u64,
    /// Of these, without a copy.
    moved: u64,
}

impl Given {
    /// In pages that move.
    const fn cost(&self) -> u64 {
        self.moved + COPY_COST * (self.pages - self.moved)
    }
}

/// What a batch is made of.
#[derive(Default)]
struct Batch {
    sources: ArrayVec<Source, BATCH>,
    /// What was taken out, in the opposite order: blocks, or pages that somebody else holds too.
    taken: ArrayVec<Result<FreshFrame, UserFrame>, BATCH>,
}

impl Batch {
    /// Of `pages` pages that were taken out, some of which others hold too.
    #[cold]
    fn of(pins: &mut FramePins, pages: u64) -> Self {
        let places = 0..pages as usize;
        let frames = pins.frames();
        let claimed = |page: UserFrame| {
            let mut alone = FramePins::new(frames);
            alone.put(0, page);
            match alone.claim() {
                Some(block) => Some(Ok(block)),
                None => alone.take(0).map(Err),
            }
        };
        Self {
            sources: places.clone().map(|_| Source::Taken).collect(),
            taken: places
                .rev()
                .filter_map(|place| pins.take(place))
                .filter_map(claimed)
                .collect(),
        }
    }
}

impl<M: Machine> Space<M> {
    /// Moves `pages` pages at `va` into `object`, to `index` and behind: about `budget` of them, or a quarter
    /// of that where they are copied. A page that is the space's alone goes without a copy; one that others hold or see too, or that
    /// belongs to a larger block, is copied; where nothing is, zeros are given. What is at `va`
    /// afterwards is what was there before, or zeros.
    pub fn move_pages(
        &self,
        va: u64,
        pages: u64,
        object: &Ref<MemObject>,
        index: u64,
        budget: u32,
    ) -> Moved {
        let (mut done, mut left, mut relieved) = (0, u64::from(budget.max(1)), false);
        let stop = loop {
            let most = left.min(pages - done);
            if most == 0 {
                break None;
            }
            let at = va.wrapping_add(done * PAGE_SIZE);
            let stop = match self.move_some(at, most, object, index.saturating_add(done)) {
                Ok(given) => {
                    done += given.pages;
                    left = left.saturating_sub(given.cost());
                    continue;
                }
                Err(Again::Retired) => continue,
                Err(Again::Missing(va)) => match self.touch(va, Access::Read) {
                    Ok(()) => continue,
                    Err(stop) => stop.into(),
                },
                Err(Again::Stop(MoveStop::NoMemory)) if !relieved => {
                    relieved = true;
                    self.relieve();
                    continue;
                }
                Err(Again::Stop(stop)) => stop,
            };
            break Some(stop);
        };
        Moved { pages: done, stop }
    }

    fn move_some(
        &self,
        va: u64,
        most: u64,
        object: &MemObject,
        index: u64,
    ) -> Result<Given, Again> {
        let stay = ();
        let section = self.machine().read_side(&stay);
        let origin = self.origin_of(va)?;
        let into = va / PAGE_SIZE % BATCH as u64;
        let here = (origin.end - va).div_ceil(PAGE_SIZE);
        let most = most.min(here).min(BATCH as u64 - into);
        let mut vacancy = object.vacancy(index, most)?;
        if let Some(given) = self.move_alone(va, &origin, &mut vacancy, &section)? {
            return Ok(given);
        }
        self.move_mixed(va, &origin, vacancy, &section)
    }

    /// Moves pages from that of `va` on as long as each is one by itself and nobody else's, which most
    /// are. None: the first is not.
    fn move_alone(
        &self,
        va: u64,
        origin: &Origin,
        vacancy: &mut Vacancy<'_>,
        section: &ReadSide<'_>,
    ) -> Result<Option<Given>, Again> {
        if planted::is(Fault::SupplyMapped) || planted::is(Fault::SupplyHeld) {
            return Ok(None);
        }
        let mut gather = Gather::new();
        let Some(leaf) = self.table().lock_existing(va, section) else {
            return Ok(None);
        };
        // D5, checks 1 and 2.
        if self.epochs().at(va) != origin.epoch {
            return Err(Again::Retired);
        }
        let taken = leaf.take_alone(va, vacancy.count() as usize, &mut gather);
        drop(leaf);
        let pages = taken.count();
        if pages == 0 {
            return Ok(None);
        }
        self.counters().pages_unmapped.add(pages);
        let flushed = gather.flush(self.table());
        let number = vacancy.object().number();
        let (given, mut pins) = taken.give_to(self.machine(), number, &flushed);
        if given != (1 << pages) - 1 {
            let batch = Batch::of(&mut pins, pages);
            return self.finish(va, batch, origin, vacancy, section).map(Some);
        }
        vacancy.put_group(pages, &mut pins);
        self.counters().pages_supplied_moved.add(pages);
        Ok(Some(Given {
            pages,
            moved: pages,
        }))
    }

    /// Moves or copies, as it is for each page.
    #[inline(never)]
    fn move_mixed(
        &self,
        va: u64,
        origin: &Origin,
        mut vacancy: Vacancy<'_>,
        section: &ReadSide<'_>,
    ) -> Result<Given, Again> {
        let mut batch = Batch::default();
        self.take_out(va, vacancy.count(), origin, &mut batch, section)?;
        self.finish(va, batch, origin, &mut vacancy, section)
    }

    /// Gives what was taken out, and puts back what cannot be given.
    #[inline(never)]
    fn finish(
        &self,
        va: u64,
        mut batch: Batch,
        origin: &Origin,
        vacancy: &mut Vacancy<'_>,
        section: &ReadSide<'_>,
    ) -> Result<Given, Again> {
        let wanted = batch.sources.len() as u64;
        let given = self.give(&mut batch, vacancy);
        if given.pages < wanted {
            let left = va + given.pages * PAGE_SIZE;
            self.put_back(left, batch, origin, section);
        }
        match given.pages {
            0 => Err(Again::Stop(MoveStop::NoMemory)),
            _ => Ok(given),
        }
    }

    fn origin_of(&self, va: u64) -> Result<Origin, MoveStop> {
        let map = self.map().lock();
        if !va.is_multiple_of(PAGE_SIZE) {
            return Err(MoveStop::Fault);
        }
        if map.is_busy(va) {
            self.context().asks().forget();
            return Err(MoveStop::Busy);
        }
        let area = map.areas.find(va).ok_or(MoveStop::Fault)?;
        if !area.prot.contains(Prot::READ) || area.backing.is_device() {
            return Err(MoveStop::Fault);
        }
        Ok(Origin {
            end: area.end,
            anonymous: area.backing.is_anon(),
            attrs: mapped(area),
            epoch: self.epochs().at(va),
        })
    }

    /// Finds out where `count` pages from `va` on come from, and takes out what can move.
    fn take_out(
        &self,
        va: u64,
        count: u64,
        origin: &Origin,
        batch: &mut Batch,
        section: &ReadSide<'_>,
    ) -> Result<(), Again> {
        let range = range(va, va + count * PAGE_SIZE).ok_or(MoveStop::Fault)?;
        let mut gather = Gather::new();
        let visit = self.table().cursor(range, section).visit();
        // D5, checks 1 and 2.
        if self.epochs().at(va) != origin.epoch {
            return Err(Again::Retired);
        }
        match visit {
            Some(Visit::Table(leaf)) => self.take_pages(leaf, va, origin, batch, &mut gather)?,
            Some(Visit::Block(block)) => {
                let pages = (block.from()..block.to()).step_by(PAGE_SIZE as usize);
                let page = |at| self.table().pin(at, section).ok();
                // A block is changed under the lock that is held: what is pinned stays what it is.
                let pinned = pages.map_while(page).map(Source::Copy);
                batch.sources.extend(pinned.take(BATCH));
            }
            Some(Visit::Absent(_)) | None if origin.anonymous => {
                batch.sources.extend((0..count).map(|_| Source::Zeros));
            }
            Some(Visit::Absent(_)) | None => return Err(Again::Missing(va)),
        }
        if batch.sources.is_empty() {
            return Err(Again::Missing(va));
        }
        if gather.is_empty() {
            return Ok(());
        }
        self.counters().pages_unmapped.add(gather.page_count());
        let flushed = gather.flush(self.table());
        gather.hand_over(self.machine(), &flushed, |page| batch.taken.push(page));
        // The first comes last, to be taken first.
        batch.taken.reverse();
        Ok(())
    }

    /// [`Self::take_out`] from a table.
    fn take_pages(
        &self,
        mut leaf: Leaf<'_, User, M>,
        va: u64,
        origin: &Origin,
        batch: &mut Batch,
        gather: &mut Gather,
    ) -> Result<(), Again> {
        let frames = self.machine().frames();
        let end = leaf.to();
        let mut at = va;
        while at < end {
            let left = (end - at) / PAGE_SIZE;
            let source = match leaf.page_at(at) {
                PageAt::Nothing if origin.anonymous => Source::Zeros,
                PageAt::Special => Source::Zeros,
                PageAt::Nothing | PageAt::Other => break,
                PageAt::Page(pfn) => match movable(&leaf, frames, at, pfn, left) {
                    0 | 1 if planted::is(Fault::SupplyMapped) => match frames.try_pin_user(pfn) {
                        Some(page) => Source::Copy(page),
                        None => break,
                    },
                    0 => match frames.try_pin_user(pfn) {
                        Some(page) => Source::Copy(page),
                        None => break,
                    },
                    pages => {
                        let rest = (1..pages).map(|_| Source::Taken);
                        batch.sources.extend(rest);
                        at += (pages - 1) * PAGE_SIZE;
                        Source::Taken
                    }
                },
            };
            batch.sources.push(source);
            at += PAGE_SIZE;
        }
        if at == va {
            return Err(Again::Missing(va));
        }
        self.zap_taken(&mut leaf, va, batch, gather);
        Ok(())
    }

    /// Takes the pages that are to move out of the table, run by run.
    fn zap_taken(&self, leaf: &mut Leaf<'_, User, M>, va: u64, batch: &Batch, gather: &mut Gather) {
        let zap = Zap::anonymous(ZapReason::DontNeed);
        let taken = |index: usize| matches!(batch.sources.get(index), Some(Source::Taken));
        let mut index = 0;
        while index < batch.sources.len() {
            let behind = (index..).find(|&at| !taken(at)).unwrap_or(index);
            if behind > index {
                let at = |index: usize| va + index as u64 * PAGE_SIZE;
                leaf.narrow(at(index), at(behind));
                let reached = leaf.zap(zap, gather);
                debug_assert_eq!(reached, at(behind), "a batch is more than a gather holds");
            }
            index = behind.max(index + 1);
        }
    }

    /// Puts what the batch is made of into the places; how many pages. It is less than all only for
    /// want of memory; what is left is in the batch then.
    fn give(&self, batch: &mut Batch, places: &mut Vacancy<'_>) -> Given {
        let (mut given, mut moved) = (0, 0);
        while let Some(source) = batch.sources.get(given) {
            let block = match source {
                Source::Zeros => self.machine().frames().alloc_fresh(0, true).ok(),
                Source::Copy(page) => self.give_held(page, places, Fault::SupplyMapped),
                Source::Taken => match batch.taken.pop() {
                    None => None,
                    Some(Ok(block)) => {
                        moved += 1 << block.order();
                        Some(block)
                    }
                    Some(Err(page)) => {
                        let copy = self.give_held(&page, places, Fault::SupplyHeld);
                        if copy.is_none() {
                            batch.taken.push(Err(page));
                        }
                        copy
                    }
                },
            };
            let Some(block) = block else { break };
            given += 1 << block.order();
            places.put(block);
        }
        batch.sources.drain(..given);
        let pages = given as u64;
        self.counters().pages_supplied_moved.add(moved);
        self.counters().pages_supplied_copied.add(pages - moved);
        Given { pages, moved }
    }

    /// A copy of a page that others hold too.
    fn give_held(
        &self,
        page: &UserFrame,
        places: &mut Vacancy<'_>,
        planted: Fault,
    ) -> Option<FreshFrame> {
        let mut fresh = self.machine().frames().alloc_fresh(0, false).ok()?;
        fresh.copy_page(0, page);
        if planted::is(planted) {
            places.put_held(page.clone());
        }
        Some(fresh)
    }

    /// Maps again what was taken out from `va` on and found no place, where nothing has come since and
    /// the area is what it was.
    #[cold]
    fn put_back(&self, va: u64, mut batch: Batch, origin: &Origin, section: &ReadSide<'_>) {
        let attrs = origin.attrs;
        let still = || self.epochs().at(va) == origin.epoch;
        let Ok(leaf) = self.table().lock_leaf(va, section, still) else {
            return;
        };
        let mut index = 0;
        while let Some(source) = batch.sources.get(index) {
            let at = va + index as u64 * PAGE_SIZE;
            index += 1;
            if !matches!(source, Source::Taken) {
                continue;
            }
            // What cannot be mapped, as something has come to its place, is dropped: it was the
            // program's to write there meanwhile.
            match batch.taken.pop() {
                Some(Ok(block)) => {
                    let pages = 1 << block.order();
                    // Those that were mapped with tags have them still.
                    match block.still_tagged() {
                        Ok(block) => drop(leaf.install_folio(at, block, pages, attrs, None)),
                        Err(block) => drop(leaf.install_folio(at, block, pages, attrs, None)),
                    }
                    index += pages - 1;
                }
                Some(Err(page)) => match page.tag_backed() {
                    Ok(page) => drop(leaf.install(at, page, attrs)),
                    Err(page) => drop(leaf.install(at, page, attrs)),
                },
                None => break,
            }
        }
    }
}

/// How pages of an area are mapped again that were taken out.
fn mapped(area: &Vma) -> Attrs {
    let attrs = Attrs::user(area.prot).with_young(true).with_dirty(true);
    match shows_tags(area.prot, area.flags) {
        true => attrs.with_mem(MemType::Tagged),
        false => attrs,
    }
}

/// How many pages from that at `at` on are one block that the entries of the table have all
/// references to, and that is nobody else's: of `left` at most. 0: it cannot move.
fn movable<M: Machine>(
    leaf: &Leaf<'_, User, M>,
    frames: &'static Frames,
    at: u64,
    pfn: Pfn,
    left: u64,
) -> u64 {
    let Some(held) = frames.held(pfn) else {
        return 0;
    };
    let pages = 1 << held.order;
    let alone = u64::from(held.references) == pages || planted::is(Fault::SupplyHeld);
    let own = held.owner == 0 && held.first == pfn && alone;
    let follows = |page| leaf.page_at(at + page * PAGE_SIZE) == PageAt::Page(pfn.add(page));
    match own && pages <= left && (1..pages).all(follows) {
        true => pages,
        false => 0,
    }
}
