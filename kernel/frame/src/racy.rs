//! Copies between kernel memory and a page that EL0 may be writing at the same moment.
//!
//! Every access to the page is a relaxed atomic, of eight bytes where alignment allows: that is
//! what makes the race defined (the bytes may be old or new, nothing worse) and compiles to plain
//! loads and stores.

use arm64::addr::PAGE_SIZE;

// Core's atomics, not `sync`'s: these words are memory of programs, not state of a protocol.
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

const WORD: usize = 8;

/// Bytes from `at` to the next multiple of eight, at most `len`.
fn unaligned_head(at: *const u8, len: usize) -> usize {
    (at.addr().wrapping_neg() % WORD).min(len)
}

/// Fills `to` from the page memory at `from`.
///
/// # Safety
/// `from` is the address of `to.len()` mapped bytes of a user page.
#[inline]
pub(crate) unsafe fn load(from: *const u8, to: &mut [u8]) {
    let (head, body) = to.split_at_mut(unaligned_head(from, to.len()));
    // SAFETY: the three pieces follow one another within the caller's range; the middle one starts
    // at a multiple of eight.
    unsafe {
        load_bytes(from, head);
        let from = from.add(head.len());
        let (words, tail) = body.split_at_mut(body.len() / WORD * WORD);
        load_words(from, words);
        load_bytes(from.add(words.len()), tail);
    }
}

/// Copies `from` to the page memory at `to`.
///
/// # Safety
/// `to` is the address of `from.len()` mapped bytes of a user page.
#[inline]
pub(crate) unsafe fn store(to: *mut u8, from: &[u8]) {
    let (head, body) = from.split_at(unaligned_head(to, from.len()));
    // SAFETY: as in `load`.
    unsafe {
        store_bytes(to, head);
        let to = to.add(head.len());
        let (words, tail) = body.split_at(body.len() / WORD * WORD);
        store_words(to, words);
        store_bytes(to.add(words.len()), tail);
    }
}

/// Clears `len` bytes of page memory.
///
/// # Safety
/// As for [`store`].
pub(crate) unsafe fn clear(to: *mut u8, len: usize) {
    const ZEROES: [u8; 256] = [0; 256];
    let mut done = 0;
    while done < len {
        let step = (len - done).min(ZEROES.len());
        // SAFETY: within the caller's range.
        unsafe { store(to.add(done), &ZEROES[..step]) };
        done += step;
    }
}

/// # Safety
/// As for [`load`].
unsafe fn load_bytes(from: *const u8, to: &mut [u8]) {
    for (i, byte) in to.iter_mut().enumerate() {
        // SAFETY: within the caller's range; single bytes have no alignment.
        *byte = unsafe { AtomicU8::from_ptr(from.add(i).cast_mut()) }.load(Relaxed);
    }
}

/// # Safety
/// As for [`store`].
unsafe fn store_bytes(to: *mut u8, from: &[u8]) {
    for (i, &byte) in from.iter().enumerate() {
        // SAFETY: within the caller's range; single bytes have no alignment.
        unsafe { AtomicU8::from_ptr(to.add(i)) }.store(byte, Relaxed);
    }
}

/// # Safety
/// As for [`load`]; `from` and the length are multiples of eight.
unsafe fn load_words(from: *const u8, to: &mut [u8]) {
    // SAFETY: any bytes make a u64.
    let (before, words, _) = unsafe { to.align_to_mut::<u64>() };
    if before.is_empty() {
        let count = words.len();
        // SAFETY: both sides are aligned and `count` words long.
        unsafe { copy_words(words.as_mut_ptr(), from.cast(), count) };
        return;
    }
    for (i, chunk) in to.chunks_exact_mut(WORD).enumerate() {
        // SAFETY: within the caller's range, aligned.
        let word = unsafe { word(from.cast::<u64>().add(i)) }.load(Relaxed);
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
}

/// # Safety
/// As for [`store`]; `to` and the length are multiples of eight.
unsafe fn store_words(to: *mut u8, from: &[u8]) {
    // SAFETY: any bytes make a u64.
    let (before, words, _) = unsafe { from.align_to::<u64>() };
    if before.is_empty() {
        // SAFETY: both sides are aligned and as long as `words`.
        unsafe { copy_words(to.cast(), words.as_ptr(), words.len()) };
        return;
    }
    for (i, chunk) in from.chunks_exact(WORD).enumerate() {
        let mut bytes = [0; WORD];
        bytes.copy_from_slice(chunk);
        // SAFETY: within the caller's range, aligned.
        unsafe { word(to.cast::<u64>().add(i)) }.store(u64::from_ne_bytes(bytes), Relaxed);
    }
}

/// # Safety
/// `at` points to an aligned, mapped word. If other memory than a user page, nobody writes it.
#[inline(always)]
unsafe fn word<'a>(at: *const u64) -> &'a AtomicU64 {
    // SAFETY: as the caller promises.
    unsafe { AtomicU64::from_ptr(at.cast_mut()) }
}

/// Copies `count` words. Atomic on both sides: either may be the user page.
///
/// # Safety
/// Both ranges are mapped and aligned; they do not overlap.
#[inline]
unsafe fn copy_words(to: *mut u64, from: *const u64, count: usize) {
    const STRIDE: usize = 8;
    let mut done = 0;
    while done + STRIDE <= count {
        let mut line = [0; STRIDE];
        for (i, value) in line.iter_mut().enumerate() {
            // SAFETY: `done + i` is below `count`.
            *value = unsafe { word(from.add(done + i)) }.load(Relaxed);
        }
        for (i, value) in line.into_iter().enumerate() {
            // SAFETY: `done + i` is below `count`.
            unsafe { word(to.add(done + i)) }.store(value, Relaxed);
        }
        done += STRIDE;
    }
    for i in done..count {
        // SAFETY: `i` is below `count`.
        unsafe { word(to.add(i)).store(word(from.add(i)).load(Relaxed), Relaxed) };
    }
}

/// The portable page copy of [`PageOps`](crate::PageOps).
///
/// # Safety
/// See there.
pub(crate) unsafe fn copy_page(to: *mut u8, from: *const u8) {
    // SAFETY: a page is mapped and aligned on both sides.
    unsafe { copy_words(to.cast(), from.cast(), PAGE_SIZE as usize / WORD) }
}
