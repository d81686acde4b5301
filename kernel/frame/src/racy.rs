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

/// Copies `len` bytes of page memory to page memory. The words stored are aligned, and so are those
/// loaded: each is put together from two where the one side lies otherwise in its words than the
/// other.
///
/// # Safety
/// Both are the addresses of so many mapped bytes of user pages.
pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    let head = unaligned_head(to, len);
    let words = (len - head) / WORD;
    let tail = head + words * WORD;
    let (first, into) = (to.wrapping_add(head).cast::<u64>(), from.wrapping_add(head));
    let skew = into.addr() % WORD;
    let source = into.wrapping_sub(skew).cast::<u64>();
    // SAFETY: within the caller's ranges, but for bytes of `source` that share a word with one of
    // them, and so a page.
    unsafe {
        copy_bytes(to, from, head);
        match skew {
            0 => (0..words).for_each(|i| store_word(first.add(i), load_word(source.add(i)))),
            _ if words > 0 => copy_skewed(first, source, words, skew as u32 * 8),
            _ => {}
        }
        copy_bytes(to.add(tail), from.add(tail), len - tail);
    }
}

/// Copies `count` words that begin `shift` bits, neither none nor all, into the word at `from`.
///
/// # Safety
/// So many words at `to`, and one more at `from`, are aligned words of user pages.
unsafe fn copy_skewed(to: *mut u64, from: *const u64, count: usize, shift: u32) {
    const { assert!(cfg!(target_endian = "little")) };
    // SAFETY: as the caller promises.
    let mut low = unsafe { load_word(from) };
    for i in 0..count {
        // SAFETY: as the caller promises.
        unsafe {
            let high = load_word(from.add(i + 1));
            store_word(to.add(i), low >> shift | high << (u64::BITS - shift));
            low = high;
        }
    }
}

/// # Safety
/// As for [`copy`].
unsafe fn copy_bytes(to: *mut u8, from: *const u8, len: usize) {
    for i in 0..len {
        // SAFETY: within the caller's ranges; single bytes have no alignment.
        unsafe {
            let byte = AtomicU8::from_ptr(from.add(i).cast_mut()).load(Relaxed);
            AtomicU8::from_ptr(to.add(i)).store(byte, Relaxed);
        }
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
