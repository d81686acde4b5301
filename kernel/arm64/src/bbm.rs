//! Break before make, as a question about two values (law 5).
//!
//! [ARM "TLB maintenance requirements", "Using break-before-make when updating translation table
//! entries"]

use crate::attrs::MemType;
use crate::geometry::Level;
use crate::pte::{Format, Pte};

/// How an entry may become another one while the hardware may be using it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// The two are the same word. (Law 7: ask this of raw entries, never of a gathered view.)
    Nothing,
    /// One exchange does it.
    InPlace {
        /// A TLB invalidation must follow before anyone relies on the new entry: it takes something
        /// away, or it is a kernel mapping, on which a fault by a stale TLB entry would be a bug. If
        /// false, a CPU may at worst take a fault that it need not have taken; the handler finds the
        /// entry as wanted and invalidates its own TLB.
        flush: bool,
    },
    /// Write an invalid entry, invalidate the TLB, write the new entry.
    Break,
}

/// What it takes to turn `old` into `new` in a table of `level`.
///
/// The answer is for one entry. In a contiguous block a change that is in place must be made to
/// every entry of the block before the flush, else the block is unfolded first (law 5): entries of
/// a block with different permissions stay unpredictable even after a flush.
///
/// Anything not known to be safe is [`Change::Break`].
#[inline]
pub const fn change(old: Pte, new: Pte, level: Level, format: Format) -> Change {
    if old.raw() == new.raw() {
        return Change::Nothing;
    }
    if !old.is_valid() {
        // An invalid entry is in no TLB. Whether the new one needs a barrier to be seen is the
        // table writer's business: always for kernel mappings, never for user mappings.
        return Change::InPlace { flush: false };
    }
    if !new.is_valid() {
        return Change::InPlace { flush: true };
    }
    if !old.is_leaf(level) || !new.is_leaf(level) {
        return Change::Break;
    }
    if reach(old, new, format).raw() != new.raw() {
        return Change::Break;
    }
    Change::InPlace {
        flush: must_flush(old, new),
    }
}

/// How far `old` gets towards `new` by changes that need no break: permissions, accessed, dirty,
/// software's marks, becoming non-global, and Normal to Normal-Tagged or back. Address, size,
/// contiguity, other memory types, becoming global, and any bit unknown to the codec stay.
const fn reach(old: Pte, new: Pte, format: Format) -> Pte {
    let mut entry = old.with_prot(new.prot());
    entry = if new.dirty() {
        entry.mkdirty()
    } else {
        entry.mkclean()
    };
    entry = if new.young() {
        entry.mkyoung()
    } else {
        entry.mkold()
    };
    entry = entry
        .with_uffd_wp(new.uffd_wp())
        .with_special(new.special());
    if !new.global() {
        entry = entry.mk_not_global();
    }
    if is_write_back(old.mem_type()) && is_write_back(new.mem_type()) {
        entry = format.with_mem(entry, new.mem_type());
    }
    entry
}

/// The two memory types that differ by tags only.
const fn is_write_back(mem: MemType) -> bool {
    matches!(mem, MemType::Normal | MemType::Tagged)
}

/// The entry as far as the hardware sees it.
const fn seen_by_hardware(pte: Pte) -> Pte {
    let unmarked = pte.with_uffd_wp(false).with_special(false);
    if unmarked.writable() {
        unmarked
    } else {
        unmarked.mkclean()
    }
}

const fn must_flush(old: Pte, new: Pte) -> bool {
    let (before, after) = (seen_by_hardware(old), seen_by_hardware(new));
    if before.raw() == after.raw() {
        return false;
    }
    // An entry that is not accessed is in no TLB, so becoming young takes nothing away; and an
    // entry that was old and stays what it was otherwise needs no flush even in the kernel.
    if before.mkyoung().raw() == after.mkyoung().raw() {
        return before.young() && !after.young();
    }
    let loses_write =
        before.writable() && !after.writable() || before.hw_writable() && !after.hw_writable();
    let loses_exec = before.user_exec() && !after.user_exec();
    !(before.user() && after.user())
        || before.global() != after.global()
        || before.mem_type() as u8 != after.mem_type() as u8
        || before.young() && !after.young()
        || loses_write
        || loses_exec
}
