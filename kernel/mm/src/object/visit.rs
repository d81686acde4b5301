//! Visiting all mappings of a range of pages (D14).

use alloc::sync::Arc;

use sync::planted::{self, Fault};

use super::mappings::{Mapper, Mappings, UnmapReason, Unmapping};
use super::mem::MemObject;

/// Pieces that are passed over for the price of one page.
const PASSED: usize = 16;

/// Taking pages out of all mappings, or making their entries clean, in steps. Between steps the lock of the object is free; if
/// entries were moved meanwhile the visit begins again, as they may have gone from where it has
/// yet to come to where it has been.
#[derive(Debug)]
pub(super) struct Visit {
    first: u64,
    end: u64,
    action: Action,
    /// Space and address to go on at.
    at: (u32, u64),
    moves: u64,
}

impl Visit {
    /// A visit of what maps pages from `first` to before `end`; private copies too if `copies`.
    pub(super) fn new(first: u64, end: u64, reason: UnmapReason, copies: bool) -> Self {
        Self::with(first, end, Action::Unmap { reason, copies })
    }

    /// A visit of the same that makes entries clean.
    pub(super) fn cleaning(first: u64, end: u64) -> Self {
        Self::with(first, end, Action::Clean)
    }

    fn with(first: u64, end: u64, action: Action) -> Self {
        Self {
            first,
            end,
            action,
            at: (0, 0),
            moves: 0,
        }
    }

    /// Goes on until `budget` is spent; true when all is done.
    pub(super) fn step(&mut self, object: &MemObject, budget: &mut u32) -> bool {
        while *budget > 0 {
            // The reference is dropped with no lock held: it may be the space's last.
            let step = object.visit(|mappings, moves| self.one(object, mappings, moves, budget));
            match step {
                One::Done => return true,
                One::More(_space) => {}
            }
        }
        false
    }

    fn one(
        &mut self,
        object: &MemObject,
        mappings: &Mappings,
        moves: u64,
        budget: &mut u32,
    ) -> One {
        if moves != self.moves && !planted::is(Fault::IgnoreMoves) {
            (self.moves, self.at) = (moves, (0, 0));
        }
        *budget = budget.saturating_sub(1);
        let rest = mappings.from(mappings.position(self.at.0, self.at.1));
        let limit = PASSED * (*budget as usize + 1);
        for (passed, piece) in rest.iter().enumerate() {
            if passed == limit {
                *budget = 0;
                return One::More(None);
            }
            let from = match piece.id == self.at.0 {
                true => self.at.1,
                false => 0,
            };
            self.at = (piece.id, piece.end);
            let Some((start, end)) = piece.part(self.first, self.end, from) else {
                continue;
            };
            let Some(space) = piece.space.upgrade() else {
                continue;
            };
            let reached = match self.action {
                Action::Clean => space.clean(start, end, object.number(), budget),
                Action::Unmap { reason, copies } => {
                    let what = Unmapping {
                        start,
                        end,
                        reason,
                        object: object.number(),
                        copies,
                    };
                    space.unmap(&what, budget)
                }
            };
            if reached < end {
                self.at.1 = reached;
            }
            return One::More(Some(space));
        }
        One::Done
    }
}

/// What is done to the entries.
#[derive(Clone, Copy, Debug)]
enum Action {
    Unmap { reason: UnmapReason, copies: bool },
    Clean,
}

/// What came of a visit of one piece.
enum One {
    Done,
    More(Option<Arc<dyn Mapper>>),
}
