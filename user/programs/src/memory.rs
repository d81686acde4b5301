//! Mappings at addresses of their own, and questions to the kernel about an address.
//!
//! An [`Area`] lies in a window of the address space that the kernel never chooses by itself and
//! that nothing else in these programs uses; no address is given out twice. So unmapping a part of
//! an area leaves a hole that stays a hole, and all its methods are safe: an access to a part that
//! is not accessible ends the program with a signal, and never reaches memory of anybody else.

use crate::sys::{errno, map, nr, syscall};
use crate::{require, require_result};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The window: 64 GiB to 256 GiB, below every 39-bit layout's stack and mmap base.
const WINDOW_START: usize = 64 << 30;
const WINDOW_END: usize = 256 << 30;
/// Distance between areas, so that running over the end of one meets nothing.
const GAP: usize = 2 << 20;

static NEXT: AtomicUsize = AtomicUsize::new(WINDOW_START);

/// A range of addresses that belongs to this object alone, mapped or not. Unmapped when dropped.
#[derive(Debug)]
pub struct Area {
    start: usize,
    len: usize,
}

impl Area {
    /// Takes `len` bytes (whole pages) of addresses and maps nothing there.
    pub fn unmapped(len: usize) -> Self {
        let step = len.next_multiple_of(GAP) + GAP;
        let start = NEXT.fetch_add(step, Ordering::Relaxed);
        require!(
            start + step <= WINDOW_END,
            "the window of private addresses is used up"
        );
        Self { start, len }
    }

    /// Takes addresses and maps them anonymous and private, with `prot`; checks that it worked.
    pub fn new(len: usize, prot: usize) -> Self {
        let area = Self::unmapped(len);
        let flags = map::PRIVATE | map::ANONYMOUS | map::FIXED_NOREPLACE;
        let got = area.map_raw(0, len, prot, flags);
        require!(
            got == area.start as isize,
            "mmap of {len} bytes at a free address answers {}",
            crate::sys::describe(got)
        );
        area
    }

    /// Takes addresses and maps shared memory of their own there; checks that it worked.
    pub fn shared(len: usize) -> Self {
        let area = Self::unmapped(len);
        area.share(0, len);
        area
    }

    /// Maps fresh shared memory over a part; checks that it worked.
    pub fn share(&self, offset: usize, len: usize) {
        let flags = map::SHARED | map::ANONYMOUS | map::FIXED;
        let got = self.map_raw(offset, len, map::RW, flags);
        require_result!(got, self.addr(offset) as isize, "mmap of shared memory");
    }

    /// Maps what shared memory is at `from` a second time at `to`; the raw answer.
    pub fn map_again(&self, from: usize, to: usize, len: usize) -> isize {
        self.remap(from, 0, to, len)
    }

    /// Maps `len` bytes anonymous and private near the hint `wish`, 0 for none, without replacing
    /// anything; or exactly there, if `exactly`. The error is the negative error number.
    pub fn near(wish: usize, len: usize, prot: usize, exactly: bool) -> Result<Self, isize> {
        let exact = if exactly { map::FIXED_NOREPLACE } else { 0 };
        let flags = map::PRIVATE | map::ANONYMOUS | map::NORESERVE | exact;
        // SAFETY: nothing is replaced: the kernel chooses free addresses, or is told to keep to them.
        let got = unsafe { syscall(nr::MMAP, [wish, len, prot, flags, usize::MAX, 0]) };
        match got {
            -4095..0 => Err(got),
            start => Ok(Self {
                start: start as usize,
                len,
            }),
        }
    }

    /// The address of the byte at `offset`; the end itself is allowed.
    pub fn addr(&self, offset: usize) -> usize {
        assert!(offset <= self.len, "offset {offset:#x} is outside the area");
        self.start + offset
    }

    /// Bytes in the area.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the area has no byte.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn checked(&self, offset: usize, len: usize) -> usize {
        let end = offset.checked_add(len).expect("the range wraps");
        assert!(
            end <= self.len.next_multiple_of(crate::sys::PAGE),
            "range outside the area"
        );
        self.start + offset
    }

    /// `mmap` inside the area with all of `flags`; the raw answer.
    pub fn map_raw(&self, offset: usize, len: usize, prot: usize, flags: usize) -> isize {
        let addr = self.checked(offset, len);
        assert!(
            flags & (map::FIXED | map::FIXED_NOREPLACE) != 0,
            "the address must be kept"
        );
        // SAFETY: the range belongs to this area, so only its own bytes change.
        unsafe { syscall(nr::MMAP, [addr, len, prot, flags, usize::MAX, 0]) }
    }

    /// `mmap` of the file `fd` from its beginning over a part, as MAP_FIXED does; the raw answer.
    pub fn map_file(
        &self,
        offset: usize,
        len: usize,
        prot: usize,
        flags: usize,
        fd: usize,
    ) -> isize {
        let addr = self.checked(offset, len);
        // SAFETY: the range belongs to this area, so only its own bytes change.
        unsafe { syscall(nr::MMAP, [addr, len, prot, flags | map::FIXED, fd, 0]) }
    }

    /// Maps fresh anonymous memory over a part, as MAP_FIXED does; the raw answer.
    pub fn map_over(&self, offset: usize, len: usize, prot: usize) -> isize {
        self.map_raw(
            offset,
            len,
            prot,
            map::PRIVATE | map::ANONYMOUS | map::FIXED,
        )
    }

    /// `munmap` of a part; the raw answer.
    pub fn unmap(&self, offset: usize, len: usize) -> isize {
        let addr = self.checked(offset, len);
        // SAFETY: the range belongs to this area.
        unsafe { syscall(nr::MUNMAP, [addr, len, 0, 0, 0, 0]) }
    }

    /// `mprotect` of a part; the raw answer.
    pub fn protect(&self, offset: usize, len: usize, prot: usize) -> isize {
        let addr = self.checked(offset, len);
        // SAFETY: the range belongs to this area.
        unsafe { syscall(nr::MPROTECT, [addr, len, prot, 0, 0, 0]) }
    }

    /// `madvise` of a part; the raw answer.
    pub fn advise(&self, offset: usize, len: usize, advice: usize) -> isize {
        let addr = self.checked(offset, len);
        // SAFETY: the range belongs to this area.
        unsafe { syscall(nr::MADVISE, [addr, len, advice, 0, 0, 0]) }
    }

    /// `mremap` inside the area with MREMAP_FIXED|MREMAP_MAYMOVE; the raw answer.
    pub fn remap(&self, from: usize, old: usize, to: usize, new: usize) -> isize {
        let (from, to) = (self.checked(from, old), self.checked(to, new));
        let flags = map::MREMAP_MAYMOVE | map::MREMAP_FIXED;
        // SAFETY: both ranges belong to this area.
        unsafe { syscall(nr::MREMAP, [from, old, new, flags, to, 0]) }
    }

    /// `mremap` in place, without MAYMOVE; the raw answer.
    pub fn resize(&self, from: usize, old: usize, new: usize) -> isize {
        let addr = self.checked(from, old.max(new));
        // SAFETY: both ranges belong to this area.
        unsafe { syscall(nr::MREMAP, [addr, old, new, 0, 0, 0]) }
    }

    /// What `mincore` says of `pages` pages from `offset`: for each, whether it is there.
    pub fn resident(&self, offset: usize, pages: usize) -> Vec<bool> {
        let addr = self.checked(offset, pages * crate::sys::PAGE);
        let mut bytes = vec![2u8; pages];
        let vec = bytes.as_mut_ptr() as usize;
        // SAFETY: a byte for each page is written to the vector, which has as many.
        let got = unsafe { syscall(nr::MINCORE, [addr, pages * crate::sys::PAGE, vec, 0, 0, 0]) };
        require_result!(got, 0, "mincore");
        let bytes = std::hint::black_box(bytes);
        bytes.into_iter().map(|byte| byte & 1 == 1).collect()
    }

    /// Reads a byte.
    pub fn get(&self, offset: usize) -> u8 {
        let addr = self.checked(offset, 1);
        // SAFETY: an address of this area: its own bytes, or a fault that ends the program.
        unsafe { core::ptr::read_volatile(core::ptr::with_exposed_provenance::<u8>(addr)) }
    }

    /// Writes a byte.
    pub fn set(&self, offset: usize, value: u8) {
        let addr = self.checked(offset, 1);
        // SAFETY: as `get`.
        unsafe { core::ptr::write_volatile(core::ptr::with_exposed_provenance_mut(addr), value) }
    }

    /// Reads the aligned word of 8 bytes at `offset`.
    pub fn get_u64(&self, offset: usize) -> u64 {
        assert!(offset.is_multiple_of(8), "words are aligned");
        let addr = self.checked(offset, 8);
        // SAFETY: as `get`, aligned.
        unsafe { core::ptr::read_volatile(core::ptr::with_exposed_provenance::<u64>(addr)) }
    }

    /// Writes the aligned word of 8 bytes at `offset`.
    pub fn set_u64(&self, offset: usize, value: u64) {
        assert!(offset.is_multiple_of(8), "words are aligned");
        let addr = self.checked(offset, 8);
        // SAFETY: as `get`, aligned.
        unsafe { core::ptr::write_volatile(core::ptr::with_exposed_provenance_mut(addr), value) }
    }

    /// Writes `value` to every byte of a part.
    pub fn fill(&self, offset: usize, len: usize, value: u8) {
        let addr = self.checked(offset, len);
        // SAFETY: as `get`.
        unsafe { core::ptr::with_exposed_provenance_mut::<u8>(addr).write_bytes(value, len) }
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
    }

    /// Whether every byte of a part is `value`.
    pub fn holds(&self, offset: usize, len: usize, value: u8) -> bool {
        (offset..offset + len).all(|at| self.get(at) == value)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        let len = self.len.next_multiple_of(crate::sys::PAGE);
        if len > 0 {
            let _ = self.unmap(0, len);
        }
    }
}

/// Whether the kernel can read the aligned word at `addr` for this program, found out without
/// touching it: FUTEX_WAIT (private) with a timeout of zero reads the word and never sleeps.
pub fn readable(addr: usize) -> bool {
    assert!(addr.is_multiple_of(4), "a futex word is aligned");
    const WAIT_PRIVATE: usize = 128;
    let zero = [0u64; 2];
    let timeout = (&raw const zero) as usize;
    // SAFETY: the call only reads memory.
    let got = unsafe { crate::sys::futex([addr, WAIT_PRIVATE, 0, timeout, 0, 0]) };
    let known = [-errno::EFAULT, -errno::EAGAIN, -errno::ETIMEDOUT];
    require!(
        known.contains(&got),
        "futex as a probe answers {}",
        crate::sys::describe(got)
    );
    got != -errno::EFAULT
}

/// Whether the kernel can write the byte at `offset` of `area` for this program: getrandom writes
/// one byte there, so what it held is lost if the answer is yes.
pub fn writable(area: &Area, offset: usize) -> bool {
    let addr = area.addr(offset);
    // SAFETY: at most one byte of the area changes.
    let got = unsafe { syscall(nr::GETRANDOM, [addr, 1, 0, 0, 0, 0]) };
    require!(
        got == 1 || got == -errno::EFAULT,
        "getrandom as a probe answers {}",
        crate::sys::describe(got)
    );
    got == 1
}
