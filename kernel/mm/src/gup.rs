//! Pinning user memory of any space, its own or another's, and copies from space to space (D4).
//!
//! First without a lock, as far as that goes; then the page that it stopped at is made accessible by
//! the ordinary fault path, and it goes on from there (GUP-26). A reference keeps the page that was
//! mapped, not the mapping: nothing outlives the step that took it (D3), so a page that the program
//! writes meanwhile, or copies to write it, is the same program's a moment earlier.

use arm64::UserAddr;
use arm64::addr::{PAGE_SIZE, Pfn};
use frame::Bytes;
use pgtable::{Decline, Machine, Walked};
use sync::planted::{self, Fault};

use crate::fault::facts::Access;
use crate::space::Space;
use crate::stats::Counters;
use crate::uaccess::{CopyStop, PINS, Pins, in_page};

/// Pages that one step copies where pages fall on pages (law 16).
const PAGES: u64 = PINS as u64;
/// The same where they do not: such a copy is many times as dear, four instructions for each byte.
const PAGES_APART: u64 = 2;

/// Bytes that one step may move between byte `at` of an object or a space and `va` (law 16).
pub fn step_len(at: u64, va: u64) -> u64 {
    let pages = match (at ^ va).is_multiple_of(PAGE_SIZE) {
        true => PAGES,
        false => PAGES_APART,
    };
    pages * PAGE_SIZE - va % PAGE_SIZE
}

/// How far pinning without a lock came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GupFast {
    /// Pages pinned.
    pub pinned: usize,
    /// Why no more of them: all were, or there was no room.
    pub declined: Option<Decline>,
}

impl<M: Machine> Space<M> {
    /// Adds references to the pages of `len` bytes at `va` to `pins`, as many as there is room for, up
    /// to the first for which the fault path is needed. `access` is a read or a write; for a write
    /// the pages are those that the program's own writes go to, never a copy's original.
    ///
    /// Whoever writes to a page does it by its address and under the lock of its table (law 17).
    pub fn gup_fast(&self, va: u64, len: u64, access: Access, pins: &mut Pins) -> GupFast {
        let stay = ();
        let section = self.machine().read_side(&stay);
        let count = (va % PAGE_SIZE).saturating_add(len).div_ceil(PAGE_SIZE);
        let (before, write) = (pins.len(), access == Access::Write);
        let declined = self.table().gup_fast(va, count, write, pins, &section);
        let pinned = pins.len() - before;
        self.counters().gup_fast.add(pinned as u64);
        if let Some(decline) = declined {
            self.counters().count_decline(decline);
        }
        GupFast { pinned, declined }
    }

    /// References to the pages of `len` bytes at `va`: to the first, and to as many that follow as
    /// there is room for in `pins` and no fault is needed for. Where the first takes a fault it is
    /// the only one: a step of bounded length (law 16). Returns how many, at least one unless `len`
    /// is 0. `foreign`: for another process, which the rights of the areas bind.
    ///
    /// # Errors
    /// [`CopyStop`], of the first page. [`CopyStop::Busy`]: nothing is held; park and ask again.
    pub fn gup(
        &self,
        va: u64,
        len: u64,
        access: Access,
        foreign: bool,
        pins: &mut Pins,
    ) -> Result<usize, CopyStop> {
        pins.clear();
        let mut left = match foreign && !planted::is(Fault::GupUnasked) {
            true => self.foreign_reach(va, len, access)?,
            false => len,
        };
        let mut at = va;
        while left != 0 && !pins.is_full() {
            let fast = self.gup_fast(at, left, access, pins);
            let Some(decline) = fast.declined else { break };
            let passed = skip(at, left, fast.pinned);
            (at, left) = passed;
            if decline == Decline::Special && self.add_zeros(at, access, pins)? {
                (at, left) = skip(at, left, 1);
                continue;
            }
            if !pins.is_empty() {
                break;
            }
            self.counters().gup_slow.bump();
            self.touch(at, access)?;
            left = in_page(at, left);
        }
        Ok(pins.len())
    }

    /// Adds the page of zeros that all share to `pins` if it is what a read at `va` finds.
    ///
    /// # Errors
    /// [`CopyStop::Fault`]: the first page is one that is not counted, and not that page.
    fn add_zeros(&self, va: u64, access: Access, pins: &mut Pins) -> Result<bool, CopyStop> {
        let zeros = self.context().zeros();
        match self.special_at(va) {
            Some(pfn) if pfn != zeros.pfn() && pins.is_empty() => Err(CopyStop::Fault),
            Some(pfn) if pfn == zeros.pfn() && access == Access::Read => {
                // It is never written and never freed: no second look.
                pins.push(zeros.page(0));
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The page at `va`, if it is one that is not counted.
    fn special_at(&self, va: u64) -> Option<Pfn> {
        let stay = ();
        let walked = self.table().walk(va, &self.machine().read_side(&stay));
        match walked {
            Walked::Seen { value, .. } if value.special() => {
                let pa = walked.address(va, self.machine().format());
                pa.map(|pa| pa.pfn())
            }
            _ => None,
        }
    }

    /// How many of `len` bytes at `va` another process may access like this, as far as one area tells.
    ///
    /// # Errors
    /// [`CopyStop`], of the first.
    fn foreign_reach(&self, va: u64, len: u64, access: Access) -> Result<u64, CopyStop> {
        let end = self.foreign_access(va, access)?;
        Ok(len.min(end - va))
    }

    /// Copies from this space at `va` to the space `to` at `to_va`, which may be the same one: the front
    /// of `len` bytes, as much as one step may. Returns how many, at least one unless `len` is 0.
    ///
    /// `remote` is what is done to the other process's memory: a read, if it is this one's; a write,
    /// if it is `to`'s. Its areas' rights bind. What is read is held by references, what is written
    /// is locked, a page at a time (D4).
    ///
    /// # Errors
    /// [`CopyStop`]; nothing was copied.
    pub fn copy_across(
        &self,
        at: impl Into<UserAddr>,
        to: &Self,
        to_at: impl Into<UserAddr>,
        len: u64,
        remote: Access,
    ) -> Result<u64, CopyStop> {
        let (at, to_at) = (at.into(), to_at.into());
        let (va, to_va) = (at.va(), to_at.va());
        let reads_foreign = remote == Access::Read;
        let mut len = len.min(step_len(va, to_va));
        if !reads_foreign && !planted::is(Fault::GupUnasked) {
            len = to.foreign_reach(to_va, len, Access::Write)?;
        }
        let mut pages = Pins::new();
        self.gup(va, len, Access::Read, reads_foreign, &mut pages)?;
        len = self.reach_of(at, len, &pages)?;
        let mut moved = 0;
        while moved < len {
            let into = va % PAGE_SIZE + moved;
            let Some(page) = pages.get((into / PAGE_SIZE) as usize) else {
                break;
            };
            let start = (into % PAGE_SIZE) as usize;
            let len = in_page(into, len - moved) as usize;
            let bytes = Bytes { page, start, len };
            moved += match to.copy_bytes_out(to_at.further(moved), bytes, moved == 0) {
                Ok(count) => count as u64,
                Err(_) if moved > 0 => break,
                Err(stop) => return Err(stop),
            };
        }
        Ok(moved)
    }
}

/// What follows the first `pages` pages of `left` bytes at `at`.
fn skip(at: u64, left: u64, pages: usize) -> (u64, u64) {
    let passed = (pages as u64 * PAGE_SIZE).saturating_sub(at % PAGE_SIZE);
    (at + passed, left.saturating_sub(passed))
}

impl Counters {
    #[cold]
    fn count_decline(&self, decline: Decline) {
        let counter = match decline {
            Decline::NotPresent => &self.gup_declined_not_present,
            Decline::NoAccess => &self.gup_declined_no_access,
            Decline::NoRight => &self.gup_declined_no_right,
            Decline::NotYoung => &self.gup_declined_not_young,
            Decline::NotDirty => &self.gup_declined_not_dirty,
            Decline::Special => &self.gup_declined_special,
            Decline::RacedLeaf => &self.gup_declined_raced_leaf,
            Decline::RacedParent => &self.gup_declined_raced_parent,
            Decline::ReferenceRefused => &self.gup_declined_reference_refused,
            Decline::BeyondRange => &self.gup_declined_beyond_range,
        };
        counter.bump();
    }
}
