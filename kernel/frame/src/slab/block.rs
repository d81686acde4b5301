//! A block of slots: one allocation of frames, its header in front.

use super::{Cache, MAX_OBJECT};
use crate::{Class, Frames, KernelFrame, OutOfMemory};
use arm64::addr::PAGE_SIZE;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use sync::RefCount;

/// No slot, in the list of free ones.
const NONE: u16 = u16::MAX;

/// Room for one object. A free slot begins with the number of the next free one instead.
#[repr(C)]
pub(super) struct Slot<T> {
    pub(super) count: RefCount,
    pub(super) value: ManuallyDrop<T>,
}

impl<T> Slot<T> {
    /// # Safety
    /// The slot is free and the caller's.
    #[inline(always)]
    pub(super) unsafe fn fill(slot: NonNull<Self>, value: T) {
        let at = slot.as_ptr();
        // Field by field: the value is moved once. SAFETY: as the caller promises.
        unsafe {
            (&raw mut (*at).count).write(RefCount::new(1));
            (&raw mut (*at).value).write(ManuallyDrop::new(value));
        }
    }
}

/// The header of a block.
///
/// The first field is read without a lock, by whoever has an object in the block; the state is
/// reached under the lock of the cache only. So nobody may ever borrow the header as a whole.
#[repr(C)]
pub(super) struct Block<T: 'static> {
    cache: &'static Cache<T>,
    state: State<T>,
}

pub(super) struct State<T: 'static> {
    frame: ManuallyDrop<KernelFrame>,
    pub(super) prev: *mut Block<T>,
    pub(super) next: *mut Block<T>,
    /// The slot freed last.
    free: u16,
    /// Slots that have ever been used: those from here on are free without being in the list, so
    /// a new block costs nothing to set up.
    touched: u16,
    used: u16,
}

impl<T> Block<T> {
    /// The smallest block in which the header and the remainder waste little.
    pub(super) const ORDER: u8 = {
        if Self::capacity(0) >= 7 {
            0
        } else if Self::capacity(1) >= 7 {
            1
        } else {
            2
        }
    };
    /// Bytes in a block, and its alignment.
    pub(super) const BYTES: usize = (PAGE_SIZE as usize) << Self::ORDER;
    pub(super) const CAPACITY: u16 = {
        assert!(
            size_of::<T>() <= MAX_OBJECT,
            "an object too large for a slab"
        );
        assert!(
            align_of::<T>() <= MAX_OBJECT,
            "an alignment too large for a slab"
        );
        Self::capacity(Self::ORDER) as u16
    };
    const FIRST: usize = size_of::<Self>().next_multiple_of(align_of::<Slot<T>>());

    const fn capacity(order: u8) -> usize {
        (((PAGE_SIZE as usize) << order) - Self::FIRST) / size_of::<Slot<T>>()
    }

    /// A block of free slots, on no list.
    pub(super) fn make(
        frames: &'static Frames,
        cache: &'static Cache<T>,
    ) -> Result<NonNull<Self>, OutOfMemory> {
        let frame = frames.alloc_kernel(Self::ORDER, Class::Slab)?;
        let at = frame.as_ptr().cast::<Self>();
        let state = State {
            frame: ManuallyDrop::new(frame),
            prev: core::ptr::null_mut(),
            next: core::ptr::null_mut(),
            free: NONE,
            touched: 0,
            used: 0,
        };
        // SAFETY: the frames are ours, large enough, and aligned to their size.
        unsafe { at.write(Self { cache, state }) };
        Ok(at)
    }

    /// The block of a slot: blocks are aligned to their size.
    pub(super) fn of(slot: NonNull<Slot<T>>) -> NonNull<Self> {
        let at = slot.as_ptr().map_addr(|addr| addr & !(Self::BYTES - 1));
        // SAFETY: a block is not at address 0.
        unsafe { NonNull::new_unchecked(at.cast()) }
    }

    /// The cache of the object in `slot`.
    ///
    /// # Safety
    /// The slot is in use.
    pub(super) unsafe fn cache_of(slot: NonNull<Slot<T>>) -> &'static Cache<T> {
        // SAFETY: the block of a slot in use is alive; this field never changes.
        unsafe { (*Self::of(slot).as_ptr()).cache }
    }

    /// What the lock of the cache protects.
    ///
    /// # Safety
    /// The block is alive, the cache is locked, and no other result of this is in use.
    #[inline(always)]
    pub(super) unsafe fn state<'a>(block: NonNull<Self>) -> &'a mut State<T> {
        // SAFETY: as the caller promises; only the state is borrowed, not the field before it.
        unsafe { &mut (*block.as_ptr()).state }
    }

    /// Takes a free slot out; true if it was the last.
    ///
    /// # Safety
    /// The block is alive, has a free slot, and its cache is locked.
    pub(super) unsafe fn take(block: NonNull<Self>) -> (NonNull<Slot<T>>, bool) {
        // SAFETY: as the caller promises.
        let state = unsafe { Self::state(block) };
        let index = state.free;
        let slot = if index == NONE {
            state.touched += 1;
            // SAFETY: there is a free slot, so this number is below the capacity.
            unsafe { Self::slot(block, state.touched - 1) }
        } else {
            // SAFETY: numbers in the list are below the capacity.
            let slot = unsafe { Self::slot(block, index) };
            // SAFETY: a slot in the list begins with the number of the next.
            state.free = unsafe { slot.cast::<u16>().read() };
            slot
        };
        state.used += 1;
        (slot, state.used == Self::CAPACITY)
    }

    /// Takes a slot back; true if there was no free one before.
    ///
    /// # Safety
    /// The slot is of this block and the caller's; the cache is locked.
    pub(super) unsafe fn put(block: NonNull<Self>, slot: NonNull<Slot<T>>) -> bool {
        // SAFETY: as the caller promises.
        let state = unsafe { Self::state(block) };
        let distance = slot.addr().get() - block.addr().get() - Self::FIRST;
        // SAFETY: the slot is the caller's, at least as large and aligned as its reference count.
        unsafe { slot.cast::<u16>().write(state.free) };
        state.free = (distance / size_of::<Slot<T>>()) as u16;
        state.used -= 1;
        state.used + 1 == Self::CAPACITY
    }

    /// # Safety
    /// The block is alive and its cache locked.
    pub(super) unsafe fn is_empty(block: NonNull<Self>) -> bool {
        // SAFETY: as the caller promises.
        unsafe { Self::state(block).used == 0 }
    }

    /// Ends the block; what is left is its frames.
    ///
    /// # Safety
    /// The block is empty and on no list.
    pub(super) unsafe fn dissolve(block: NonNull<Self>) -> KernelFrame {
        // SAFETY: nobody uses the header after this.
        unsafe { ManuallyDrop::take(&mut Self::state(block).frame) }
    }

    /// # Safety
    /// `index` is below the capacity.
    unsafe fn slot(block: NonNull<Self>, index: u16) -> NonNull<Slot<T>> {
        let offset = Self::FIRST + usize::from(index) * size_of::<Slot<T>>();
        // SAFETY: within the block.
        unsafe { block.cast::<u8>().add(offset).cast() }
    }
}
