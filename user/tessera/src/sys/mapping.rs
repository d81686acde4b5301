//! Memory that the kernel has mapped for this process, and what may be done with it: [`Pages`] are
//! ours alone and ordinary bytes, a [`Mapping`] is shared and read and written bit by bit.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

use abi::slot;

use crate::{Error, Handle, PAGE, Prot};

/// A range of mapped memory, unmapped when dropped.
#[derive(Debug)]
struct Range {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a range of addresses belongs to the process, not to a thread.
unsafe impl Send for Range {}
// SAFETY: as above; what may be done with the memory is said where it is used.
unsafe impl Sync for Range {}

impl Range {
    /// `mmap` where the kernel chooses; without a file anonymous memory.
    fn new(len: usize, prot: Prot, flags: i32, file: Option<u64>, at: u64) -> Result<Self, Error> {
        let (flags, file) = match file {
            Some(file) => (flags, file as i32),
            None => (flags | libc::MAP_ANON, -1),
        };
        let (null, prot) = (std::ptr::null_mut(), prot.bits() as i32);
        // SAFETY: the kernel maps where nothing is yet.
        let got = unsafe { libc::mmap(null, len, prot, flags, file, at as i64) };
        if got == libc::MAP_FAILED {
            let error = std::io::Error::last_os_error();
            return Err(Error::from_number(error.raw_os_error().unwrap_or(0)));
        }
        let base = NonNull::new(got.cast()).ok_or(Error::NoMemory)?;
        Ok(Self { base, len })
    }
}

/// What large ranges are aligned to: a folio of the kernel's, and a block of contiguous entries.
const FOLIO: usize = 64 << 10;

impl Range {
    /// Anonymous memory, where folios fit if it is large enough for one.
    fn anonymous(len: usize, prot: Prot) -> Result<Self, Error> {
        if len < FOLIO {
            return Self::new(len, prot, libc::MAP_PRIVATE, None, 0);
        }
        let padded = len.checked_add(FOLIO).ok_or(Error::NoMemory)?;
        let mut range = Self::new(padded, prot, libc::MAP_PRIVATE, None, 0)?;
        let skip = range.base.align_offset(FOLIO);
        let mut aligned = range.split_off(skip);
        drop(aligned.split_off(len));
        Ok(aligned)
    }

    /// What is behind the first `at` bytes, taken off.
    fn split_off(&mut self, at: usize) -> Self {
        assert!(at <= self.len, "beyond the range");
        // SAFETY: within the range, or at its end.
        let base = unsafe { self.base.add(at) };
        let len = self.len - at;
        self.len = at;
        Self { base, len }
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        // SAFETY: the range was mapped by `new`, and nothing borrows from it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Anonymous pages of this process alone.
#[derive(Debug)]
pub struct Pages(Range);

impl Pages {
    /// `len` bytes of zeros, rounded up to pages.
    ///
    /// # Errors
    /// No memory.
    pub fn new(len: usize) -> Result<Self, Error> {
        let len = len.next_multiple_of(PAGE);
        let prot = Prot::READ | Prot::WRITE;
        Range::anonymous(len, prot).map(Self)
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped readable for as long as `self` lives, and written through `&mut` only.
        unsafe { slice::from_raw_parts(self.0.base.as_ptr(), self.0.len) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and writable; nobody else maps these pages.
        unsafe { slice::from_raw_parts_mut(self.0.base.as_ptr(), self.0.len) }
    }
}

/// A memory object, mapped here. Others may change it at any time, so its contents are copied, and
/// never borrowed.
#[derive(Debug)]
pub struct Mapping {
    range: Range,
    prot: Prot,
}

impl Mapping {
    /// Maps a part of an object, shared.
    ///
    /// # Errors
    /// As `mmap`.
    pub fn new(object: u64, offset: u64, len: usize, prot: Prot) -> Result<Self, Error> {
        let range = Range::new(len, prot, libc::MAP_SHARED, Some(object), offset)?;
        Ok(Self { range, prot })
    }

    /// Bytes that are mapped.
    pub const fn len(&self) -> usize {
        self.range.len
    }

    /// Whether none are; there is no such mapping.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A pointer to one value, after the checks that make it one that may be used.
    fn pointer<T>(&self, offset: usize, needs: Prot) -> *mut T {
        let fits = offset
            .checked_add(size_of::<T>())
            .is_some_and(|end| end <= self.len());
        assert!(fits, "offset {offset:#x} is outside of the mapping");
        assert!(
            offset.is_multiple_of(align_of::<T>()),
            "offset {offset:#x} is misaligned"
        );
        assert!(self.prot.contains(needs), "not mapped {needs:?}");
        self.range.base.as_ptr().wrapping_add(offset).cast()
    }

    /// Copies out of it. Touching what the object no longer has ends the program (SIGBUS).
    ///
    /// # Panics
    /// The range is not in the mapping, or not mapped to be read.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) {
        for (at, byte) in buffer.iter_mut().enumerate() {
            // SAFETY: `pointer` has checked place and rights; any byte is a byte.
            *byte = unsafe { self.pointer::<u8>(offset + at, Prot::READ).read_volatile() };
        }
    }

    /// Copies into it.
    ///
    /// # Panics
    /// The range is not in the mapping, or not mapped to be written.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        for (at, &byte) in bytes.iter().enumerate() {
            let to = self.pointer::<u8>(offset + at, Prot::WRITE);
            // SAFETY: `pointer` has checked place and rights; nothing of Rust's lives there.
            unsafe { to.write_volatile(byte) };
        }
    }

    /// Reads a register of a device, by one access of 32 bits.
    ///
    /// # Panics
    /// As [`Mapping::read`], or the offset is no multiple of 4.
    pub fn load(&self, offset: usize) -> u32 {
        // SAFETY: as in `read`; devices are mapped so that each access is made once and in order.
        unsafe { self.pointer::<u32>(offset, Prot::READ).read_volatile() }
    }

    /// Writes a register of a device, by one access of 32 bits.
    ///
    /// # Panics
    /// As [`Mapping::write`], or the offset is no multiple of 4.
    pub fn store(&self, offset: usize, value: u32) {
        // SAFETY: as in `write`.
        unsafe {
            self.pointer::<u32>(offset, Prot::WRITE)
                .write_volatile(value)
        };
    }
}

/// The contents of the initial RAM disk, for as long as the program runs.
///
/// # Errors
/// This process was not given it.
pub fn initrd() -> Result<&'static [u8], Error> {
    let handle = Handle::at(slot::INITRD)?;
    let len = super::linux::size(handle.number())? as usize;
    let private = libc::MAP_PRIVATE;
    let range = Range::new(len, Prot::READ, private, Some(handle.number()), 0)?;
    let base = range.base;
    std::mem::forget((handle, range));
    // SAFETY: mapped readable and never unmapped; nobody can write this object, nor make it shorter.
    Ok(unsafe { slice::from_raw_parts(base.as_ptr(), len) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zeros_and_whole_pages() {
        let mut pages = Pages::new(5000).unwrap();
        assert_eq!(pages.len(), 2 * PAGE);
        assert!(pages.iter().all(|&byte| byte == 0));
        pages[8191] = 7;
        assert_eq!(pages[8191], 7);
    }
}
