//! `madvise(MADV_REMOVE)`: what of an object is to become a hole.

use frame::slab::Ref;
use pgtable::Machine;

use crate::error::MmError;
use crate::object::MemObject;
use crate::space::Space;
use crate::vma::Backing;

/// The part of a range that lies in one area.
#[derive(Debug)]
pub enum Piece {
    /// Nothing is mapped up to here.
    Hole {
        /// Where to go on.
        next: u64,
    },
    /// Pages of an object.
    Object {
        /// The object.
        object: Ref<MemObject>,
        /// First byte in it.
        start: u64,
        /// Where to go on.
        next: u64,
    },
}

impl<M: Machine> Space<M> {
    /// What lies at the beginning of `[at, end)`, for taking it out of its object.
    ///
    /// # Errors
    /// [`MmError::Invalid`] for memory without an object, [`MmError::Access`] where what others see
    /// cannot be written, [`MmError::Busy`] where a change is under way.
    pub fn piece_to_remove(&self, at: u64, end: u64) -> Result<Piece, MmError> {
        let map = self.map().lock();
        let Some(area) = map.areas.overlapping(at, end).next() else {
            return Ok(Piece::Hole { next: end });
        };
        if area.start > at {
            return Ok(Piece::Hole { next: area.start });
        }
        if map.is_busy(at) {
            return Err(MmError::Busy);
        }
        match &area.backing {
            Backing::Anon(_) | Backing::Device { .. } => Err(MmError::Invalid),
            Backing::Object { .. } if !area.flags.may_write_shared() => Err(MmError::Access),
            Backing::Object { object, offset, .. } => Ok(Piece::Object {
                object: object.clone(),
                start: offset + (at - area.start),
                next: area.end.min(end),
            }),
        }
    }
}
