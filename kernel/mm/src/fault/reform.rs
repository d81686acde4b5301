//! Making a folio of single pages later, where there was none to be had when they were faulted in.
//!
//! A fault that wished for a folio and got a page leaves the block's address. When a later fault of
//! the space gets a folio again, it takes one of these blocks along: if all of its pages are there
//! and nobody else's, they are copied together. That happens under the lock of their table, so that
//! no fault and no verb sees the block half done, and costs a bounded part of a stay.

use arm64::addr::PAGE_SIZE;
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::Level;
use arm64::pte::Entry;
use arrayvec::ArrayVec;
use frame::{FreshFrame, Reservation, UserFrame};
use pgtable::{Gather, Leaf, Machine, ReadSide, User, Zap, ZapReason};

use super::prepare::{FOLIO_ORDER, FOLIO_PAGES};
use crate::policy::{FOLIO_64K, block_of};
use crate::space::Space;
use crate::vma::shows_tags;

/// Blocks that are remembered; of more, the newest.
const REMEMBERED: usize = 32;

/// Blocks of a space whose pages wait for a folio.
#[derive(Debug, Default)]
pub(crate) struct Missed(ArrayVec<u64, REMEMBERED>);

impl Missed {
    fn remember(&mut self, start: u64) {
        if self.0.contains(&start) {
            return;
        }
        if self.0.is_full() {
            self.0.remove(0);
        }
        self.0.push(start);
    }
}

/// The pages of a block, and how they are all mapped.
struct Pages {
    frames: ArrayVec<UserFrame, FOLIO_PAGES>,
    prot: Prot,
    mem: MemType,
}

impl<M: Machine> Space<M> {
    /// There was no folio for the block around `va`.
    #[cold]
    pub(super) fn remember_missed(&self, va: u64) {
        self.missed().lock().remember(block_of(va, FOLIO_64K));
        self.set_has_missed(true);
    }

    /// Folios are to be had: one block that went without gets one.
    #[cold]
    pub(super) fn reform_one(&self, section: &ReadSide<'_>) {
        let next = {
            let mut missed = self.missed().lock();
            let next = missed.0.pop();
            self.set_has_missed(!missed.0.is_empty());
            next
        };
        let Some((start, tags)) = next.and_then(|start| Some((start, self.allows_folio(start)?)))
        else {
            return;
        };
        let Ok(folio) = self.machine().frames().alloc_fresh(FOLIO_ORDER, false) else {
            return self.remember_missed(start);
        };
        // Tags that pages have go with them.
        let reserved = match tags {
            false => None,
            true => match self.context().reserve_tags(folio.pfn(), FOLIO_PAGES as u64) {
                Ok(reserved) => Some(reserved),
                Err(_) => return self.remember_missed(start),
            },
        };
        let mut gather = Gather::new();
        if let Some(leaf) = self.table().lock_existing(start, section)
            && let Some(pages) = self.pages_of(&leaf, start)
            && (pages.mem == MemType::Tagged) == tags
        {
            self.reform(leaf, start, pages, (folio, reserved), &mut gather);
            self.counters().folios_reformed.bump();
        }
        self.release(&mut gather);
    }

    /// Whether an area and the policy allow a folio at `start`, as they are now; and whether with tags. The area may change
    /// before the pages are looked at: they are copied with the rights that they have.
    fn allows_folio(&self, start: u64) -> Option<bool> {
        let map = self.map().lock();
        let area = map.areas.find(start);
        area.and_then(|area| {
            let (folio, _) = self.context().policy().anon_sizes(area.flags);
            let allowed = folio
                && !map.is_busy(start)
                && area.backing.is_anon()
                && start + FOLIO_64K <= area.end
                && !self.small_pages_only();
            allowed.then(|| shows_tags(area.prot, area.flags))
        })
    }

    /// The pages of the block, if all are there, mapped alike, and this program's alone. The
    /// references keep others from taking them for theirs.
    fn pages_of(&self, leaf: &Leaf<'_, User, M>, start: u64) -> Option<Pages> {
        let mut frames = ArrayVec::new();
        let mut first = None;
        for page in 0..FOLIO_PAGES as u64 {
            let value = leaf.get(start + page * PAGE_SIZE);
            let (format, level) = (self.machine().format(), Level::L3);
            let Entry::Leaf { pa, attrs } = value.decode(format, level) else {
                return None;
            };
            let alike = attrs.with_young(true).with_dirty(true);
            if attrs.special || attrs.uffd_wp || *first.get_or_insert(alike) != alike {
                return None;
            }
            let frame = self.machine().frames().try_pin_user(pa.pfn())?;
            if frame.owner() != 0 || frame.order() != 0 || frame.references() != 2 {
                return None;
            }
            frames.push(frame);
        }
        let Attrs { prot, mem, .. } = first?;
        Some(Pages { frames, prot, mem })
    }

    /// Takes the pages out, copies them, and maps the folio in their place.
    fn reform(
        &self,
        mut leaf: Leaf<'_, User, M>,
        start: u64,
        pages: Pages,
        (mut folio, reserved): (FreshFrame, Option<Reservation>),
        gather: &mut Gather,
    ) {
        leaf.narrow(start, start + FOLIO_64K);
        leaf.zap(Zap::anonymous(ZapReason::Migrate), gather);
        let flushed = gather.flush(self.table());
        for (page, from) in pages.frames.iter().enumerate() {
            match pages.mem {
                MemType::Tagged => folio.copy_tagged_page(page, from),
                _ => folio.copy_page(page, from),
            }
            if pages.prot.contains(Prot::EXEC) {
                let pa = folio.pfn().add(page as u64).start();
                self.machine().sync_instructions(pa);
            }
        }
        let prot = pages.prot.difference(Prot::USER);
        let attrs = Attrs::user(prot).with_young(true).with_dirty(true);
        let attrs = attrs.with_mem(pages.mem);
        // The places have just been emptied under this lock.
        match reserved {
            Some(reserved) => {
                let folio = folio.into_tagged(reserved);
                drop(leaf.install_folio(start, folio, FOLIO_PAGES, attrs, None));
            }
            None => drop(leaf.install_folio(start, folio, FOLIO_PAGES, attrs, None)),
        }
        drop(leaf);
        gather.release(self.machine(), self.context().graveyard, &flushed);
    }
}
