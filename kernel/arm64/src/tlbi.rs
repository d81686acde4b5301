//! Operands of the TLB invalidation instructions, and the cutting of a range into them.
//!
//! Only values: `kernel::arch` issues the instructions. A level hint (`TTL`) is a promise that the
//! entry is at that level; a wrong one may invalidate nothing, so pass `None` when table entries
//! were changed, or when the CPU lacks FEAT_TTL.
//! [ARM "TLBI VAE1IS", "TLBI RVAE1IS", "TLBI ASIDE1IS"]

use crate::addr::{PAGE_SHIFT, VirtAddr};
use crate::geometry::Level;

/// The most pages one range operation covers: 32 × 2^16.
pub const RANGE_MAX_PAGES: u64 = 32 << 16;

/// 4 KiB granule, in the `TG` field of a range and in the upper half of `TTL`.
const GRANULE_4K: u64 = 1;
const ASID_SHIFT: u32 = 48;

/// The level hint, 1 to 3; 0 (none) for other levels, which have no hint in every version.
#[inline(always)]
const fn hint(level: Option<Level>) -> u64 {
    match level {
        Some(Level::L1) => 1,
        Some(Level::L2) => 2,
        Some(Level::L3) => 3,
        _ => 0,
    }
}

/// Operand of `ASIDE1`/`ASIDE1IS`: all entries of an ASID that are not global.
#[inline(always)]
pub const fn asid(asid: u16) -> u64 {
    (asid as u64) << ASID_SHIFT
}

/// Operand of `VAE1`, `VALE1`, `VAAE1`, `VAALE1` and their shareable forms: the entry that
/// translates `va`, of this ASID or global (the all-ASID forms ignore `asid`).
#[inline(always)]
pub const fn va(asid: u16, va: VirtAddr, level: Option<Level>) -> u64 {
    let level = hint(level);
    let ttl = if level == 0 {
        0
    } else {
        GRANULE_4K << 2 | level
    };
    // Address bits 55:12; the tag byte is not part of the operand.
    let page = va.raw() >> PAGE_SHIFT & ((1 << 44) - 1);
    (asid as u64) << ASID_SHIFT | ttl << 44 | page
}

/// Operand of `RVAE1` and its family (FEAT_TLBIRANGE): `(num + 1) << (5 * scale + 1)` pages from
/// `start`. `num` is below 32, `scale` below 4. With LPA2 the field counts 64 KiB units: `start` must
/// be a multiple of that.
#[inline(always)]
pub const fn range(
    asid: u16,
    start: VirtAddr,
    num: u8,
    scale: u8,
    level: Option<Level>,
    lpa2: bool,
) -> u64 {
    let unit = if lpa2 { 16 } else { PAGE_SHIFT };
    let base = start.raw() >> unit & ((1 << 37) - 1);
    (asid as u64) << ASID_SHIFT
        | GRANULE_4K << 46
        | (scale as u64 & 3) << 44
        | (num as u64 & 31) << 39
        | hint(level) << 37
        | base
}

/// Pages that a range operation covers.
#[inline(always)]
pub const fn range_pages(num: u8, scale: u8) -> u64 {
    (num as u64 + 1) << (5 * scale as u32 + 1)
}

/// One invalidation of a [`Pieces`] sequence.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// An operand for the by-address instructions.
    Page(u64),
    /// An operand for the range instructions.
    Range(u64),
}

/// A range of addresses to invalidate, cut into as few operations as the CPU offers.
///
/// An iterator of [`Op`]s; they may be issued in any order. Range operations go from the coarsest to
/// the finest scale; one page alone, and with LPA2 the pages before a multiple of 64 KiB, take
/// by-address operations.
#[derive(Clone, Copy, Debug)]
pub struct Pieces {
    asid: u16,
    next: VirtAddr,
    pages: u64,
    entry: Level,
    hint: Option<Level>,
    ranges: bool,
    lpa2: bool,
}

/// What the CPU offers for invalidating ranges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abilities {
    /// FEAT_TLBIRANGE.
    pub ranges: bool,
    /// FEAT_TTL.
    pub hints: bool,
    /// `TCR_EL1.DS` is 1.
    pub lpa2: bool,
}

impl Pieces {
    /// The operations for `pages` pages from the page of `start`, which entries of level `entry` map
    /// (by-address operations then go entry by entry). `leaf_only` says that no table entry was
    /// changed, so that the level may be hinted.
    pub const fn new(
        asid: u16,
        start: VirtAddr,
        pages: u64,
        entry: Level,
        leaf_only: bool,
        abilities: Abilities,
    ) -> Self {
        let hint = if leaf_only && abilities.hints {
            Some(entry)
        } else {
            None
        };
        let Abilities { ranges, lpa2, .. } = abilities;
        Self {
            asid,
            next: start,
            pages,
            entry,
            hint,
            ranges,
            lpa2,
        }
    }

    /// The largest range operation that fits into what is left, as (num, scale).
    fn largest(&self) -> Option<(u8, u8)> {
        let aligned = !self.lpa2 || self.next.is_aligned(1 << 16);
        if !self.ranges || !aligned || self.pages < 2 {
            return None;
        }
        // The coarsest scale of which one unit, 2^(5 * scale + 1) pages, fits.
        let scale = ((self.pages.ilog2() - 1) / 5).min(3) as u8;
        let units = (self.pages >> (5 * u32::from(scale) + 1)).min(32);
        Some((units as u8 - 1, scale))
    }

    fn advance(&mut self, pages: u64) {
        self.pages -= pages;
        self.next = VirtAddr::new(self.next.raw().wrapping_add(pages << PAGE_SHIFT));
    }
}

impl Iterator for Pieces {
    type Item = Op;

    fn next(&mut self) -> Option<Op> {
        if self.pages == 0 {
            return None;
        }
        let start = self.next;
        if let Some((num, scale)) = self.largest() {
            self.advance(range_pages(num, scale));
            return Some(Op::Range(range(
                self.asid, start, num, scale, self.hint, self.lpa2,
            )));
        }
        let into_entry = (start.raw() & (self.entry.size() - 1)) >> PAGE_SHIFT;
        self.advance(((self.entry.size() >> PAGE_SHIFT) - into_entry).min(self.pages));
        Some(Op::Page(va(self.asid, start, self.hint)))
    }
}
