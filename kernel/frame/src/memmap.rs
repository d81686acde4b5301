//! The array of frame records, and which parts of it exist.

use crate::meta::FrameMeta;
use arm64::addr::Pfn;
use core::ops::Range;
use core::ptr::NonNull;
use sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use sync::const_fn;

/// The number of banks of RAM that can be known.
pub const MAX_BANKS: usize = 16;

/// Why a bank was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BankError {
    /// It has no frame.
    Empty,
    /// It overlaps a bank that is known.
    Overlap,
    /// [`MAX_BANKS`] are known.
    TooMany,
}

struct Bank {
    start: AtomicU64,
    end: AtomicU64,
}

/// Record `n` of the array describes frame `n`; only records of frames inside banks exist.
pub(crate) struct Memmap {
    base: NonNull<FrameMeta>,
    banks: [Bank; MAX_BANKS],
    /// Banks are only ever added; one is complete before this counts it.
    known: AtomicUsize,
}

impl Memmap {
    const_fn! {
        pub(crate) const fn new(base: NonNull<FrameMeta>) -> Self {
            #[cfg(not(loom))]
            let banks =
                [const { Bank { start: AtomicU64::new(0), end: AtomicU64::new(0) } }; MAX_BANKS];
            #[cfg(loom)]
            let banks = core::array::from_fn(|_| Bank {
                start: AtomicU64::new(0),
                end: AtomicU64::new(0),
            });
            Self { base, banks, known: AtomicUsize::new(0) }
        }
    }

    pub(crate) fn banks(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let known = self.known.load(Ordering::Acquire);
        self.banks[..known]
            .iter()
            .map(|b| b.start.load(Ordering::Relaxed)..b.end.load(Ordering::Relaxed))
    }

    /// Makes `range` known. Its records must exist; the caller holds the allocator's lock.
    pub(crate) fn add(&self, range: &Range<Pfn>) -> Result<(), BankError> {
        let (start, end) = (range.start.raw(), range.end.raw());
        if start >= end {
            return Err(BankError::Empty);
        }
        if self
            .banks()
            .any(|bank| start < bank.end && bank.start < end)
        {
            return Err(BankError::Overlap);
        }
        let known = self.known.load(Ordering::Relaxed);
        let bank = self.banks.get(known).ok_or(BankError::TooMany)?;
        bank.start.store(start, Ordering::Relaxed);
        bank.end.store(end, Ordering::Relaxed);
        self.known.store(known + 1, Ordering::Release);
        Ok(())
    }

    /// The record of frame `pfn`, if it is in a bank.
    #[inline]
    pub(crate) fn find(&self, pfn: Pfn) -> Option<&FrameMeta> {
        let inside = self.banks().any(|bank| bank.contains(&pfn.raw()));
        // SAFETY: the frame is in a bank.
        inside.then(|| unsafe { self.at(pfn) })
    }

    /// The record of frame `pfn`.
    ///
    /// # Safety
    /// The frame is in a bank.
    #[inline(always)]
    pub(crate) unsafe fn at(&self, pfn: Pfn) -> &FrameMeta {
        let record = self.base.as_ptr().wrapping_add(pfn.raw() as usize);
        // SAFETY: records of frames in banks exist, valid, for as long as the allocator does
        // (contract of `Frames::add_bank`); they consist of atomics, so sharing them is fine.
        unsafe { &*record }
    }

    /// The records of `range`.
    ///
    /// # Panics
    /// If the range is not within one bank.
    pub(crate) fn slice(&self, range: &Range<Pfn>) -> &[FrameMeta] {
        let (start, end) = (range.start.raw(), range.end.raw());
        if start >= end {
            return &[];
        }
        let inside = self
            .banks()
            .any(|bank| bank.start <= start && end <= bank.end);
        assert!(inside, "frames {start:#x}..{end:#x} are not within a bank");
        // SAFETY: the frames are in a bank.
        unsafe { self.block(range.start, (end - start) as usize) }
    }

    /// The records of `frames` frames from `pfn` on.
    ///
    /// # Safety
    /// The frames are in banks.
    #[inline(always)]
    pub(crate) unsafe fn block(&self, pfn: Pfn, frames: usize) -> &[FrameMeta] {
        let first = self.base.as_ptr().wrapping_add(pfn.raw() as usize);
        // SAFETY: as in `at`; the array is contiguous.
        unsafe { core::slice::from_raw_parts(first, frames) }
    }
}
