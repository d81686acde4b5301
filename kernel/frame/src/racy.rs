//! Copies between kernel memory and a page that EL0 may be writing at the same moment.
//!
//! Every access to the page is a relaxed atomic, of eight bytes where alignment allows: that is
//! what makes the race defined (the bytes may be old or new, nothing worse) and compiles to plain
//! loads and stores.

// Core's atomics, not `sync`'s: these words are memory of programs, not state of a protocol.
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

const WORD: usize = 8;
/// Words per round of a copy loop: a cache line.
const STRIDE: usize = 8;

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
    let from = from.cast::<u64>();
    // SAFETY: any bytes make a u64.
    if let ([], words, []) = unsafe { to.align_to_mut::<u64>() } {
        let done = words.len() / STRIDE * STRIDE;
        let (lines, rest) = words.as_chunks_mut::<STRIDE>();
        for (i, line) in lines.iter_mut().enumerate() {
            // SAFETY: within the caller's range, aligned.
            *line = core::array::from_fn(|j| unsafe { load_word(from.add(i * STRIDE + j)) });
        }
        for (i, value) in rest.iter_mut().enumerate() {
            // SAFETY: within the caller's range, aligned.
            *value = unsafe { load_word(from.add(done + i)) };
        }
        return;
    }
    for (i, chunk) in to.chunks_exact_mut(WORD).enumerate() {
        // SAFETY: within the caller's range, aligned.
        let value = unsafe { load_word(from.add(i)) };
        chunk.copy_from_slice(&value.to_ne_bytes());
    }
}

/// # Safety
/// As for [`store`]; `to` and the length are multiples of eight.
unsafe fn store_words(to: *mut u8, from: &[u8]) {
    let to = to.cast::<u64>();
    // SAFETY: any bytes make a u64.
    if let ([], words, []) = unsafe { from.align_to::<u64>() } {
        let done = words.len() / STRIDE * STRIDE;
        let (lines, rest) = words.as_chunks::<STRIDE>();
        for (i, line) in lines.iter().enumerate() {
            for (j, &value) in line.iter().enumerate() {
                // SAFETY: within the caller's range, aligned.
                unsafe { store_word(to.add(i * STRIDE + j), value) };
            }
        }
        for (i, &value) in rest.iter().enumerate() {
            // SAFETY: within the caller's range, aligned.
            unsafe { store_word(to.add(done + i), value) };
        }
        return;
    }
    for (i, chunk) in from.chunks_exact(WORD).enumerate() {
        let mut bytes = [0; WORD];
        bytes.copy_from_slice(chunk);
        // SAFETY: within the caller's range, aligned.
        unsafe { store_word(to.add(i), u64::from_ne_bytes(bytes)) };
    }
}

/// # Safety
/// `at` points to an aligned word of a user page.
#[inline(always)]
unsafe fn load_word(at: *const u64) -> u64 {
    // SAFETY: as the caller promises.
    unsafe { AtomicU64::from_ptr(at.cast_mut()) }.load(Relaxed)
}

/// # Safety
/// `at` points to an aligned word of a user page.
#[inline(always)]
unsafe fn store_word(at: *mut u64, value: u64) {
    // SAFETY: as the caller promises.
    unsafe { AtomicU64::from_ptr(at) }.store(value, Relaxed);
}
