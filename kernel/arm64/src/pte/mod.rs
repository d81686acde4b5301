//! Translation table entries: the only place where descriptor bits are spelt (law 1).
//!
//! [`Pte`] is the 64-bit word and answers quick questions about it; [`Format`] knows where the
//! output address goes (LPA2 or not) and turns words into [`Entry`] values and back.
//!
//! How permissions and dirtiness are kept, for a word that maps a frame:
//!
//! | state | DBM | AP\[2\] | software dirty |
//! |---|---|---|---|
//! | writable, clean | 1 | 1 | 0 |
//! | writable, dirty | 1 | 0 | 0 |
//! | read-only, clean | 0 | 1 | 0 |
//! | read-only, dirty | 0 | 1 | 1 |
//!
//! Every other combination is [`Entry::Corrupt`]. The hardware's own changes (AF set; with DBM,
//! AP\[2\] cleared) lead from one row to another.
//! [ARM "Hardware management of the Access flag and dirty state"]

mod bits;
mod codec;
mod display;
mod entry;

pub use codec::Format;
pub use entry::{EncodeError, Entry, Invalid, MAX_SWAP_KINDS, MarkerBits, SWAP_OFFSET_BITS};

use crate::attrs::{Attrs, MemType, Prot};
use crate::geometry::Level;
use bits::{
    AF, AP_EL0, AP_READ_ONLY, CONT, DBM, INDEX, INDEX_SHIFT, KIND, KIND_MARKER, KIND_POISON,
    MARKER_POISON, NG, NO_ACCESS, NO_TAGS, PXN, SPECIAL, SW_DIRTY, TABLE_OR_PAGE, TYPE, UFFD_WP,
    UXN, VALID,
};

/// The value of a table entry, as loaded: a plain number without an address (law 2).
///
/// Questions and changes marked *frame* mean something only for a word that maps a frame
/// ([`Pte::is_present`]); asked of another word they read bits of its payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Pte(u64);

const fn flag(on: bool, bits: u64) -> u64 {
    if on { bits } else { 0 }
}

/// The permission bits and the dirty state for a mapping.
#[inline(always)]
const fn permission_bits(prot: Prot, dirty: bool) -> u64 {
    let user = prot.contains(Prot::USER);
    let write = prot.contains(Prot::WRITE);
    let exec = prot.contains(Prot::EXEC);
    flag(user, AP_EL0)
        | flag(user || !exec, PXN)
        | flag(!user || !exec, UXN)
        | flag(write, DBM)
        | flag(!(write && dirty), AP_READ_ONLY)
        | flag(dirty && !write, SW_DIRTY)
        | flag(prot.is_no_access(), NO_ACCESS)
}

/// A change of permissions prepared for many entries: [`Pte::with_prot`] by a mask and one of two
/// constants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reprotect {
    clean: u64,
    dirty: u64,
}

impl Reprotect {
    /// To the permissions `prot`.
    pub const fn new(prot: Prot) -> Self {
        let user = flag(prot.contains(Prot::USER), NG);
        Self {
            clean: permission_bits(prot, false) | user,
            dirty: permission_bits(prot, true) | user,
        }
    }

    /// [`Pte::with_prot`] of `pte` (*frame*).
    #[inline(always)]
    pub const fn apply(self, pte: Pte) -> Pte {
        let bits = if pte.dirty() { self.dirty } else { self.clean };
        Pte(pte.0 & !PERMISSION | bits).settle_valid()
    }
}

/// All bits that [`permission_bits`] decides.
const PERMISSION: u64 = AP_EL0 | PXN | UXN | DBM | AP_READ_ONLY | SW_DIRTY | NO_ACCESS;

impl Pte {
    /// The empty entry.
    pub const NONE: Self = Self(0);

    /// The entry with this value. For table memory and tests only: everyone else gets entries from
    /// [`Format`] or from a table.
    #[inline(always)]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The value of the entry. For table memory, dumps and tests only.
    #[inline(always)]
    pub const fn raw(self) -> u64 {
        self.0
    }

    const fn has(self, bits: u64) -> bool {
        self.0 & bits != 0
    }

    /// Whether the entry is empty.
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether the hardware uses the entry.
    #[inline(always)]
    pub const fn is_valid(self) -> bool {
        self.has(VALID)
    }

    /// Whether the entry, taken as one of a table of this level, points to a table.
    #[inline(always)]
    pub const fn is_table(self, level: Level) -> bool {
        self.0 & TYPE == TYPE && !matches!(level, Level::L3)
    }

    /// Whether the entry is a valid block or page. An entry that maps a frame but is invalid for the
    /// hardware is not a leaf in this sense, so that no one reads through it;
    /// [`Pte::maps_frame`] includes it.
    #[inline(always)]
    pub const fn is_leaf(self, level: Level) -> bool {
        match level {
            Level::L3 => self.0 & TYPE == TYPE,
            Level::Lm1 => false,
            _ => self.0 & TYPE == VALID,
        }
    }

    /// Whether the entry refers to a frame or a table: valid, or invalid for a reason that keeps the
    /// frame ([`Invalid`]).
    #[inline(always)]
    pub const fn is_present(self) -> bool {
        self.has(VALID | NO_ACCESS | NO_TAGS)
    }

    /// Whether the entry refers to a frame of memory, valid or present but invalid: what unmapping
    /// must give back.
    #[inline(always)]
    pub const fn maps_frame(self, level: Level) -> bool {
        self.is_present() && !self.is_table(level)
    }

    /// Whether the entry keeps its frame while invalid for the hardware, and why.
    #[inline]
    pub const fn invalid_reason(self) -> Option<Invalid> {
        if self.has(VALID) {
            None
        } else if self.has(NO_TAGS) {
            Some(Invalid::NoTagStorage)
        } else if self.has(NO_ACCESS) {
            Some(Invalid::ProtNone)
        } else {
            None
        }
    }

    /// Whether [`Pte::is_contiguous`] is worth asking: one bit, which other words than valid leaves
    /// may have for another reason.
    #[inline(always)]
    pub const fn maybe_contiguous(self) -> bool {
        self.has(CONT)
    }

    /// Whether the entry is valid and part of a contiguous block.
    #[inline(always)]
    pub const fn is_contiguous(self) -> bool {
        self.0 & (VALID | CONT) == VALID | CONT
    }

    /// Accessed (*frame*).
    #[inline(always)]
    pub const fn young(self) -> bool {
        self.has(AF)
    }

    /// Written, by the hardware's or by the software's account (*frame*).
    #[inline(always)]
    pub const fn dirty(self) -> bool {
        self.hw_dirty() || self.has(SW_DIRTY)
    }

    /// Writable and written: the state the hardware may enter by itself (*frame*).
    #[inline(always)]
    pub const fn hw_dirty(self) -> bool {
        self.0 & (DBM | AP_READ_ONLY) == DBM
    }

    /// Writes are permitted, though the first may still fault to become dirty (*frame*).
    #[inline(always)]
    pub const fn writable(self) -> bool {
        self.has(DBM)
    }

    /// The hardware lets a write pass without any change to the entry.
    #[inline(always)]
    pub const fn hw_writable(self) -> bool {
        self.0 & (VALID | AP_READ_ONLY) == VALID
    }

    /// The mapping is one of EL0 (*frame*). It may still be invalid; compare
    /// [`Pte::user_readable`].
    #[inline(always)]
    pub const fn user(self) -> bool {
        self.has(AP_EL0)
    }

    /// EL0 may read: valid, and a user mapping.
    #[inline(always)]
    pub const fn user_readable(self) -> bool {
        self.0 & (VALID | AP_EL0) == VALID | AP_EL0
    }

    /// EL0 may write without a fault: valid, a user mapping, writable and dirty already.
    #[inline(always)]
    pub const fn user_writable(self) -> bool {
        self.0 & (VALID | AP_EL0 | AP_READ_ONLY) == VALID | AP_EL0
    }

    /// EL0 may execute: valid, a user mapping, executable.
    #[inline(always)]
    pub const fn user_exec(self) -> bool {
        self.0 & (VALID | AP_EL0 | UXN) == VALID | AP_EL0
    }

    /// Valid in every address space (*frame*).
    #[inline(always)]
    pub const fn global(self) -> bool {
        !self.has(NG)
    }

    /// Marked as write-protected by a userfaultfd, in any kind of entry.
    #[inline(always)]
    pub const fn uffd_wp(self) -> bool {
        self.has(UFFD_WP)
    }

    /// Maps a frame that is not counted (*frame*).
    #[inline(always)]
    pub const fn special(self) -> bool {
        self.has(SPECIAL)
    }

    /// The permissions (*frame*). Of an entry without tag storage: those it will have.
    #[inline]
    pub const fn prot(self) -> Prot {
        let user = self.has(AP_EL0);
        let exec = !self.has(if user { UXN } else { PXN });
        let bits = flag(!self.has(NO_ACCESS), Prot::READ.bits() as u64)
            | flag(self.has(DBM), Prot::WRITE.bits() as u64)
            | flag(exec, Prot::EXEC.bits() as u64)
            | flag(user, Prot::USER.bits() as u64);
        Prot::from_bits_truncate(bits as u8)
    }

    /// The memory type (*frame*).
    #[inline(always)]
    pub const fn mem_type(self) -> MemType {
        match (self.0 & INDEX) >> INDEX_SHIFT & 3 {
            0 => MemType::Device,
            1 => MemType::Normal,
            2 => MemType::Tagged,
            _ => MemType::NonCacheable,
        }
    }

    /// Everything but the address (*frame*).
    #[inline]
    pub const fn attrs(self) -> Attrs {
        Attrs {
            prot: self.prot(),
            mem: self.mem_type(),
            global: self.global(),
            young: self.young(),
            dirty: self.dirty(),
            contiguous: self.has(CONT),
            uffd_wp: self.uffd_wp(),
            special: self.special(),
        }
    }

    /// The entry that maps what lies `bytes` behind what this one maps (*frame*). Within one aligned
    /// block of entries nothing carries beyond the low address bits.
    #[inline(always)]
    pub const fn further(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// The bits of both: whether one of many entries is young, by one look.
    #[inline(always)]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All bits but the access flag: what an atomic AND makes an entry old with, whatever the
    /// hardware does to it at the same time.
    pub const OLD: u64 = !AF;

    /// Whether the hardware may change more of a valid entry than its access flag: it is writable and
    /// not dirty yet (*frame*).
    #[inline(always)]
    pub const fn may_become_dirty(self) -> bool {
        self.0 & (DBM | AP_READ_ONLY) == DBM | AP_READ_ONLY
    }

    /// The same, accessed (*frame*).
    #[inline(always)]
    pub const fn mkyoung(self) -> Self {
        Self(self.0 | AF)
    }

    /// The same, not accessed (*frame*).
    #[inline(always)]
    pub const fn mkold(self) -> Self {
        Self(self.0 & !AF)
    }

    /// The same, written (*frame*): in hardware's way if writable, else in software's.
    #[inline(always)]
    pub const fn mkdirty(self) -> Self {
        if self.writable() {
            Self(self.0 & !AP_READ_ONLY)
        } else {
            Self(self.0 | SW_DIRTY)
        }
    }

    /// The same, not written (*frame*).
    #[inline(always)]
    pub const fn mkclean(self) -> Self {
        Self(self.0 & !SW_DIRTY | AP_READ_ONLY)
    }

    /// The same, not writable (*frame*). What the hardware knew as dirty stays dirty.
    #[inline(always)]
    pub const fn wrprotect(self) -> Self {
        Self(self.0 & !DBM | AP_READ_ONLY | flag(self.hw_dirty(), SW_DIRTY))
    }

    /// The same, writable (*frame*); dirty stays dirty, clean stays clean. Law 10 binds the caller
    /// if the entry carries the userfaultfd mark.
    #[inline(always)]
    pub const fn mkwrite(self) -> Self {
        let dirty = self.dirty();
        Self(self.0 & !(SW_DIRTY | AP_READ_ONLY) | DBM | flag(!dirty, AP_READ_ONLY))
    }

    /// The same, valid in one address space only (*frame*).
    #[inline(always)]
    pub const fn mk_not_global(self) -> Self {
        Self(self.0 | NG)
    }

    /// The same, in a contiguous block or not (*frame*, valid).
    #[inline(always)]
    pub const fn with_contiguous(self, contiguous: bool) -> Self {
        Self(self.0 & !CONT | flag(contiguous, CONT))
    }

    /// The same with or without the userfaultfd mark, in any entry but an empty one or a table. Says
    /// nothing about write permission: see [`Pte::wrprotect`].
    #[inline(always)]
    pub const fn with_uffd_wp(self, uffd_wp: bool) -> Self {
        Self(self.0 & !UFFD_WP | flag(uffd_wp, UFFD_WP))
    }

    /// What stays behind when the entry, which is no table, is unmapped: with `marks` the userfaultfd
    /// mark of whatever carries one, with `poison` what answers an access with a bus error.
    #[inline]
    pub const fn remains(self, marks: bool, poison: bool) -> Self {
        let mark = marks && self.uffd_wp();
        let poisoned = poison
            && match self.0 & KIND {
                KIND_POISON => return self,
                KIND_MARKER => self.has(MARKER_POISON),
                _ => false,
            };
        match mark || poisoned {
            true => Self(KIND_MARKER | flag(mark, UFFD_WP) | flag(poisoned, MARKER_POISON)),
            false => Self::NONE,
        }
    }

    /// With or without the userfaultfd mark, for an entry that refers to no frame. With `fill` an empty
    /// one becomes a marker; a marker that has nothing else to remember becomes empty.
    #[inline]
    pub const fn mark_absent(self, on: bool, fill: bool) -> Self {
        let marker = on && fill && self.is_none();
        match self.0 & KIND | flag(marker, KIND_MARKER) {
            0 | KIND_POISON => self,
            kind => match Self(self.0 | kind).with_uffd_wp(on) {
                Self(KIND_MARKER) => Self::NONE,
                marked => marked,
            },
        }
    }

    /// The same, counted or not (*frame*).
    #[inline(always)]
    pub const fn with_special(self, special: bool) -> Self {
        Self(self.0 & !SPECIAL | flag(special, SPECIAL))
    }

    /// The same with other permissions (*frame*); accessed, dirty and the marks stay. Without any
    /// access the entry becomes invalid and keeps its frame; it becomes valid again with the next
    /// permissions unless it lacks tag storage. An entry that becomes invalid leaves its contiguous
    /// block, and a user mapping is never global.
    #[inline]
    pub const fn with_prot(self, prot: Prot) -> Self {
        Reprotect::new(prot).apply(self)
    }

    /// The same, invalid until its frame has tag storage, or valid again (*frame*; TAG-17, law 13).
    /// Without access it stays invalid.
    #[inline]
    pub const fn with_tag_storage(self, has_storage: bool) -> Self {
        Self(self.0 & !NO_TAGS | flag(!has_storage, NO_TAGS)).settle_valid()
    }

    /// Neither accessed nor written (*frame*): two entries that differ only by what the hardware
    /// records become equal.
    #[inline(always)]
    pub const fn without_ad(self) -> Self {
        self.mkold().mkclean()
    }

    /// Valid exactly if nothing speaks against it. (CONT goes with validity: law 6.)
    #[inline(always)]
    const fn settle_valid(self) -> Self {
        let invalid = self.has(NO_ACCESS | NO_TAGS);
        Self(self.0 & !VALID & !flag(invalid, CONT) | flag(!invalid, VALID))
    }

    /// The bits of a leaf that come from its attributes; `page` is the type bit of the level.
    #[inline(always)]
    const fn leaf_bits(attrs: Attrs, page: u64, no_tags: bool) -> Self {
        let user = attrs.prot.contains(Prot::USER);
        let word = page & TABLE_OR_PAGE
            | attrs.mem.index() << INDEX_SHIFT
            | permission_bits(attrs.prot, attrs.dirty)
            | flag(user || !attrs.global, NG)
            | flag(attrs.young, AF)
            | flag(attrs.contiguous, CONT)
            | flag(attrs.uffd_wp, UFFD_WP)
            | flag(attrs.special, SPECIAL)
            | flag(no_tags, NO_TAGS);
        Self(word).settle_valid()
    }
}
