//! Objects with pagers that somebody has a handle of: where clean pages are found that can be
//! dropped when memory is short.
//!
//! Once the last handle has been closed nobody can supply a page again, so what is there stays.

use alloc::vec::Vec;

use frame::slab::Ref;
use mm::object::MemObject;
use sync::{SpinLock, rank};

use crate::errno::Errno;

/// The objects, and whose turn it is.
struct Paged {
    objects: Vec<Ref<MemObject>>,
    turn: usize,
}

static PAGED: SpinLock<Paged, rank::Leaf> = SpinLock::new(Paged {
    objects: Vec::new(),
    turn: 0,
});

/// A place in the list, for as long as it is kept.
#[derive(Debug)]
pub struct Listed(Ref<MemObject>);

impl Listed {
    /// Puts `object` into the list.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(object: &Ref<MemObject>) -> Result<Self, Errno> {
        make_room()?;
        let mut paged = PAGED.lock();
        if paged.objects.len() == paged.objects.capacity() {
            // Others have taken the room meanwhile: as good as no memory.
            return Err(Errno::ENOMEM);
        }
        paged.objects.push(object.clone());
        Ok(Self(object.clone()))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut paged = PAGED.lock();
        let is_it = |object: &Ref<MemObject>| Ref::ptr_eq(object, &self.0);
        let at = paged.objects.iter().position(is_it);
        let left = at.map(|at| paged.objects.swap_remove(at));
        drop(paged);
        drop(left);
    }
}

/// Room for one more, made with the list unlocked.
fn make_room() -> Result<(), Errno> {
    let paged = PAGED.lock();
    let (len, capacity) = (paged.objects.len(), paged.objects.capacity());
    drop(paged);
    if len < capacity {
        return Ok(());
    }
    let mut room = Vec::new();
    let more = room.try_reserve_exact(len * 2 + 8);
    more.map_err(|_| Errno::ENOMEM)?;
    let mut paged = PAGED.lock();
    if paged.objects.len() < room.capacity() {
        room.append(&mut paged.objects);
        core::mem::swap(&mut paged.objects, &mut room);
    }
    drop(paged);
    drop(room);
    Ok(())
}

/// The next object in the list, round and round.
pub fn next() -> Option<Ref<MemObject>> {
    let mut paged = PAGED.lock();
    let len = paged.objects.len();
    paged.turn = (paged.turn + 1).checked_rem(len)?;
    paged.objects.get(paged.turn).cloned()
}

/// How many there are.
pub fn count() -> usize {
    PAGED.lock().objects.len()
}
