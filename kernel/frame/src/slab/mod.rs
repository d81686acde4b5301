//! Slabs: kernel objects of one type, packed into frames of class slab.
//!
//! Hot objects (threads, spaces, VMAs) come from here instead of the heap: allocating is a few
//! dozen instructions, can only fail with [`OutOfMemory`], and memory goes back to the frames as
//! soon as a block of them is empty, so a program that has ended leaves nothing behind.
//!
//! [`SlabBox`] owns an object; [`Ref`] shares one.

mod block;
mod refs;

use crate::{Frames, OutOfMemory};
use block::{Block, Slot};
use core::ptr::NonNull;
use sync::{Once, SpinLock, const_fn, rank};

pub use refs::{Ref, SlabBox};

/// The largest object.
pub const MAX_OBJECT: usize = 2048;

/// Objects of type `T`. A static, as objects refer to it.
pub struct Cache<T: 'static> {
    name: &'static str,
    frames: Once<&'static Frames>,
    lists: SpinLock<Lists<T>, rank::Slab>,
}

/// What a cache has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStats {
    /// The cache's name.
    pub name: &'static str,
    /// Objects in use.
    pub objects: u64,
    /// Pages they occupy.
    pub pages: u64,
}

/// The blocks that have a free slot, and counts.
struct Lists<T: 'static> {
    partial: *mut Block<T>,
    objects: u64,
    blocks: u64,
}

// SAFETY: blocks may be used from any CPU, by whoever holds the lock around this; objects are
// reached through `SlabBox` and `Ref` only, which have their own bounds.
unsafe impl<T> Send for Lists<T> {}

impl<T> Cache<T> {
    /// Bytes of memory for each object when blocks are full, their headers and what is left over at
    /// their ends included.
    pub const BYTES_EACH: usize = Block::<T>::BYTES.div_ceil(Block::<T>::CAPACITY as usize);

    const_fn! {
        /// A cache without memory.
        pub const fn new(name: &'static str) -> Self {
            let lists = Lists { partial: core::ptr::null_mut(), objects: 0, blocks: 0 };
            Self { name, frames: Once::new(), lists: SpinLock::new(lists) }
        }
    }

    /// Says where blocks come from. Before that, and after the first call, nothing changes it.
    ///
    /// # Panics
    /// If the window of `frames` does not keep the alignment of blocks.
    pub fn init(&self, frames: &'static Frames) {
        let align = Block::<T>::BYTES as u64;
        assert!(
            frames.window().keeps_alignment(align),
            "a window that shifts blocks"
        );
        self.frames.call_once(|| frames);
    }

    /// A new object with one owner.
    ///
    /// # Errors
    /// [`OutOfMemory`], also if the cache has not been initialised; `value` is dropped then.
    pub fn alloc(&'static self, value: T) -> Result<SlabBox<T>, OutOfMemory> {
        let slot = self.take()?;
        // SAFETY: the slot is free and ours.
        unsafe { Slot::fill(slot, value) };
        Ok(SlabBox::new(slot))
    }

    /// A new object that can be shared.
    ///
    /// # Errors
    /// [`OutOfMemory`], also if the cache has not been initialised; `value` is dropped then.
    pub fn alloc_ref(&'static self, value: T) -> Result<Ref<T>, OutOfMemory> {
        let slot = self.take()?;
        // SAFETY: the slot is free and ours.
        unsafe { Slot::fill(slot, value) };
        Ok(Ref::new(slot))
    }

    /// Counts.
    pub fn stats(&self) -> CacheStats {
        let lists = self.lists.lock();
        let pages = lists.blocks << Block::<T>::ORDER;
        CacheStats {
            name: self.name,
            objects: lists.objects,
            pages,
        }
    }

    fn take(&'static self) -> Result<NonNull<Slot<T>>, OutOfMemory> {
        if let Some(slot) = self.lists.lock().take() {
            return Ok(slot);
        }
        // The frame lists come before slabs in the lock order (D15): allocate with none held.
        let frames = self.frames.get().ok_or(OutOfMemory)?;
        let block = Block::make(frames, self)?;
        let mut lists = self.lists.lock();
        lists.add(block);
        lists.take().ok_or(OutOfMemory)
    }

    /// Gives a slot back whose object has been dropped or moved out.
    ///
    /// # Safety
    /// The slot is of this cache, and the caller owns it.
    unsafe fn put(&self, slot: NonNull<Slot<T>>) {
        // SAFETY: as the caller promises.
        let emptied = unsafe { self.lists.lock().put(slot) };
        // Its frames go back after the lock has been released, by the lock order.
        drop(emptied);
    }
}

impl<T> Lists<T> {
    fn take(&mut self) -> Option<NonNull<Slot<T>>> {
        let block = NonNull::new(self.partial)?;
        // SAFETY: blocks on the list are alive and reached under the lock only.
        let (slot, full) = unsafe { Block::take(block) };
        if full {
            // SAFETY: it is the first of the list.
            unsafe { self.unlink(block) };
        }
        self.objects += 1;
        Some(slot)
    }

    fn add(&mut self, block: NonNull<Block<T>>) {
        self.blocks += 1;
        // SAFETY: a new block is on no list.
        unsafe { self.link(block) };
    }

    /// Returns the frames of the block if this was its last object.
    ///
    /// # Safety
    /// The slot is of this cache and owned by the caller.
    unsafe fn put(&mut self, slot: NonNull<Slot<T>>) -> Option<crate::KernelFrame> {
        self.objects -= 1;
        let block = Block::of(slot);
        // SAFETY: the block of a slot in use is alive, and we are under the lock.
        unsafe {
            let was_full = Block::put(block, slot);
            if was_full {
                self.link(block);
            }
            if !Block::is_empty(block) {
                return None;
            }
            self.unlink(block);
            self.blocks -= 1;
            Some(Block::dissolve(block))
        }
    }

    /// # Safety
    /// The block is alive and on no list.
    unsafe fn link(&mut self, block: NonNull<Block<T>>) {
        let first = core::mem::replace(&mut self.partial, block.as_ptr());
        // SAFETY: the lock is held; the states are borrowed one after the other.
        unsafe {
            let state = Block::state(block);
            (state.prev, state.next) = (core::ptr::null_mut(), first);
            if let Some(first) = NonNull::new(first) {
                Block::state(first).prev = block.as_ptr();
            }
        }
    }

    /// # Safety
    /// The block is on the list.
    unsafe fn unlink(&mut self, block: NonNull<Block<T>>) {
        // SAFETY: the lock is held, blocks on the list are alive, and their states are borrowed one
        // after the other.
        unsafe {
            let (prev, next) = (Block::state(block).prev, Block::state(block).next);
            match NonNull::new(prev) {
                Some(prev) => Block::state(prev).next = next,
                None => self.partial = next,
            }
            if let Some(next) = NonNull::new(next) {
                Block::state(next).prev = prev;
            }
        }
    }
}

impl<T> core::fmt::Debug for Cache<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let CacheStats {
            name,
            objects,
            pages,
        } = self.stats();
        write!(f, "{name}: {objects} objects in {pages} pages")
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
