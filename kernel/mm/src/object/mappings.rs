//! The reverse map of an object: which ranges of which spaces show which of its pages (D14).
//!
//! The list says what is *covered*, not where areas begin and end: splitting or merging areas does
//! not change it, and linking or unlinking any piece of a mapping does the right thing. What a
//! change may need is set aside before it begins ([`Room`]), so that it cannot fail later.

use alloc::sync::Weak;
use alloc::vec::Vec;

use arm64::addr::PAGE_SHIFT;
use frame::slab::Ref;

use super::mem::{MemObject, ObjectError};

/// Why pages of an object are unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmapReason {
    /// The object has become shorter.
    Truncated,
    /// A hole is punched.
    Punch,
    /// Pages that are clean are to be dropped: dirty entries stay.
    Clean,
    /// A page moves to another frame.
    Moved,
}

/// What an object asks a space to take out of its tables.
#[derive(Clone, Copy, Debug)]
pub struct Unmapping {
    /// First address.
    pub start: u64,
    /// First address behind.
    pub end: u64,
    /// Why.
    pub reason: UnmapReason,
    /// The number of the object: pages of other owners are private copies.
    pub object: u32,
    /// Whether private copies go too.
    pub copies: bool,
}

/// A space, as far as objects that it maps are concerned.
pub trait Mapper: Send + Sync {
    /// Number of the space.
    fn id(&self) -> u32;

    /// Takes entries out of the tables, flushes, and frees what they owned; areas stay. Called with
    /// the lock of the object held. Returns the first address not yet visited, which is beyond
    /// `start`; `budget` goes down by about one for each page or table looked at.
    fn unmap(&self, what: &Unmapping, budget: &mut u32) -> u64;

    /// Makes dirty entries of `[start, end)` that show pages of object number `object` clean, flushes,
    /// and has the frames remember that they were written. Else as [`Self::unmap`].
    fn clean(&self, start: u64, end: u64, object: u32, budget: &mut u32) -> u64;
}

/// A piece of a mapping.
#[derive(Clone)]
pub(super) struct Mapping {
    pub(super) id: u32,
    /// A shared mapping that is or may become writable.
    pub(super) writable: bool,
    pub(super) start: u64,
    pub(super) end: u64,
    /// The page of the object at `start`.
    pub(super) index: u64,
    pub(super) space: Weak<dyn Mapper>,
}

impl Mapping {
    fn pages(&self) -> u64 {
        (self.end - self.start) >> PAGE_SHIFT
    }

    /// The part that shows pages from `first` to before `end`, not below address `from`.
    pub(super) fn part(&self, first: u64, end: u64, from: u64) -> Option<(u64, u64)> {
        let low = first.max(self.index);
        let high = end.min(self.index + self.pages());
        if low >= high {
            return None;
        }
        let address = |index: u64| self.start + ((index - self.index) << PAGE_SHIFT);
        let (start, end) = (address(low).max(from), address(high));
        (start < end).then_some((start, end))
    }

    fn is_continued_by(&self, next: &Self) -> bool {
        (self.id, self.writable, self.end) == (next.id, next.writable, next.start)
            && self.index + self.pages() == next.index
    }

    fn cut(&mut self, at: u64) -> Self {
        let mut upper = self.clone();
        upper.index += (at - self.start) >> PAGE_SHIFT;
        upper.start = at;
        self.end = at;
        upper
    }
}

/// All pieces, by space and address.
#[derive(Default)]
pub(super) struct Mappings {
    list: Vec<Mapping>,
    /// Places that rooms have set aside.
    promised: usize,
    /// Rooms for writable shared mappings.
    promised_writable: usize,
}

impl Mappings {
    pub(super) fn reserve(&mut self, places: usize, writable: bool) -> Result<(), ObjectError> {
        self.list
            .try_reserve(self.promised + places)
            .map_err(|_| ObjectError::NoMemory)?;
        self.promised += places;
        self.promised_writable += usize::from(writable);
        Ok(())
    }

    fn give_back(&mut self, places: usize, writable: bool) {
        self.promised -= places;
        self.promised_writable -= usize::from(writable);
    }

    pub(super) fn is_writable(&self) -> bool {
        self.promised_writable > 0 || self.list.iter().any(|mapping| mapping.writable)
    }

    /// The first piece that ends behind `(space, address)`.
    pub(super) fn position(&self, id: u32, address: u64) -> usize {
        self.list
            .partition_point(|mapping| (mapping.id, mapping.end) <= (id, address))
    }

    pub(super) fn from(&self, position: usize) -> &[Mapping] {
        self.list.get(position..).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    fn link(&mut self, mapping: Mapping) {
        let at = self.position(mapping.id, mapping.start);
        self.list.insert(at, mapping);
        self.merge(at);
        if at > 0 {
            self.merge(at - 1);
        }
    }

    fn merge(&mut self, at: usize) {
        if let [first, next, ..] = &mut self.list[at..]
            && first.is_continued_by(next)
        {
            first.end = next.end;
            self.list.remove(at + 1);
        }
    }

    pub(super) fn unlink(&mut self, id: u32, start: u64, end: u64) {
        let from = self.position(id, start);
        let mut to = from;
        while let Some(piece) = self.list.get_mut(to)
            && piece.id == id
            && piece.start < end
        {
            if piece.start < start {
                // Cut again if it reaches beyond the end: then there is one piece more.
                let upper = piece.cut(start);
                return self.put_back(to + 1, upper, end);
            }
            if piece.end > end {
                *piece = piece.cut(end);
                break;
            }
            to += 1;
        }
        self.list.drain(from..to);
    }

    /// The first piece began before what is unlinked and was cut; `upper` is the rest of it.
    fn put_back(&mut self, at: usize, mut upper: Mapping, end: u64) {
        let id = upper.id;
        if upper.end > end {
            return self.list.insert(at, upper.cut(end));
        }
        self.unlink(id, upper.end, end);
    }
}

/// Places in the list of an object, set aside so that changes to it cannot fail. Each call of
/// [`Self::link`] or [`Self::unlink`] uses one; what is left goes back when it is dropped.
#[must_use = "places set aside go back at once"]
pub struct Room {
    object: Ref<MemObject>,
    places: usize,
    writable: bool,
}

impl Room {
    /// Sets `changes` places aside in the list of `object`. `writable`: a shared mapping that is or
    /// may become writable is going to be linked.
    ///
    /// # Errors
    /// [`ObjectError::NoMemory`]; [`ObjectError::Sealed`] for `writable` if writing is sealed.
    pub fn reserve(
        object: &Ref<MemObject>,
        changes: usize,
        writable: bool,
    ) -> Result<Self, ObjectError> {
        object.reserve(changes, writable)?;
        Ok(Self {
            object: object.clone(),
            places: changes,
            writable,
        })
    }

    /// The object.
    pub fn object(&self) -> &Ref<MemObject> {
        &self.object
    }

    /// Says that `[start, end)` of a space shows the pages from `index` on; nothing of the range
    /// was linked. `writable` is for shared mappings that are or may become writable.
    ///
    /// # Panics
    /// If no place is left.
    pub fn link(
        &mut self,
        (id, space): (u32, &Weak<dyn Mapper>),
        (start, end): (u64, u64),
        index: u64,
        writable: bool,
    ) {
        let mapping = Mapping {
            id,
            writable,
            start,
            end,
            index,
            space: space.clone(),
        };
        self.change(|mappings| mappings.link(mapping));
    }

    /// Says that nothing in `[start, end)` of space `id` shows pages of the object any more.
    ///
    /// # Panics
    /// If no place is left.
    pub fn unlink(&mut self, id: u32, start: u64, end: u64) {
        self.change(|mappings| mappings.unlink(id, start, end));
    }

    fn change(&mut self, change: impl FnOnce(&mut Mappings)) {
        assert!(self.places > 0, "a reverse map changed without room for it");
        self.places -= 1;
        self.object.with_mappings(|mappings| {
            mappings.promised -= 1;
            change(mappings);
        });
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let (places, writable) = (self.places, self.writable);
        self.object
            .with_mappings(|mappings| mappings.give_back(places, writable));
    }
}

impl core::fmt::Debug for Room {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Room({} changes of object {})",
            self.places,
            self.object.number()
        )
    }
}
