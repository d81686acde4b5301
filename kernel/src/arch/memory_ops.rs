//! Clearing, copying and publishing memory with the CPU's own means.

use core::arch::asm;

use arm64::addr::PAGE_SIZE;
use sync::atomic::{AtomicU32, Ordering};

/// Bytes that one `dc zva` clears; 0 where it is prohibited or not yet known.
static ZVA_BLOCK: AtomicU32 = AtomicU32::new(0);

/// Reads the block size of `dc zva` (DCZID_EL0). Until then clearing uses plain stores.
pub fn init() {
    let id: u64;
    // SAFETY: reading an identification register.
    unsafe { asm!("mrs {}, dczid_el0", out(reg) id, options(nomem, nostack, preserves_flags)) }
    let prohibited = id >> 4 & 1 != 0;
    let block = if prohibited { 0 } else { 4 << (id & 0xf) };
    ZVA_BLOCK.store(block, Ordering::Relaxed);
}

/// Clears the page that begins at `page`.
///
/// # Safety
/// `page` is page-aligned, Normal memory, mapped writable, and nobody else's.
pub unsafe fn zero_page(page: *mut u8) {
    // SAFETY: passed on from this function's contract.
    unsafe { zero(page, PAGE_SIZE as usize) }
}

/// Clears `len` bytes from `start`, both multiples of the page size.
///
/// # Safety
/// As for [`zero_page`], for the whole range.
pub unsafe fn zero(start: *mut u8, len: usize) {
    let block = ZVA_BLOCK.load(Ordering::Relaxed) as usize;
    if block == 0 || block > PAGE_SIZE as usize {
        // SAFETY: the caller owns the range, which is mapped writable.
        return unsafe { start.write_bytes(0, len) };
    }
    // SAFETY: as above; the range is a multiple of sixteen blocks or of one (blocks are powers of two
    // not above a page, and a page has at least one), and Normal memory, as `dc zva` requires.
    unsafe {
        if block * 16 <= PAGE_SIZE as usize {
            zero_by_sixteen(start, len, block);
        } else {
            zero_by_one(start, len, block);
        }
    }
}

/// # Safety
/// As [`zero`], with a length that is a multiple of sixteen blocks of `block` bytes.
unsafe fn zero_by_sixteen(start: *mut u8, len: usize, block: usize) {
    // SAFETY: passed on from the only caller.
    unsafe {
        asm!(
            "2:",
            ".rept 16",
            "dc zva, {at}",
            "add {at}, {at}, {block}",
            ".endr",
            "cmp {at}, {end}",
            "b.lo 2b",
            at = inout(reg) start => _,
            end = in(reg) start.wrapping_add(len),
            block = in(reg) block,
            options(nostack),
        );
    }
}

/// # Safety
/// As [`zero`], with a length that is a multiple of `block` bytes.
unsafe fn zero_by_one(start: *mut u8, len: usize, block: usize) {
    // SAFETY: passed on from the only caller.
    unsafe {
        asm!(
            "2:",
            "dc zva, {at}",
            "add {at}, {at}, {block}",
            "cmp {at}, {end}",
            "b.lo 2b",
            at = inout(reg) start => _,
            end = in(reg) start.wrapping_add(len),
            block = in(reg) block,
            options(nostack),
        );
    }
}

/// Copies the page at `from` to the page at `to`. EL0 may write to either meanwhile.
///
/// # Safety
/// Both are aligned to 16 bytes, mapped, and do not overlap; `to` is writable.
pub unsafe fn copy_page(to: *mut u8, from: *const u8) {
    // SAFETY: by this function's contract; assembly, so a racing writer gives old or new bytes
    // and nothing worse.
    unsafe {
        asm!(
            "2:",
            "ldp {a}, {b}, [{from}], #16",
            "ldp {c}, {d}, [{from}], #16",
            "ldp {e}, {f}, [{from}], #16",
            "ldp {g}, {h}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            "stp {c}, {d}, [{to}], #16",
            "stp {e}, {f}, [{to}], #16",
            "stp {g}, {h}, [{to}], #16",
            "cmp {to}, {end}",
            "b.lo 2b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            end = in(reg) to.wrapping_add(PAGE_SIZE as usize),
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
            e = out(reg) _, f = out(reg) _, g = out(reg) _, h = out(reg) _,
            options(nostack),
        );
    }
}

/// Makes instructions that were stored at `start..start + len` (kernel addresses, mapped) visible
/// to instruction fetch on all CPUs (Arm ARM, “Synchronization and coherency issues between data
/// and instruction accesses”).
pub fn sync_icache(start: *const u8, len: usize) {
    let ctr = cache_type();
    let end = start.addr() + len;
    // CTR_EL0.IDC and .DIC: no cleaning, no invalidation needed.
    if ctr >> 28 & 1 == 0 {
        let line = 4usize << (ctr >> 16 & 0xf);
        for at in (start.addr() & !(line - 1)..end).step_by(line) {
            // SAFETY: cleaning a mapped line changes no data.
            unsafe { asm!("dc cvau, {}", in(reg) at, options(nostack, preserves_flags)) }
        }
    }
    // SAFETY: barriers and invalidation of clean copies only.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) }
    if ctr >> 29 & 1 == 0 {
        let line = 4usize << (ctr & 0xf);
        for at in (start.addr() & !(line - 1)..end).step_by(line) {
            // SAFETY: as above.
            unsafe { asm!("ic ivau, {}", in(reg) at, options(nostack, preserves_flags)) }
        }
        // SAFETY: as above.
        unsafe { asm!("dsb ish", options(nostack, preserves_flags)) }
    }
    // SAFETY: as above.
    unsafe { asm!("isb", options(nostack, preserves_flags)) }
}

/// Writes the cached bytes of `start..start + len` back to memory, for a CPU whose caches are off
/// yet.
pub fn clean_to_memory(start: *const u8, len: usize) {
    let line = 4usize << (cache_type() >> 16 & 0xf);
    for at in (start.addr() & !(line - 1)..start.addr() + len).step_by(line) {
        // SAFETY: cleaning a mapped line changes no data.
        unsafe { asm!("dc cvac, {}", in(reg) at, options(nostack, preserves_flags)) }
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) }
}

fn cache_type() -> u64 {
    let ctr: u64;
    // SAFETY: reading an identification register.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) }
    ctr
}
