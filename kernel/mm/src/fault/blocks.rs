//! Blocks of 2 MiB: cleared in parts, over several faults, and mapped when they are ready.
//!
//! Clearing 512 pages takes longer than one stay in the kernel may (law 16). A fault clears a part
//! and returns; the access faults again and goes on. Interrupts come in between, and nothing has to
//! be remembered of the thread: what is begun is kept with the space, by address.

use arm64::addr::PAGE_SIZE;
use arm64::geometry::Level;
use arrayvec::ArrayVec;
use frame::{Folio, FreshFrame, Reservation};
use pgtable::{LockError, Machine, ReadSide, TableError};
use sync::planted::{self, Fault};

use super::look::Found;
use super::{Applied, FaultInput, Undone};
use crate::policy::FOLIO_2M;
use crate::space::Space;

/// log2 of the pages of a block.
pub(crate) const BLOCK_ORDER_2M: u8 = 9;
const PAGES: usize = (FOLIO_2M / PAGE_SIZE) as usize;
/// Pages cleared in one fault, at 110 instructions each.
const PER_FAULT: usize = 256;
/// Blocks of one space that may be begun at once; a fault for another one takes less.
const BEGUN: usize = 8;

/// Blocks that faults of a space have begun to clear.
#[derive(Debug, Default)]
pub(crate) struct Pendings(ArrayVec<Pending, BEGUN>);

/// A block on its way.
#[derive(Debug)]
struct Pending {
    start: u64,
    folio: FreshFrame,
    cleared: usize,
    /// Storage for its tags, which are cleared too.
    reserved: Option<Reservation>,
}

impl Pendings {
    fn take(&mut self, start: u64) -> Option<Pending> {
        let at = self.0.iter().position(|pending| pending.start == start)?;
        Some(self.0.swap_remove(at))
    }
}

impl<M: Machine> Space<M> {
    /// Goes on with the block around the address, and maps it when it is ready.
    #[inline(never)]
    pub(super) fn fill_block(
        &self,
        input: FaultInput,
        found: &Found,
        section: &ReadSide<'_>,
    ) -> Result<Applied, Undone> {
        let start = input.va & !(FOLIO_2M - 1);
        let (begun, tags) = (self.pending().lock().take(start), found.area.tags);
        // An area that is to carry tags by now wants them cleared from the start.
        let mut pending = match begun.filter(|pending| pending.reserved.is_some() == tags) {
            Some(pending) => pending,
            None => self.begin_block(start, tags)?,
        };
        let end = (pending.cleared + PER_FAULT).min(PAGES);
        let (first, pages) = (pending.cleared, end - pending.cleared);
        match tags {
            false => pending.folio.zero_pages(first, pages),
            true => pending.folio.zero_tagged_pages(first, pages),
        }
        pending.cleared = end;
        if end < PAGES {
            // Dropped where as many others are on their way: then this fault takes less.
            let kept = self.pending().lock().0.try_push(pending);
            return kept.map(|()| Applied::Part).map_err(|_| Undone::NoFolio);
        }
        self.map_ready(input.va, pending, found, section)
    }

    /// All storage or none (TAG-20): without, smaller folios do.
    fn begin_block(&self, start: u64, tags: bool) -> Result<Pending, Undone> {
        let folio = self
            .machine()
            .frames()
            .alloc_fresh(BLOCK_ORDER_2M, false)
            .map_err(|_| Undone::NoFolio)?;
        let reserved = match tags {
            false => None,
            true => Some(
                self.context()
                    .reserve_tags(folio.pfn(), PAGES as u64)
                    .map_err(|_| Undone::NoFolio)?,
            ),
        };
        Ok(Pending {
            start,
            folio,
            cleared: 0,
            reserved,
        })
    }

    fn map_ready(
        &self,
        va: u64,
        pending: Pending,
        found: &Found,
        section: &ReadSide<'_>,
    ) -> Result<Applied, Undone> {
        let (start, folio) = (pending.start, pending.folio);
        match pending.reserved {
            None => self.map_whole(start, va, folio.into_user(), found, section),
            Some(reserved) => {
                let folio = folio.into_tagged(reserved).into_user();
                self.map_whole(start, va, folio, found, section)
            }
        }
    }

    fn map_whole<F: Folio>(
        &self,
        start: u64,
        va: u64,
        folio: F,
        found: &Found,
        section: &ReadSide<'_>,
    ) -> Result<Applied, Undone> {
        let attrs = found.area.attrs(found.area.prot);
        let attrs = attrs.with_young(true).with_dirty(true);
        let still = || self.is_current(found, va) || planted::is(Fault::BlockUnchecked);
        let table = self.table();
        match table.map_block(start, Level::L2, folio, attrs, section, still) {
            Ok(()) => Ok(Applied::Mapped(FOLIO_2M)),
            // Somebody has mapped a page there: it is for another look.
            Err((LockError::Retired | LockError::Table(TableError::Occupied), _ours)) => {
                Err(Undone::Retired)
            }
            Err((LockError::Table(_), _ours)) => Err(Undone::NoMemory),
        }
    }
}
