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

/// The block of every CPU there is so far, and the one that clearing is fastest for, in bytes.
const USUAL_BLOCK: usize = 64;

/// Clears the page that begins at `page`.
///
/// # Safety
/// `page` is page-aligned, Normal memory, mapped writable, and nobody else's.
pub unsafe fn zero_page(page: *mut u8) {
    let end = page.wrapping_add(PAGE_SIZE as usize);
    // SAFETY: passed on from this function's contract.
    unsafe {
        match ZVA_BLOCK.load(Ordering::Relaxed) as usize {
            USUAL_BLOCK => zero_by_pages::<{ PAGE_SIZE as usize / USUAL_BLOCK }>(page, end),
            _ => zero_pages(page, 1),
        }
    }
}

/// Clears `pages` pages, at least one, from `first` on.
///
/// # Safety
/// As for [`zero_page`], for all of them.
pub unsafe fn zero_pages(first: *mut u8, pages: usize) {
    let block = ZVA_BLOCK.load(Ordering::Relaxed) as usize;
    let end = first.wrapping_add(pages * PAGE_SIZE as usize);
    // SAFETY: the caller owns the pages, which are Normal memory and mapped writable, as `dc zva`
    // requires; they are a multiple of blocks, which are powers of two, if those are no larger than
    // a page.
    unsafe {
        match block {
            USUAL_BLOCK => {
                let rest = first.wrapping_add((pages & !7) * PAGE_SIZE as usize);
                if first < rest {
                    zero_by_pages::<{ 8 * PAGE_SIZE as usize / USUAL_BLOCK }>(first, rest);
                }
                if rest < end {
                    zero_by_pages::<{ PAGE_SIZE as usize / USUAL_BLOCK }>(rest, end);
                }
            }
            1..=MAX_BLOCK => zero_by_block(first, end, block),
            _ => first.write_bytes(0, pages * PAGE_SIZE as usize),
        }
    }
}

/// The largest block that a page is a multiple of.
const MAX_BLOCK: usize = PAGE_SIZE as usize;

/// Clears `BLOCKS` blocks at a time: the loop itself costs nothing beside them.
///
/// # Safety
/// As [`zero_pages`], on a CPU that clears [`USUAL_BLOCK`] bytes at a time; so many times as many, and
/// not empty.
#[inline(always)]
unsafe fn zero_by_pages<const BLOCKS: usize>(start: *mut u8, end: *mut u8) {
    // SAFETY: passed on from the only caller.
    unsafe {
        asm!(
            "2:",
            ".rept {blocks}",
            "dc zva, {at}",
            "add {at}, {at}, #{block}",
            ".endr",
            "cmp {at}, {end}",
            "b.lo 2b",
            at = inout(reg) start => _,
            end = in(reg) end,
            block = const USUAL_BLOCK,
            blocks = const BLOCKS,
            options(nostack),
        );
    }
}

/// # Safety
/// As [`zero_pages`], on a CPU that clears `block` bytes at a time; not empty.
unsafe fn zero_by_block(start: *mut u8, end: *mut u8, block: usize) {
    // SAFETY: passed on from the only caller.
    unsafe {
        asm!(
            "2:",
            "dc zva, {at}",
            "add {at}, {at}, {block}",
            "cmp {at}, {end}",
            "b.lo 2b",
            at = inout(reg) start => _,
            end = in(reg) end,
            block = in(reg) block,
            options(nostack),
        );
    }
}

/// Bytes that copying a page copies between two tests for the end, 64 at a time.
const COPY_UNROLLED: usize = 512;

/// Copies the page at `from` to the page at `to`. EL0 may write to either meanwhile.
///
/// By four vector registers, which are the loaded thread's and come back as they were: 32 bytes an
/// instruction instead of 16. Nothing else happens on this CPU meanwhile, as the kernel takes no
/// interrupts (D3), and SVE, whose registers would lose their upper halves, is off (CPACR_EL1).
///
/// # Safety
/// Both are aligned to 16 bytes, mapped, and do not overlap; `to` is writable.
pub unsafe fn copy_page(to: *mut u8, from: *const u8) {
    let mut kept = Kept([0; 8]);
    // SAFETY: by this function's contract; assembly, so a racing writer gives old or new bytes
    // and nothing worse. FP and vector registers are open to EL1, and what they held is put back.
    unsafe {
        asm!(
            ".arch_extension fp",
            "stp q0, q1, [{kept}]",
            "stp q2, q3, [{kept}, #32]",
            "2:",
            ".rept {pieces}",
            "ldp q0, q1, [{from}], #32",
            "ldp q2, q3, [{from}], #32",
            "stp q0, q1, [{to}], #32",
            "stp q2, q3, [{to}], #32",
            ".endr",
            "cmp {to}, {end}",
            "b.lo 2b",
            "ldp q0, q1, [{kept}]",
            "ldp q2, q3, [{kept}, #32]",
            ".arch_extension nofp",
            kept = in(reg) kept.0.as_mut_ptr(),
            pieces = const COPY_UNROLLED / 64,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            end = in(reg) to.wrapping_add(PAGE_SIZE as usize),
            options(nostack),
        );
    }
}

/// What four vector registers held.
#[repr(align(16))]
struct Kept([u64; 8]);

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
