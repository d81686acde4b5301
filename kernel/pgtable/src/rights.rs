//! New rights for entries that are there: what no change of rights may do (laws 5 and 10).

use arm64::attrs::{MemType, Prot};
use arm64::pte::{Pte, Reprotect};
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
}

impl Rights {
    pub(crate) fn new(prot: Prot) -> Self {
        let prot = prot | Prot::USER;
        Self {
            any: Reprotect::new(prot),
            withheld: Reprotect::new(prot - Prot::WRITE),
            writes: prot.contains(Prot::WRITE) && !planted::is(Fault::WriteOverMark),
        }
    }

    /// Whether the entry decides about the rights it gets; else [`Self::apply_to_any`] will do.
    #[inline(always)]
    pub(crate) fn are_restricted(self) -> bool {
        self.writes
    }

    /// The entry with the rights that it may have of these.
    #[inline(always)]
    pub(crate) fn apply(self, pte: Pte) -> Pte {
        let shared = pte.special() && pte.mem_type() != MemType::Device;
        match self.writes && (shared || pte.uffd_wp()) {
            true => self.withheld.apply(pte),
            false => self.any.apply(pte),
        }
    }

    /// The entry with all of these rights, where none of them is the right to write.
    #[inline(always)]
    pub(crate) fn apply_to_any(self, pte: Pte) -> Pte {
        self.any.apply(pte)
    }
}
