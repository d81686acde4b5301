//! The bits of a translation table entry: the hardware's, and the ones software keeps in the fields
//! that the hardware ignores. Law 1: they are spelt in this module and nowhere else.
//!
//! ```text
//! word that maps a frame (valid, or "present but invalid")
//!  63  62:60  59       58         57       56       55        54   53   52    51   50  49:12  11  10  9:8      7      6      5  4:2    1     0
//!  0   0      NO_TAGS  NO_ACCESS  UFFD_WP  SPECIAL  SW_DIRTY  UXN  PXN  CONT  DBM  0   OA     nG  AF  SH|OA  AP[2]  AP[1]  0  index  page  VALID
//!
//! word that maps nothing (bits 0, 58 and 59 are 0, the kind is not)
//!  63  62:60  59:58  57       56         55     54:7                 6:2            1:0
//!  0   kind   0      UFFD_WP  EXCLUSIVE  DIRTY  offset or frame no.  kind-specific  0
//! ```
//!
//! [ARM "Block descriptor and Page descriptor formats" for stage 1: bits 58:55 are reserved for
//! software use; 59 is the fourth index bit and 62:60 the overlay index only where FEAT_AIE or
//! FEAT_S1POE is enabled, which Tessera never does. "Table descriptors": bits 63:59 are the
//! hierarchical controls, unused here. In an entry whose bit 0 is 0 the hardware ignores the rest.]

/// The entry is valid for the hardware.
pub(super) const VALID: u64 = 1 << 0;
/// With [`VALID`]: a table (levels −1 to 2) or a page (level 3); without it: a block.
pub(super) const TABLE_OR_PAGE: u64 = 1 << 1;
/// Both of the bits that tell tables, pages and blocks apart.
pub(super) const TYPE: u64 = VALID | TABLE_OR_PAGE;
/// `AttrIndx[2:0]`, the index into MAIR_EL1.
pub(super) const INDEX_SHIFT: u32 = 2;
/// All of AttrIndx.
pub(super) const INDEX: u64 = 7 << INDEX_SHIFT;
/// `AP[1]`: EL0 has access.
pub(super) const AP_EL0: u64 = 1 << 6;
/// `AP[2]`: not writable. With [`DBM`], cleared by the hardware on the first write.
pub(super) const AP_READ_ONLY: u64 = 1 << 7;
/// `SH[1:0]` where `TCR_EL1.DS` is 0.
pub(super) const SH: u64 = 3 << 8;
/// SH: inner shareable.
pub(super) const SH_INNER: u64 = 3 << 8;
/// SH: outer shareable, which Device memory is in any case.
pub(super) const SH_OUTER: u64 = 2 << 8;
/// Where output address bits 51:50 are, where `TCR_EL1.DS` is 1.
pub(super) const OA_HIGH_SHIFT: u32 = 8;
/// Access flag.
pub(super) const AF: u64 = 1 << 10;
/// Not global: the TLB entry belongs to one ASID.
pub(super) const NG: u64 = 1 << 11;
/// Output address bits 47:12.
pub(super) const OA_48: u64 = 0x0000_ffff_ffff_f000;
/// Output address bits 49:12, where `TCR_EL1.DS` is 1.
pub(super) const OA_50: u64 = 0x0003_ffff_ffff_f000;
/// Dirty bit modifier: the page may be written; here also the record of that on CPUs without
/// FEAT_HAFDBS, for which the bit is reserved and ignored.
pub(super) const DBM: u64 = 1 << 51;
/// Contiguous hint.
pub(super) const CONT: u64 = 1 << 52;
/// EL1 must not execute.
pub(super) const PXN: u64 = 1 << 53;
/// EL0 must not execute.
pub(super) const UXN: u64 = 1 << 54;

/// Dirty, in an entry that is no longer writable.
pub(super) const SW_DIRTY: u64 = 1 << 55;
/// Maps a frame that is not counted.
pub(super) const SPECIAL: u64 = 1 << 56;
/// Write-protected by a userfaultfd; in every kind of word that can carry the mark.
pub(super) const UFFD_WP: u64 = 1 << 57;
/// Invalid because nobody may access the page (PROT_NONE).
pub(super) const NO_ACCESS: u64 = 1 << 58;
/// Invalid because the frame has no tag storage yet.
pub(super) const NO_TAGS: u64 = 1 << 59;

/// Where the kind of a word that maps nothing is.
pub(super) const KIND_SHIFT: u32 = 60;
/// All of the kind.
pub(super) const KIND: u64 = 7 << KIND_SHIFT;
/// Kind: marker.
pub(super) const KIND_MARKER: u64 = 1 << KIND_SHIFT;
/// Kind: swapped out.
pub(super) const KIND_SWAP: u64 = 2 << KIND_SHIFT;
/// Kind: the frame is being moved.
pub(super) const KIND_MIGRATION: u64 = 3 << KIND_SHIFT;
/// Kind: the frame is broken.
pub(super) const KIND_POISON: u64 = 4 << KIND_SHIFT;

/// Marker: an access is answered with a bus error (UFFDIO_POISON).
pub(super) const MARKER_POISON: u64 = 1 << 2;
/// Where the swap device number is.
pub(super) const SWAP_KIND_SHIFT: u32 = 2;
/// All of the swap device number.
pub(super) const SWAP_KIND: u64 = 0x1f << SWAP_KIND_SHIFT;
/// Where the swap offset or the frame number of a migration is.
pub(super) const OFFSET_SHIFT: u32 = 7;
/// All of the offset, 48 bits.
pub(super) const OFFSET: u64 = ((1 << 48) - 1) << OFFSET_SHIFT;
/// Migration: the page was writable.
pub(super) const MIGRATION_WRITE: u64 = 1 << 2;
/// Migration: the page was young.
pub(super) const MIGRATION_YOUNG: u64 = 1 << 3;
/// Swap and migration: no other mapping shares the page.
pub(super) const EXCLUSIVE: u64 = 1 << 56;
/// Migration: the page was dirty.
pub(super) const MIGRATION_DIRTY: u64 = 1 << 55;

/// The software bits of a word that maps a frame: the one list of them.
const SOFTWARE: [u64; 5] = [SW_DIRTY, SPECIAL, UFFD_WP, NO_ACCESS, NO_TAGS];
/// The hardware fields Tessera uses in a leaf.
const HARDWARE: [u64; 12] = [
    VALID,
    TABLE_OR_PAGE,
    INDEX,
    AP_EL0,
    AP_READ_ONLY,
    SH,
    AF,
    NG,
    OA_50,
    DBM,
    CONT,
    PXN | UXN,
];
/// Hardware fields Tessera leaves 0: NS (bit 5) and GP (bit 50).
const UNUSED: [u64; 2] = [1 << 5, 1 << 50];
/// The fields of a word that maps nothing.
const NOT_PRESENT: [u64; 6] = [SWAP_KIND, OFFSET, MIGRATION_DIRTY, EXCLUSIVE, UFFD_WP, KIND];

/// The union of the fields, provided that no two of them share a bit.
const fn disjoint_union(fields: &[u64], mut seen: u64) -> u64 {
    let mut i = 0;
    while i < fields.len() {
        assert!(seen & fields[i] == 0, "two fields of an entry overlap");
        seen |= fields[i];
        i += 1;
    }
    seen
}

const _: () = {
    let leaf = disjoint_union(
        &UNUSED,
        disjoint_union(&HARDWARE, disjoint_union(&SOFTWARE, 0)),
    );
    // A word that maps a frame is told from one that maps nothing by these three bits, and never
    // carries a kind.
    let present = VALID | NO_ACCESS | NO_TAGS;
    let not_present = disjoint_union(&NOT_PRESENT, present);
    assert!(leaf & KIND == 0 && not_present & TABLE_OR_PAGE == 0);
    assert!((MARKER_POISON | MIGRATION_WRITE | MIGRATION_YOUNG) & !SWAP_KIND == 0);
    // The hardware reserves bits 58:55 of a valid leaf for software. Bit 59 is only ever set in
    // words whose bit 0 is 0.
    assert!((SW_DIRTY | SPECIAL | UFFD_WP | NO_ACCESS) == 0xf << 55);
};
