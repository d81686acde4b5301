//! Allocation tags in memory: cleared, copied, saved and compared by the direct map, which shows all
//! memory that can carry tags as Normal-Tagged (D16). None of these instructions checks a tag.
//! [ARM "LDGM", "STGM", "STZGM", "LDG", "GMID_EL1", "DCZID_EL0"]

use core::arch::asm;

use arm64::addr::PAGE_SIZE;
use arm64::addr::Pfn;
use frame::{PAGES_PER_TAG_PAGE, PageTags, TagOps};

use super::{events, frames as boot, mmu};
use crate::memory;

/// The operations, for a CPU with FEAT_MTE2.
pub(super) const OPS: TagOps = TagOps {
    zero_pages,
    clear,
    copy,
    save,
    load,
    block_taken,
    block_free,
    matching,
};

/// Bytes with one tag.
const GRANULE: usize = 16;
/// Bytes whose tags fill a register: where the tag of a granule is in it, bits 7 to 4 of its address
/// say.
const LINE: usize = 256;
const PAGE: usize = PAGE_SIZE as usize;
/// Bytes between two addresses of cache maintenance: no line of any CPU known is shorter.
const CACHE_LINE: usize = 64;

/// Bytes whose tags one LDGM or STGM moves, at most a line.
#[inline(always)]
fn block() -> usize {
    let gmid: u64;
    // SAFETY: reads an identification register of FEAT_MTE2, which callers know to be there.
    unsafe {
        asm!("mrs {}, s3_1_c0_c0_4", out(reg) gmid, options(nomem, nostack, preserves_flags, pure));
    }
    (4usize << (gmid & 0xf)).clamp(GRANULE, LINE)
}

/// # Safety
/// As [`frame::TagOps::zero_pages`].
unsafe fn zero_pages(first: *mut u8, pages: usize) {
    let id: u64;
    // SAFETY: reads an identification register; STZGM clears blocks of its size.
    unsafe { asm!("mrs {}, dczid_el0", out(reg) id, options(nomem, nostack, preserves_flags)) }
    let (start, end) = (first.addr(), first.addr() + pages * PAGE);
    match 4usize << (id & 0xf) {
        64 => {
            // SAFETY: as the caller promises: whole pages of its own, which are whole blocks.
            unsafe {
                asm!(
                    ".arch_extension memtag",
                    "2:",
                    ".rept 64",
                    "stzgm xzr, [{at}]",
                    "add {at}, {at}, #64",
                    ".endr",
                    "cmp {at}, {end}",
                    "b.lo 2b",
                    ".arch_extension nomemtag",
                    at = inout(reg) start => _,
                    end = in(reg) end,
                    options(nostack),
                );
            }
        }
        block => {
            // SAFETY: as above.
            unsafe {
                asm!(
                    ".arch_extension memtag",
                    "2:",
                    "stzgm xzr, [{at}]",
                    "add {at}, {at}, {block}",
                    "cmp {at}, {end}",
                    "b.lo 2b",
                    ".arch_extension nomemtag",
                    at = inout(reg) start => _,
                    end = in(reg) end,
                    block = in(reg) block.min(PAGE),
                    options(nostack),
                );
            }
        }
    }
}

/// A block of storage holds tags from now on. What the caches have of its data must neither be written
/// back over the tags nor be read any more: it is cleaned and invalidated before the first tag is
/// written, and nothing maps the frames but the direct map, which then does not either.
/// [ARM "Cache maintenance of Allocation Tags"; requirements B.6, the cache rule]
fn block_taken(first: Pfn, pages: u32) {
    memory::storage::hide(first, pages);
}

/// The other way about: tags that the caches still have must not be written back over the data to come.
fn block_free(first: Pfn, pages: u32) {
    memory::storage::show(first, pages);
}

/// # Safety
/// As [`frame::TagOps::clear`].
unsafe fn clear(page: *mut u8) {
    let start = page.addr();
    if block() != LINE {
        for line in (start..start + PAGE).step_by(LINE) {
            // SAFETY: a line of the caller's page.
            unsafe { set_line(line, 0) }
        }
        return;
    }
    // SAFETY: stores tags alone, to the caller's page.
    unsafe {
        asm!(
            ".arch_extension memtag",
            ".rept {lines}",
            "stgm xzr, [{at}]",
            "add {at}, {at}, #{line}",
            ".endr",
            ".arch_extension nomemtag",
            at = inout(reg) start => _,
            lines = const PAGE / LINE,
            line = const LINE,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety
/// As [`frame::TagOps::copy`].
unsafe fn copy(to: *mut u8, from: *const u8) {
    for offset in (0..PAGE).step_by(LINE) {
        // SAFETY: lines of the caller's pages.
        unsafe { set_line(to.addr() + offset, line(from.addr() + offset)) }
    }
}

/// # Safety
/// As [`frame::TagOps::save`].
unsafe fn save(page: *const u8, tags: &mut PageTags) {
    let lines = (page.addr()..page.addr() + PAGE).step_by(LINE);
    for (bytes, at) in tags.chunks_exact_mut(8).zip(lines) {
        // SAFETY: a line of the caller's page.
        bytes.copy_from_slice(&unsafe { line(at) }.to_le_bytes());
    }
}

/// # Safety
/// As [`frame::TagOps::load`].
unsafe fn load(page: *mut u8, tags: &PageTags) {
    let lines = (page.addr()..page.addr() + PAGE).step_by(LINE);
    for (bytes, at) in tags.chunks_exact(8).zip(lines) {
        let mut word = [0; 8];
        word.copy_from_slice(bytes);
        // SAFETY: a line of the caller's page.
        unsafe { set_line(at, u64::from_le_bytes(word)) }
    }
}

/// # Safety
/// As [`frame::TagOps::matching`].
unsafe fn matching(at: *const u8, len: usize, tag: u8) -> usize {
    let (start, end) = (at.addr(), at.addr() + len);
    let all = u64::from(tag & 0xf) * 0x1111_1111_1111_1111;
    let mut next = start & !(GRANULE - 1);
    while next < end {
        if next.is_multiple_of(LINE) && end - next >= LINE {
            // SAFETY: the line lies in the caller's range.
            let differ = unsafe { line(next) } ^ all;
            if differ != 0 {
                next += differ.trailing_zeros() as usize / 4 * GRANULE;
                break;
            }
            next += LINE;
        } else {
            // SAFETY: the granule lies in the caller's page.
            if unsafe { granule(next) } != tag & 0xf {
                break;
            }
            next += GRANULE;
        }
    }
    next.clamp(start, end) - start
}

/// The tags of a line.
///
/// # Safety
/// The line at `at` is memory of the direct map that can carry tags.
#[inline(always)]
unsafe fn line(at: usize) -> u64 {
    let mut tags = 0;
    for at in (at..at + LINE).step_by(block()) {
        let some: u64;
        // SAFETY: loads tags alone, from where the caller says.
        unsafe {
            asm!(
                ".arch_extension memtag",
                "ldgm {some}, [{at}]",
                ".arch_extension nomemtag",
                some = out(reg) some,
                at = in(reg) at,
                options(nostack, preserves_flags, readonly),
            );
        }
        tags |= some;
    }
    tags
}

/// Sets the tags of a line.
///
/// # Safety
/// As [`line`], and the tags are the caller's to write.
#[inline(always)]
unsafe fn set_line(at: usize, tags: u64) {
    for at in (at..at + LINE).step_by(block()) {
        // SAFETY: stores tags alone, to where the caller says.
        unsafe {
            asm!(
                ".arch_extension memtag",
                "stgm {tags}, [{at}]",
                ".arch_extension nomemtag",
                tags = in(reg) tags,
                at = in(reg) at,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// The tag of a granule.
///
/// # Safety
/// As [`line`], for the granule at `at`.
#[inline(always)]
unsafe fn granule(at: usize) -> u8 {
    let mut tagged = at;
    // SAFETY: loads a tag alone, from where the caller says.
    unsafe {
        asm!(
            ".arch_extension memtag",
            "ldg {tagged}, [{at}]",
            ".arch_extension nomemtag",
            tagged = inout(reg) tagged,
            at = in(reg) at,
            options(nostack, preserves_flags, readonly),
        );
    }
    (tagged >> 56) as u8 & 0xf
}

/// Where the direct map shows `first`.
fn direct(first: Pfn) -> usize {
    (boot::DIRECT_MAP + first.raw() * PAGE_SIZE) as usize
}

/// Fills frames of storage, which are nobody's, with `byte`.
pub fn fill(first: Pfn, pages: u32, byte: u8) {
    let start = core::ptr::with_exposed_provenance_mut::<u8>(direct(first));
    // SAFETY: the frames are mapped by the direct map still, and the caller's alone.
    unsafe { start.write_bytes(byte, pages as usize * PAGE) }
}

/// Writes back and drops what the caches have of the data of frames.
/// [ARM "DC CIVAC"]
pub fn drop_data(first: Pfn, pages: u32) {
    let start = direct(first);
    for at in (start..start + pages as usize * PAGE).step_by(CACHE_LINE) {
        // SAFETY: maintenance of mapped lines changes no data.
        unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) }
    }
    events::dsb();
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) }
}

/// Writes back and drops what the caches have of the tags in a block of storage: those of the frames
/// that it serves.
/// [ARM "DC CIGVAC"]
pub fn drop_tags(block: Pfn, pages: u32) {
    let Some(served) = mmu::frames().served_by(block, pages) else {
        return;
    };
    debug_assert!(served.end.raw() - served.start.raw() <= u64::from(pages) * PAGES_PER_TAG_PAGE);
    for pfn in (served.start.raw()..served.end.raw()).map(Pfn::new) {
        // Storage has no tags, and may be out of sight.
        if !mmu::frames().is_tag_storage(pfn) {
            drop_tags_of_page(direct(pfn));
        }
    }
    events::dsb();
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) }
}

#[inline(always)]
fn drop_tags_of_page(start: usize) {
    for at in (start..start + PAGE).step_by(CACHE_LINE) {
        // SAFETY: maintenance of mapped lines; nobody needs the tags any more.
        unsafe {
            asm!(
                ".arch_extension memtag",
                "dc cigvac, {}",
                ".arch_extension nomemtag",
                in(reg) at,
                options(nostack, preserves_flags),
            );
        }
    }
}
