//! `madvise(MADV_COLLAPSE)`: putting pages together into folios of 2 MiB, one block after another.
//!
//! The areas are busy meanwhile, so that nobody maps or unmaps a page of the block. It is
//! write-protected and copied into a fresh folio in steps; then the folio's pages take the places of
//! the old ones, one by one, and at last the table, which maps one folio now, becomes a block. A
//! collapse that ends early leaves every page with its contents.

use core::mem;

use arm64::addr::PAGE_SIZE;
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::Level;
use frame::{FreshFrame, Reservation, UserFrame};
use pgtable::{Gather, Machine, ReadSide, Walked};

use super::advised;
use crate::change::{Change, Work, range};
use crate::error::MmError;
use crate::fault::BLOCK_ORDER_2M;
use crate::policy::FOLIO_2M;
use crate::space::{Map, Space};
use crate::trace::Kind;
use crate::vma::{Vma, VmaFlags, shows_tags};

/// Pages of a block.
const PAGES: usize = (FOLIO_2M / PAGE_SIZE) as usize;
/// Pages copied, or cleared, in one step: 550 instructions each.
const PER_STEP: usize = 32;

/// A collapse under way.
#[derive(Debug)]
pub(crate) struct Collapse {
    /// The range that was asked for.
    range: (u64, u64),
    /// The block.
    at: u64,
    /// Its rights.
    prot: Prot,
    /// Whether its mappings show tags (TAG-31).
    tags: bool,
    state: State,
}

/// The folio, and storage for its tags if it is to have any.
#[derive(Debug)]
struct Target {
    folio: FreshFrame,
    reserved: Option<Reservation>,
}

impl Target {
    /// The folio, all pages of which are copied.
    fn whole(self) -> UserFrame {
        match self.reserved {
            Some(reserved) => self.folio.into_tagged(reserved).into_user().into_inner(),
            None => self.folio.into_user(),
        }
    }
}

/// What has become of the block.
#[derive(Debug)]
enum State {
    /// Nothing yet.
    Look,
    /// It is worth it, and there is a folio.
    Protect(Target),
    /// So many pages are copied.
    Copy(Target, usize),
    /// So many pages are in their places.
    Place(UserFrame, usize),
}

/// `small_only`: no fault of the space maps more than a page either, and so this does not.
pub(crate) fn begin(
    map: &mut Map,
    change: &mut Change,
    (addr, len): (u64, u64),
    small_only: bool,
) -> Result<(), MmError> {
    let Some((addr, end)) = advised(addr, len)? else {
        return Ok(());
    };
    // Areas before one that does not suit are worked on; a hole is reported at the end.
    let unsuitable = map
        .areas
        .overlapping(addr, end)
        .find(|area| small_only || !suits(area))
        .map(|area| area.start.max(addr));
    let whole = map.areas.covered_until(addr, end) == end;
    let (stop, error) = match unsuitable {
        Some(at) => (at, Some(MmError::Invalid)),
        None => (end, (!whole).then_some(MmError::NoMemory)),
    };
    change.carry(Work::Collapse(Collapse {
        range: (addr, stop),
        at: addr.next_multiple_of(FOLIO_2M),
        prot: Prot::empty(),
        tags: false,
        state: State::Look,
    }));
    if let Some(error) = error {
        change.fail_with(error);
    }
    Ok(())
}

/// Whether the area can have folios of 2 MiB: it has room for one, and nobody forbids them.
fn suits(area: &Vma) -> bool {
    let first = area.start.checked_next_multiple_of(FOLIO_2M);
    let room = first.is_some_and(|first| first + FOLIO_2M <= area.end);
    let forbidden = VmaFlags::NOHUGEPAGE | VmaFlags::UFFD;
    room && area.backing.is_anon() && !area.flags.intersects(forbidden)
}

impl Collapse {
    /// The range that was asked for.
    pub(crate) const fn range(&self) -> (u64, u64) {
        self.range
    }
}

/// A part of a block. Whether it is over, and the map let go.
pub(crate) fn step<M: Machine>(
    space: &Space<M>,
    collapse: &mut Collapse,
    section: &ReadSide<'_>,
) -> Result<bool, MmError> {
    let at = collapse.at;
    collapse.state = match mem::replace(&mut collapse.state, State::Look) {
        State::Look => return next_block(space, collapse, section),
        State::Protect(folio) => {
            protect(space, at, collapse.prot, section);
            State::Copy(folio, 0)
        }
        State::Copy(folio, PAGES) => State::Place(folio.whole(), 0),
        State::Copy(folio, ready) => copy(space, collapse, folio, ready, section),
        State::Place(_, PAGES) => {
            finish(space, at, section);
            collapse.at += FOLIO_2M;
            State::Look
        }
        State::Place(folio, placed) => place(space, collapse, folio, placed, section),
    };
    Ok(false)
}

/// Looks for the next block that is worth it: whole inside one area, with a page in it, and not a
/// block already.
fn next_block<M: Machine>(
    space: &Space<M>,
    state: &mut Collapse,
    section: &ReadSide<'_>,
) -> Result<bool, MmError> {
    let (_, end) = state.range;
    let (at, area) = {
        let mut map = space.map().lock();
        let area = map.areas.overlapping(state.at, end).next();
        let place = area.map(|area| {
            let tags = shows_tags(area.prot, area.flags);
            (state.at.max(area.start), area.end, (area.prot, tags))
        });
        match place {
            // Holes are passed over at once: a range may be far longer than what is in it.
            Some((at, stop, area)) if at.next_multiple_of(FOLIO_2M) + FOLIO_2M <= end => {
                let at = at.next_multiple_of(FOLIO_2M);
                (at, (at + FOLIO_2M <= stop).then_some(area))
            }
            _ => {
                map.let_go();
                return Ok(true);
            }
        }
    };
    state.at = at;
    let wanted = area.filter(|(prot, _)| !prot.is_empty() && holds_pages(space, at, section));
    let Some((prot, tags)) = wanted else {
        state.at = at + absent(space, at, section);
        return Ok(false);
    };
    let frames = space.machine().frames();
    let folio = frames.alloc_fresh(BLOCK_ORDER_2M, false);
    let folio = folio.map_err(|_| MmError::NoMemory)?;
    // Before anything changes (TAG-31).
    let reserved = match tags {
        true => Some(reserve(space, &folio)?),
        false => None,
    };
    let folio = Target { folio, reserved };
    (state.prot, state.tags) = (prot, tags);
    state.state = State::Protect(folio);
    Ok(false)
}

fn reserve<M: Machine>(space: &Space<M>, folio: &FreshFrame) -> Result<Reservation, MmError> {
    let reserved = space.context().reserve_tags(folio.pfn(), PAGES as u64);
    reserved.map_err(|_| MmError::NoMemory)
}

/// Bytes from `at`, where a block begins, in which there is nothing: a block, or as much as a table of a
/// higher level would have been for.
fn absent<M: Machine>(space: &Space<M>, at: u64, section: &ReadSide<'_>) -> u64 {
    match space.table().walk(at, section) {
        Walked::Miss { value, level } if value.is_none() && level.size() > FOLIO_2M => {
            level.size() - at % level.size()
        }
        _ => FOLIO_2M,
    }
}

/// From here on nothing in the block changes: who wants to write faults, and waits.
fn protect<M: Machine>(space: &Space<M>, mut at: u64, prot: Prot, section: &ReadSide<'_>) {
    let mut gather = Gather::new();
    let (readable, end) = (prot.difference(Prot::WRITE), at + FOLIO_2M);
    while let Some(rest) = range(at, end) {
        at = space.table().protect(rest, readable, &mut gather, section);
    }
    space.release(&mut gather);
}

fn holds_pages<M: Machine>(space: &Space<M>, start: u64, section: &ReadSide<'_>) -> bool {
    let (mut pages, mut block) = (false, false);
    let see = |_, walked| match walked {
        Walked::Seen { level, .. } => {
            pages |= level == Level::L3;
            block |= level != Level::L3;
        }
        Walked::Miss { value, .. } => block |= !value.is_none(),
    };
    space
        .table()
        .walk_range(start, start + FOLIO_2M, section, see);
    pages && !block
}

fn copy<M: Machine>(
    space: &Space<M>,
    collapse: &Collapse,
    mut target: Target,
    ready: usize,
    section: &ReadSide<'_>,
) -> State {
    let end = (ready + PER_STEP).min(PAGES);
    for page in ready..end {
        let va = collapse.at + page as u64 * PAGE_SIZE;
        match (page_at(space, va, section), collapse.tags) {
            (Some(from), false) => target.folio.copy_page(page, &from),
            (Some(from), true) => target.folio.copy_tagged_page(page, &from),
            (None, false) => target.folio.zero_page(page),
            (None, true) => target.folio.zero_tagged_pages(page, 1),
        }
    }
    State::Copy(target, end)
}

/// The page that is mapped at `va`, be it without access for want of tags. Nobody changes it meanwhile.
fn page_at<M: Machine>(space: &Space<M>, va: u64, section: &ReadSide<'_>) -> Option<UserFrame> {
    let pinned = space.table().pin(va, section).ok();
    pinned.or_else(|| space.table().lock_existing(va, section)?.hold(va))
}

/// Lets pages of the folio take the places of the old ones.
fn place<M: Machine>(
    space: &Space<M>,
    collapse: &Collapse,
    folio: UserFrame,
    placed: usize,
    section: &ReadSide<'_>,
) -> State {
    let attrs = Attrs::user(collapse.prot).with_young(true).with_dirty(true);
    let attrs = match collapse.tags {
        true => attrs.with_mem(MemType::Tagged),
        false => attrs,
    };
    let end = (placed + PER_STEP).min(PAGES);
    let mut gather = Gather::new();
    if let Some(leaf) = space.table().lock_existing(collapse.at, section) {
        for page in placed..end {
            let va = collapse.at + page as u64 * PAGE_SIZE;
            let frame = folio.page(page as u64);
            // It cannot come back: the value is read under the lock.
            let was = leaf.get(va);
            match frame.tag_backed() {
                Ok(frame) => drop(leaf.replace(va, was, frame, attrs, &mut gather)),
                Err(frame) => drop(leaf.replace(va, was, frame, attrs, &mut gather)),
            }
        }
    }
    space.release(&mut gather);
    State::Place(folio, end)
}

/// The table maps the folio, whole and in order: a block takes its place.
fn finish<M: Machine>(space: &Space<M>, at: u64, section: &ReadSide<'_>) {
    let mut gather = Gather::new();
    if space.table().collapse(at, &mut gather, section) {
        space.counters().pages_collapsed.add(PAGES as u64);
        space.tell(Kind::Collapse, at, FOLIO_2M);
    }
    space.release(&mut gather);
}
