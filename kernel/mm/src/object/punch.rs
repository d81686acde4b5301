//! `fallocate(FALLOC_FL_PUNCH_HOLE)`: unmap the range, then detach, visit again and free page by
//! page (D14).
//!
//! The first visit is for speed: it takes most entries out in long runs. Faults may bring entries
//! back until their page is detached, so each page is visited again after that; no entry for it
//! can be made any more then (D5, check 4).

use arm64::addr::PAGE_SIZE;
use frame::UserFrame;
use frame::slab::Ref;
use sync::planted::{self, Fault};

use super::mappings::UnmapReason;
use super::mem::{MAX_SIZE, MemObject, ObjectError, Turn};
use super::visit::Visit;

/// A hole being punched.
#[derive(Debug)]
#[must_use = "a hole is punched by stepping"]
pub struct Punch {
    turn: Turn,
    /// First byte, and first byte behind.
    start: u64,
    end: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    PreUnmap(Visit),
    Detach {
        at: u64,
    },
    Again {
        page: UserFrame,
        visit: Visit,
        at: u64,
    },
    Done,
}

impl Punch {
    /// Begins a hole of `len` bytes from `start` on. Bytes of pages that are in it in part are
    /// cleared, whole pages go; private copies stay.
    ///
    /// # Errors
    /// [`ObjectError`]; nothing has changed then.
    pub fn begin(object: &Ref<MemObject>, start: u64, len: u64) -> Result<Self, ObjectError> {
        let turn = Turn::take(object, |object| match object.is_write_sealed() {
            true => Err(ObjectError::Sealed),
            false => Ok(()),
        })?;
        let start = start.min(MAX_SIZE);
        let end = start.saturating_add(len).min(MAX_SIZE);
        let mut punch = Self {
            turn,
            start,
            end,
            phase: Phase::Done,
        };
        let (first, last) = punch.pages();
        if first < last {
            punch.phase = Phase::PreUnmap(Visit::new(first, last, UnmapReason::Punch, false));
        } else {
            punch.clear_edges();
        }
        Ok(punch)
    }

    /// Whether the range has been unmapped and its pages are still there: where a test lets
    /// others run.
    pub fn is_unmapped(&self) -> bool {
        matches!(self.phase, Phase::Detach { at } if at == self.pages().0)
    }

    /// Does about `budget` pages; true when all is done. A step ends where the range has been
    /// unmapped for the first time.
    pub fn step(&mut self, budget: u32) -> bool {
        let mut left = budget.max(1);
        while left > 0 {
            let phase = core::mem::replace(&mut self.phase, Phase::Done);
            self.phase = match phase {
                Phase::PreUnmap(mut visit) => match visit.step(self.turn.object(), &mut left) {
                    true => {
                        left = 0;
                        self.clear_edges();
                        let at = self.pages().0;
                        Phase::Detach { at }
                    }
                    false => Phase::PreUnmap(visit),
                },
                Phase::Detach { at } => {
                    left -= 1;
                    self.detach(at)
                }
                Phase::Again {
                    page,
                    mut visit,
                    at,
                } => match visit.step(self.turn.object(), &mut left) {
                    true => {
                        drop(page);
                        Phase::Detach { at }
                    }
                    false => Phase::Again { page, visit, at },
                },
                Phase::Done => return true,
            };
        }
        matches!(self.phase, Phase::Done)
    }

    fn detach(&self, at: u64) -> Phase {
        let tree = self.turn.object().tree();
        let at = tree.skip_absent(at);
        if at >= self.pages().1 {
            return Phase::Done;
        }
        match tree.take(at) {
            None => Phase::Detach { at },
            Some(_) if planted::is(Fault::DetachWithoutVisit) => Phase::Detach { at },
            Some(page) => Phase::Again {
                page,
                visit: Visit::new(at, at + 1, UnmapReason::Punch, false),
                at: at + 1,
            },
        }
    }

    /// The pages that lie in the hole as a whole.
    fn pages(&self) -> (u64, u64) {
        (self.start.div_ceil(PAGE_SIZE), self.end / PAGE_SIZE)
    }

    fn clear_edges(&self) {
        let object = self.turn.object();
        let up = self.start.next_multiple_of(PAGE_SIZE);
        if up > self.end {
            return object.clear(self.start, self.end - self.start);
        }
        if up > self.start {
            object.clear(self.start, up - self.start);
        }
        let down = self.end / PAGE_SIZE * PAGE_SIZE;
        if self.end > down {
            object.clear(down, self.end - down);
        }
    }
}
