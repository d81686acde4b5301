//! `ftruncate`: shrink the size, visit the mappings, free the pages (D5, D14).

use arm64::addr::PAGE_SIZE;
use frame::slab::Ref;
use sync::planted::{self, Fault};

use super::mappings::UnmapReason;
use super::mem::{MemObject, ObjectError, Turn};
use super::tree::MAX_PAGES;
use super::visit::Visit;

/// A change of an object's size. The new size holds from the beginning; what is left to do is to
/// take away the pages behind it.
#[derive(Debug)]
#[must_use = "pages behind the end come back when the object grows, unless this is stepped to its end"]
pub struct Resize {
    turn: Turn,
    size: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Visit(Visit),
    Free { at: u64 },
    Done,
}

impl Resize {
    /// Sets the size.
    ///
    /// # Errors
    /// [`ObjectError`]; nothing has changed then.
    pub fn begin(object: &Ref<MemObject>, size: u64) -> Result<Self, ObjectError> {
        let mut old = 0;
        let turn = Turn::take(object, |object| {
            old = object.size();
            match planted::is(Fault::ShrinkLate) && size < old {
                true => Ok(()),
                false => object.set_size(size),
            }
        })?;
        let first = size.div_ceil(PAGE_SIZE);
        let visit = Visit::new(first, MAX_PAGES, UnmapReason::Truncated, true);
        let phase = match size > old {
            true => Phase::Done,
            false => Phase::Visit(visit),
        };
        Ok(Self { turn, size, phase })
    }

    /// Does about `budget` pages; true when all is done.
    pub fn step(&mut self, budget: u32) -> bool {
        let mut left = budget.max(1);
        let object = self.turn.object();
        while left > 0 {
            match &mut self.phase {
                Phase::Visit(visit) => {
                    let skipped = planted::is(Fault::FreeWithoutVisit);
                    if skipped || visit.step(object, &mut left) {
                        if planted::is(Fault::ShrinkLate) {
                            let _late = object.set_size(self.size);
                        }
                        object.clear_from(self.size);
                        let at = self.size.div_ceil(PAGE_SIZE);
                        self.phase = Phase::Free { at };
                    }
                }
                Phase::Free { at } => {
                    left -= 1;
                    *at = object.tree().skip_absent(*at);
                    if *at >= MAX_PAGES {
                        self.phase = Phase::Done;
                    } else {
                        drop(object.tree().take(*at));
                    }
                }
                Phase::Done => return true,
            }
        }
        matches!(self.phase, Phase::Done)
    }
}

impl MemObject {
    /// Clears the rest of the page of which byte `from` is not the first.
    fn clear_from(&self, from: u64) {
        let offset = from % PAGE_SIZE;
        if offset != 0 {
            self.clear(from, PAGE_SIZE - offset);
        }
    }

    /// Clears `len` bytes from `from` on, which lie in one page, if the page is there.
    pub(super) fn clear(&self, from: u64, len: u64) {
        if let Some(page) = self.resident(from / PAGE_SIZE) {
            page.clear((from % PAGE_SIZE) as usize, len as usize);
            self.note_written(&page);
        }
    }
}
