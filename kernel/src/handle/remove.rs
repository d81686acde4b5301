//! `madvise(MADV_REMOVE)`: holes in the objects that a range of addresses shows.

use frame::slab::Ref;
use mm::object::{ObjectError, Punch};
use mm::{MmError, Piece};

use super::changes;
use crate::errno::Errno;
use crate::thread::{Resume, Step, Thread};

/// Pages that one step may work on.
const BUDGET: u32 = 48;

/// What is left of it. A hole that is being punched has its object's turn.
#[derive(Debug)]
pub struct Remove {
    at: u64,
    end: u64,
    /// Something of the range is not mapped: reported at the end, as on Linux.
    gap: bool,
    punch: Option<Punch>,
}

impl Remove {
    /// `[at, end)`.
    pub fn new(at: u64, end: u64) -> Self {
        Self {
            at,
            end,
            gap: false,
            punch: None,
        }
    }

    /// Goes on with a hole, or begins the next.
    pub fn step(mut self, thread: &Ref<Thread>) -> Step {
        if let Some(punch) = &mut self.punch {
            if punch.step(BUDGET) {
                self.punch = None;
                changes::wake();
            }
            return thread.more(Resume::Remove(self));
        }
        if self.at >= self.end {
            return Step::Done(match self.gap {
                true => Err(Errno::ENOMEM),
                false => Ok(0),
            });
        }
        let space = thread.process().space();
        match space.piece_to_remove(self.at, self.end) {
            Err(MmError::Busy) => thread.busy(Resume::Remove(self)),
            Err(error) => Step::Done(Err(error.into())),
            Ok(Piece::Hole { next }) => {
                self.gap = true;
                self.at = next;
                thread.more(Resume::Remove(self))
            }
            Ok(Piece::Object {
                object,
                start,
                next,
            }) => match Punch::begin(&object, start, next - self.at) {
                Ok(punch) => {
                    self.punch = Some(punch);
                    self.at = next;
                    thread.more(Resume::Remove(self))
                }
                Err(ObjectError::Busy) => changes::wait(thread, &object, Resume::Remove(self)),
                Err(error) => Step::Done(Err(error.into())),
            },
        }
    }
}
