//! New rights for entries that are there: what no change of rights may do (laws 5 and 10).

use arm64::attrs::{MemType, Prot};
use arm64::pte::{Format, Pte, Reprotect};
use sync::planted::{self, Fault};

/// A change to the rights of user mappings, prepared for many entries.
///
/// An entry that carries the userfaultfd mark is not made writable: only who resolves the mark may
/// do that. Nor is a special one, whose frame is nobody's own: a write to the shared page of zeros
/// has to find out that it needs a page first. Registers of a device are special and written in place.
#[derive(Clone, Copy)]
pub(crate) struct Rights {
    any: Reprotect,
    withheld: Reprotect,
    writes: bool,
    /// How entries of memory that is to carry tags are encoded.
    tags: Option<Format>,
}

impl Rights {
    pub(crate) fn new(prot: Prot) -> Self {
        let prot = prot | Prot::USER;
        Self {
            any: Reprotect::new(prot),
            withheld: Reprotect::new(prot - Prot::WRITE),
            writes: prot.contains(Prot::WRITE) && !planted::is(Fault::WriteOverMark),
            tags: None,
        }
    }

    /// The same, for memory that is to carry tags.
    pub(crate) fn tagged(self, format: Format) -> Self {
        Self {
            tags: Some(format),
            ..self
        }
    }

    /// Whether the entry decides about the rights it gets; else [`Self::apply_to_any`] will do.
    #[inline(always)]
    pub(crate) fn are_restricted(self) -> bool {
        self.writes || self.tags.is_some()
    }

    /// The entry with the rights that it may have of these.
    #[inline(always)]
    pub(crate) fn apply(self, pte: Pte) -> Pte {
        let shared = pte.special() && pte.mem_type() != MemType::Device;
        let new = match self.writes && (shared || pte.uffd_wp()) {
            true => self.withheld.apply(pte),
            false => self.any.apply(pte),
        };
        match self.tags {
            Some(format) if pte.mem_type() == MemType::Normal => want_tags(format, new),
            _ => new,
        }
    }

    /// The entry with all of these rights, where none of them is the right to write.
    #[inline(always)]
    pub(crate) fn apply_to_any(self, pte: Pte) -> Pte {
        self.any.apply(pte)
    }
}

/// The entry of plain memory that is to carry tags: without access until it does, but for the page of
/// zeros, whose tags are there (TAG-28).
fn want_tags(format: Format, pte: Pte) -> Pte {
    let tagged = format.with_mem(pte, MemType::Tagged);
    match pte.special() || planted::is(Fault::TagWithoutStorage) {
        true => tagged,
        false => tagged.with_tag_storage(false),
    }
}
