//! Pointers to objects in slabs: owned and shared.

use super::block::{Block, Slot};
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// The one owner of an object in a slab; dropping it drops the object.
pub struct SlabBox<T: 'static> {
    slot: NonNull<Slot<T>>,
    owns: PhantomData<T>,
}

// SAFETY: it owns its `T`, as a `Box` does; caches can be used from any CPU.
unsafe impl<T: Send> Send for SlabBox<T> {}
// SAFETY: sharing it shares `&T` only.
unsafe impl<T: Sync> Sync for SlabBox<T> {}

impl<T> SlabBox<T> {
    pub(super) fn new(slot: NonNull<Slot<T>>) -> Self {
        Self {
            slot,
            owns: PhantomData,
        }
    }

    /// Moves the object out; its place is free then.
    pub fn into_inner(this: Self) -> T {
        let this = ManuallyDrop::new(this);
        // SAFETY: the slot is ours and in use; after the object has been moved out, it goes back.
        unsafe {
            let value = core::ptr::read(&raw const (*this.slot.as_ptr()).value);
            Block::cache_of(this.slot).put(this.slot);
            ManuallyDrop::into_inner(value)
        }
    }

    /// Makes the object shareable.
    pub fn share(this: Self) -> Ref<T> {
        // The count of an owned object is 1 from the start.
        Ref::new(ManuallyDrop::new(this).slot)
    }
}

impl<T> Deref for SlabBox<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the slot is ours and in use.
        unsafe { &(*self.slot.as_ptr()).value }
    }
}

impl<T> DerefMut for SlabBox<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the slot is ours alone and in use.
        unsafe { &mut (*self.slot.as_ptr()).value }
    }
}

impl<T> Drop for SlabBox<T> {
    fn drop(&mut self) {
        // SAFETY: the slot is ours and in use; nobody touches it afterwards.
        unsafe { end(self.slot) }
    }
}

/// A counted reference to an object in a slab, as `Arc` is to one on the heap.
pub struct Ref<T: 'static> {
    slot: NonNull<Slot<T>>,
    owns: PhantomData<T>,
}

// SAFETY: as for `Arc`: the object may be used, and at last dropped, on any CPU.
unsafe impl<T: Send + Sync> Send for Ref<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Ref<T> {}

impl<T> Ref<T> {
    pub(super) fn new(slot: NonNull<Slot<T>>) -> Self {
        Self {
            slot,
            owns: PhantomData,
        }
    }

    /// Whether both refer to the same object.
    #[inline]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.slot == other.slot
    }

    /// The number of references at this moment.
    pub fn count(this: &Self) -> u32 {
        // SAFETY: the slot is in use while we refer to it.
        unsafe { &*this.slot.as_ptr() }.count.get()
    }

    /// Exclusive access, if this is the only reference.
    pub fn get_mut(this: &mut Self) -> Option<&mut T> {
        // SAFETY: the slot is in use; with one reference, which is borrowed exclusively, nobody
        // else can reach the object or make another one.
        (Self::count(this) == 1).then(|| unsafe { &mut *(*this.slot.as_ptr()).value })
    }

    /// The object's address, for identity and order.
    #[inline]
    pub fn as_ptr(this: &Self) -> *const T {
        // SAFETY: no access; the field of a slot is within the slot.
        unsafe { (&raw const (*this.slot.as_ptr()).value).cast() }
    }

    /// Gives the reference away as a pointer; [`from_raw`](Self::from_raw) takes it back.
    #[inline]
    pub fn into_raw(this: Self) -> NonNull<T> {
        let this = ManuallyDrop::new(this);
        // SAFETY: no access; the field of a slot is within the slot, and not null.
        unsafe { NonNull::new_unchecked((&raw mut (*this.slot.as_ptr()).value).cast()) }
    }

    /// The reference that [`into_raw`](Self::into_raw) gave away.
    ///
    /// # Safety
    /// `raw` comes from `into_raw`, once for each call of this.
    #[inline]
    pub unsafe fn from_raw(raw: NonNull<T>) -> Self {
        let offset = core::mem::offset_of!(Slot<T>, value);
        // SAFETY: `raw` points to the value of a slot.
        Self::new(unsafe { raw.cast::<u8>().sub(offset).cast() })
    }
}

impl<T> Clone for Ref<T> {
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: the slot is in use while we refer to it.
        unsafe { &*self.slot.as_ptr() }.count.inc();
        Self::new(self.slot)
    }
}

impl<T> Deref for Ref<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the slot is in use while we refer to it.
        unsafe { &(*self.slot.as_ptr()).value }
    }
}

impl<T> Drop for Ref<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the slot is in use; the borrow of its count ends before it may be freed.
        let last = unsafe { (*self.slot.as_ptr()).count.dec() };
        if last {
            // SAFETY: no reference is left, and none can be made any more.
            unsafe { end(self.slot) }
        }
    }
}

/// Drops an object and frees its slot.
///
/// # Safety
/// The slot is in use and the caller's alone.
#[inline(never)]
unsafe fn end<T: 'static>(slot: NonNull<Slot<T>>) {
    // SAFETY: as the caller promises. The object is dropped first, with no lock held.
    unsafe {
        ManuallyDrop::drop(&mut (*slot.as_ptr()).value);
        Block::cache_of(slot).put(slot);
    }
}

impl<T: fmt::Debug> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: fmt::Debug> fmt::Debug for SlabBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
