//! Words to meanings and back: total and disjoint over all 2^64 words at every level.

use super::Pte;
use super::bits::{
    EXCLUSIVE, INDEX, INDEX_SHIFT, KIND, KIND_MARKER, KIND_MIGRATION, KIND_POISON, KIND_SWAP,
    MARKER_POISON, MIGRATION_DIRTY, MIGRATION_WRITE, MIGRATION_YOUNG, NO_TAGS, OA_48, OA_50,
    OA_HIGH_SHIFT, OFFSET, OFFSET_SHIFT, SH, SH_INNER, SH_OUTER, SWAP_KIND, SWAP_KIND_SHIFT,
    TABLE_OR_PAGE, TYPE, UFFD_WP, VALID,
};
use super::entry::{EncodeError, Entry, Invalid, MAX_SWAP_KINDS, MarkerBits, SWAP_OFFSET_BITS};
use super::flag;
use crate::addr::{Pfn, PhysAddr};
use crate::attrs::{Attrs, MemType, Prot};
use crate::geometry::Level;

/// Where the output address is in a descriptor, which `TCR_EL1.DS` decides for all tables at once
/// (D12). [ARM "TCR_EL1.DS"; "Stage 1 descriptor formats, 4KB granule, 52-bit OA"]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Format {
    /// `DS` is 1: bits 9:8 hold address bits 51:50 and shareability comes from TCR; blocks exist at
    /// level 0 too. `DS` is 0: addresses have 48 bits and bits 9:8 are SH.
    pub lpa2: bool,
}

impl Format {
    /// Descriptors of 48-bit addresses (`DS` = 0).
    pub const NORMAL: Self = Self { lpa2: false };
    /// Descriptors of 52-bit addresses (`DS` = 1).
    pub const LPA2: Self = Self { lpa2: true };

    /// Bits of an output address.
    #[inline(always)]
    pub const fn pa_bits(self) -> u32 {
        if self.lpa2 { 52 } else { 48 }
    }

    /// Whether blocks or pages exist at the level.
    #[inline(always)]
    pub const fn has_leaf(self, level: Level) -> bool {
        self.leaf_type(level) != 0
    }

    /// The type bits of a leaf at the level; 0 where there is none.
    /// [ARM "Block descriptor and Page descriptor formats"]
    #[inline(always)]
    const fn leaf_type(self, level: Level) -> u64 {
        match level {
            Level::L3 => VALID | TABLE_OR_PAGE,
            Level::L2 | Level::L1 => VALID,
            Level::L0 => flag(self.lpa2, VALID),
            Level::Lm1 => 0,
        }
    }

    #[inline(always)]
    const fn address_bits(self, pa: u64) -> u64 {
        if self.lpa2 {
            pa & OA_50 | (pa >> 50 & 3) << OA_HIGH_SHIFT
        } else {
            pa & OA_48
        }
    }

    /// The bits of a word that say where the frame is.
    #[inline(always)]
    pub const fn address_mask(self) -> u64 {
        self.address_bits(self.address_of(u64::MAX))
    }

    #[inline(always)]
    const fn address_of(self, word: u64) -> u64 {
        if self.lpa2 {
            word & OA_50 | (word >> OA_HIGH_SHIFT & 3) << 50
        } else {
            word & OA_48
        }
    }

    #[inline(always)]
    const fn shareability(self, mem: MemType) -> u64 {
        if self.lpa2 {
            0
        } else if matches!(mem, MemType::Device) {
            SH_OUTER
        } else {
            SH_INNER
        }
    }

    /// The word that maps `pa` at `level`; see [`Format::encode`] for the checked way.
    ///
    /// Never fails: address bits below the size of the entry or beyond the format are dropped,
    /// `WRITE` or `EXEC` imply `READ`, a user mapping is not global. Permissions without any access
    /// give the invalid entry that keeps its frame ([`Invalid::ProtNone`]). Where the level has no
    /// leaf the result is [`Pte::NONE`].
    #[inline]
    pub const fn leaf(self, pa: PhysAddr, attrs: Attrs, level: Level) -> Pte {
        self.frame(pa, attrs, level, false)
    }

    /// As [`Format::leaf`], but invalid until the frame has tag storage.
    #[inline]
    pub const fn leaf_without_tag_storage(self, pa: PhysAddr, attrs: Attrs, level: Level) -> Pte {
        self.frame(pa, attrs, level, true)
    }

    /// The word that maps `pa` at `level` as `pte` (*frame*) does at its own: with its permissions,
    /// marks and records, without tag storage if it has none, and with `contiguous` as long as it is
    /// valid.
    #[inline]
    pub const fn at_level(self, pte: Pte, pa: PhysAddr, level: Level, contiguous: bool) -> Pte {
        let attrs = pte.attrs().with_contiguous(contiguous && pte.is_valid());
        self.frame(pa, attrs, level, pte.0 & NO_TAGS != 0)
    }

    #[inline(always)]
    const fn frame(self, pa: PhysAddr, attrs: Attrs, level: Level, no_tags: bool) -> Pte {
        let kind = self.leaf_type(level);
        if kind == 0 {
            return Pte::NONE;
        }
        let address = self.address_bits(pa.align_down(level.size()).raw());
        // No contiguous block exists at level 0. [ARM "The Contiguous bit"]
        let contiguous = attrs.contiguous && !matches!(level, Level::L0);
        let bits = Pte::leaf_bits(attrs.with_contiguous(contiguous), kind, no_tags);
        Pte(bits.0 | address | self.shareability(attrs.mem))
    }

    /// The word that points to the next table. The hierarchical permission bits stay unused.
    #[inline(always)]
    pub const fn table(self, pa: PhysAddr) -> Pte {
        Pte(TYPE | self.address_bits(pa.raw()))
    }

    /// The frame that a word maps; of another word: nothing sensible.
    #[inline(always)]
    pub const fn pa(self, pte: Pte, level: Level) -> PhysAddr {
        PhysAddr::new(self.address_of(pte.0)).align_down(level.size())
    }

    /// The table that a word points to; of another word: nothing sensible.
    #[inline(always)]
    pub const fn table_pa(self, pte: Pte) -> PhysAddr {
        PhysAddr::new(self.address_of(pte.0))
    }

    /// The same word mapping another frame.
    #[inline]
    pub const fn with_pa(self, pte: Pte, pa: PhysAddr, level: Level) -> Pte {
        let address = self.address_mask();
        Pte(pte.0 & !address | self.address_bits(pa.align_down(level.size()).raw()))
    }

    /// The same word with another memory type.
    #[inline]
    pub const fn with_mem(self, pte: Pte, mem: MemType) -> Pte {
        let sh = flag(!self.lpa2, SH);
        let index = mem.index() << INDEX_SHIFT;
        Pte(pte.0 & !(INDEX | sh) | index | self.shareability(mem))
    }

    /// What the word means at this level. Every word has exactly one meaning, and
    /// [`Format::encode`] gives it back, except for [`Entry::Corrupt`].
    ///
    /// A word has the meaning whose canonical word it is; that is how no reserved or unused bit can
    /// pass unnoticed.
    #[inline]
    pub const fn decode(self, pte: Pte, level: Level) -> Entry {
        let word = pte.0;
        if word == 0 {
            return Entry::None;
        }
        let (entry, canonical) = if pte.is_table(level) {
            let pa = self.table_pa(pte);
            (Entry::Table(pa), self.table(pa))
        } else if pte.is_present() {
            self.decode_frame(pte, level)
        } else {
            self.decode_absent(pte, level)
        };
        if canonical.0 == word {
            entry
        } else {
            Entry::Corrupt(word)
        }
    }

    #[inline(always)]
    const fn decode_frame(self, pte: Pte, level: Level) -> (Entry, Pte) {
        let (pa, attrs) = (self.pa(pte, level), pte.attrs());
        let canonical = self.frame(pa, attrs, level, pte.0 & NO_TAGS != 0);
        let entry = match pte.invalid_reason() {
            None => Entry::Leaf { pa, attrs },
            Some(reason) => Entry::PresentInvalid { reason, pa, attrs },
        };
        (entry, canonical)
    }

    /// A word that maps nothing: a candidate by its kind, and the candidate's word.
    const fn decode_absent(self, pte: Pte, level: Level) -> (Entry, Pte) {
        let word = pte.0;
        let (exclusive, uffd_wp) = (word & EXCLUSIVE != 0, word & UFFD_WP != 0);
        let offset = (word & OFFSET) >> OFFSET_SHIFT;
        let entry = match word & KIND {
            KIND_MARKER => Entry::Marker(MarkerBits {
                uffd_wp,
                poison: word & MARKER_POISON != 0,
            }),
            KIND_SWAP => {
                let kind = ((word & SWAP_KIND) >> SWAP_KIND_SHIFT) as u8;
                Entry::Swap {
                    kind,
                    offset,
                    exclusive,
                    uffd_wp,
                }
            }
            KIND_MIGRATION => Entry::Migration {
                pa: Pfn::new(offset).start(),
                writable: word & MIGRATION_WRITE != 0,
                exclusive,
                young: word & MIGRATION_YOUNG != 0,
                dirty: word & MIGRATION_DIRTY != 0,
                uffd_wp,
            },
            KIND_POISON => Entry::Poison,
            _ => return (Entry::Corrupt(word), pte),
        };
        match self.encode(entry, level) {
            Ok(canonical) => (entry, canonical),
            Err(_) => (Entry::Corrupt(word), pte),
        }
    }

    /// The word for an entry at a level.
    ///
    /// # Errors
    /// [`EncodeError`] for an entry that does not exist there; [`Format::decode`] never returns such
    /// an entry for that level (but `Corrupt`).
    pub const fn encode(self, entry: Entry, level: Level) -> Result<Pte, EncodeError> {
        match entry {
            Entry::None => return Ok(Pte::NONE),
            Entry::Table(pa) => return self.encode_table(pa, level),
            Entry::Corrupt(_) => return Err(EncodeError::Corrupt),
            _ if !self.has_leaf(level) => return Err(EncodeError::Level),
            _ => {}
        }
        match entry {
            Entry::Leaf { pa, attrs } => self.encode_leaf(pa, attrs, level),
            Entry::PresentInvalid { reason, pa, attrs } => {
                self.encode_invalid(reason, pa, attrs, level)
            }
            Entry::Marker(marks) if !marks.uffd_wp && !marks.poison => {
                Err(EncodeError::EmptyMarker)
            }
            Entry::Marker(MarkerBits { uffd_wp, poison }) => Ok(Pte(KIND_MARKER
                | flag(uffd_wp, UFFD_WP)
                | flag(poison, MARKER_POISON))),
            Entry::Swap {
                kind,
                offset,
                exclusive,
                uffd_wp,
            } => {
                if kind >= MAX_SWAP_KINDS || offset >> SWAP_OFFSET_BITS != 0 {
                    return Err(EncodeError::SwapOutOfRange);
                }
                let place = (kind as u64) << SWAP_KIND_SHIFT | offset << OFFSET_SHIFT;
                let flags = flag(exclusive, EXCLUSIVE) | flag(uffd_wp, UFFD_WP);
                Ok(Pte(KIND_SWAP | place | flags))
            }
            Entry::Migration {
                pa,
                writable,
                exclusive,
                young,
                dirty,
                uffd_wp,
            } => {
                if let Err(error) = self.check_address(pa, level.size()) {
                    return Err(error);
                }
                let flags = flag(writable, MIGRATION_WRITE)
                    | flag(young, MIGRATION_YOUNG)
                    | flag(dirty, MIGRATION_DIRTY)
                    | flag(exclusive, EXCLUSIVE)
                    | flag(uffd_wp, UFFD_WP);
                Ok(Pte(KIND_MIGRATION | pa.pfn().raw() << OFFSET_SHIFT | flags))
            }
            _ => Ok(Pte(KIND_POISON)),
        }
    }

    const fn encode_table(self, pa: PhysAddr, level: Level) -> Result<Pte, EncodeError> {
        if matches!(level, Level::L3) {
            return Err(EncodeError::Level);
        }
        match self.check_address(pa, crate::addr::PAGE_SIZE) {
            Ok(()) => Ok(self.table(pa)),
            Err(error) => Err(error),
        }
    }

    const fn check_address(self, pa: PhysAddr, size: u64) -> Result<(), EncodeError> {
        if pa.raw() >> self.pa_bits() != 0 {
            return Err(EncodeError::AddressTooLarge);
        }
        if !pa.is_aligned(size) {
            return Err(EncodeError::Misaligned);
        }
        Ok(())
    }

    const fn check_frame(self, pa: PhysAddr, a: Attrs, level: Level) -> Result<(), EncodeError> {
        if a.global && a.prot.contains(Prot::USER) {
            return Err(EncodeError::GlobalUser);
        }
        if !a.prot.contains(Prot::READ) && !a.prot.is_no_access() {
            return Err(EncodeError::WithoutRead);
        }
        self.check_address(pa, level.size())
    }

    const fn encode_leaf(self, pa: PhysAddr, a: Attrs, level: Level) -> Result<Pte, EncodeError> {
        if let Err(error) = self.check_frame(pa, a, level) {
            return Err(error);
        }
        if a.prot.is_no_access() {
            return Err(EncodeError::NoAccess);
        }
        if a.contiguous && matches!(level, Level::L0) {
            return Err(EncodeError::Contiguous);
        }
        Ok(self.leaf(pa, a, level))
    }

    const fn encode_invalid(
        self,
        reason: Invalid,
        pa: PhysAddr,
        attrs: Attrs,
        level: Level,
    ) -> Result<Pte, EncodeError> {
        if let Err(error) = self.check_frame(pa, attrs, level) {
            return Err(error);
        }
        if attrs.contiguous {
            return Err(EncodeError::Contiguous);
        }
        let no_tags = matches!(reason, Invalid::NoTagStorage);
        if !no_tags && !attrs.prot.is_no_access() {
            return Err(EncodeError::AccessAllowed);
        }
        Ok(self.frame(pa, attrs, level, no_tags))
    }
}
