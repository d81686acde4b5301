//! Places of an object that are going to get pages.

use frame::{FramePins, FreshFrame, UserFrame};
use sync::planted::{self, Fault};

use super::mem::{MemObject, StateGuard, SupplyError};
use super::tree::Place;

/// Places that are empty and inside of the object, and stay both: its lock is held, which ranks above
/// tables (D15), so that pages can be taken out of some meanwhile.
pub(crate) struct Vacancy<'a> {
    object: &'a MemObject,
    place: Place<'a>,
    count: u64,
    _held: StateGuard<'a>,
}

impl MemObject {
    /// The places from `index` on that are empty, of `most` at most.
    ///
    /// # Errors
    /// [`SupplyError`]; [`SupplyError::Raced`] if there is a page already.
    pub(crate) fn vacancy(&self, index: u64, most: u64) -> Result<Vacancy<'_>, SupplyError> {
        if index >= self.pages() {
            return Err(SupplyError::BeyondEnd);
        }
        let place = self.tree().prepare(index, self.store());
        let place = place.map_err(|_| SupplyError::NoMemory)?;
        let held = self.lock();
        let inside = match planted::is(Fault::SupplyBeyondEnd) {
            true => most,
            false => self.pages().saturating_sub(index),
        };
        if inside == 0 {
            return Err(SupplyError::BeyondEnd);
        }
        let left = self.tree().left();
        if left == 0 {
            return Err(SupplyError::NoMemory);
        }
        match place.empty_run(most.min(inside).min(left)) {
            0 => Err(SupplyError::Raced),
            count => Ok(Vacancy {
                object: self,
                place,
                count,
                _held: held,
            }),
        }
    }
}

impl Vacancy<'_> {
    /// How many places are left.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Puts a block into the next places.
    ///
    /// # Panics
    /// If there are not so many.
    pub(crate) fn put(&mut self, block: FreshFrame) {
        let pages = 1 << block.order();
        assert!(pages <= self.count, "more pages than places");
        let put = self
            .place
            .put(block.into_object(self.object.number()), pages);
        assert!(
            put.is_ok() || planted::is(Fault::SupplyMapped) || planted::is(Fault::SupplyHeld),
            "a place was filled without the lock"
        );
        self.place.advance(pages);
        self.count -= pages;
    }

    /// Puts the pages at the first `count` places of `pins`, which are the object's by now, into the next
    /// ones.
    ///
    /// # Panics
    /// If there are not so many.
    #[inline]
    pub(crate) fn put_group(&mut self, count: u64, pins: &mut FramePins) {
        assert!(count <= self.count, "more pages than places");
        self.place.put_group(count, pins);
        self.place.advance(count);
        self.count -= count;
    }

    /// The object.
    pub(crate) fn object(&self) -> &MemObject {
        self.object
    }

    /// Puts a page that others hold too into the next place, and stays there.
    pub(crate) fn put_held(&mut self, page: UserFrame) {
        let put = self.place.put(page, 1);
        assert!(put.is_ok(), "a place was filled without the lock");
    }
}
