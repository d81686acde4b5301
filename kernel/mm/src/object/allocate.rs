//! `fallocate` without a hole: every page of the range comes into being.

use arm64::addr::PAGE_SIZE;
use frame::slab::Ref;

use super::mem::{MAX_SIZE, MemObject, ObjectError, SupplyError, Turn};

/// Pages being made.
#[derive(Debug)]
#[must_use = "pages are made by stepping"]
pub struct Allocate {
    turn: Turn,
    at: u64,
    end: u64,
    /// The size afterwards, if the object is shorter.
    size: u64,
}

impl Allocate {
    /// Begins to make the pages of `len` bytes from `start` on; with `keep_size` the object does not
    /// become longer, but has to be allowed to.
    ///
    /// # Errors
    /// [`ObjectError`]; nothing has changed then. More pages than there are free frames are refused
    /// at once.
    pub fn begin(
        object: &Ref<MemObject>,
        start: u64,
        len: u64,
        keep_size: bool,
    ) -> Result<Self, ObjectError> {
        let end = start.checked_add(len).filter(|&end| end <= MAX_SIZE);
        let end = end.ok_or(ObjectError::TooLarge)?;
        if object.is_paged() {
            return Err(ObjectError::Paged);
        }
        let turn = Turn::take(object, |object| object.may_become(end))?;
        let (at, last) = (start / PAGE_SIZE, end.div_ceil(PAGE_SIZE));
        let free = object.store().frames().stats().free;
        if last - at > free + object.resident_pages() {
            return Err(ObjectError::NoMemory);
        }
        Ok(Self {
            turn,
            at,
            end: last,
            size: if keep_size { 0 } else { end },
        })
    }

    /// Does about `budget` pages. None: there is more to do.
    ///
    /// The result is an error when frames ran out; pages that were made stay.
    pub fn step(&mut self, budget: u32) -> Option<Result<(), ObjectError>> {
        let object = self.turn.object();
        for _ in 0..budget.max(1) {
            self.at = object.tree().skip_present(self.at);
            if self.at >= self.end {
                return Some(object.grow_to(self.size));
            }
            if !object.tree().is_absent(self.at) {
                continue;
            }
            let fresh = object.store().frames().alloc_fresh(0, true);
            let made = match fresh {
                Ok(fresh) => object.preallocate(self.at, fresh),
                Err(_) => Err(SupplyError::NoMemory),
            };
            match made {
                Ok(()) | Err(SupplyError::Raced) => self.at += 1,
                Err(_) => return Some(Err(ObjectError::NoMemory)),
            }
        }
        None
    }
}
