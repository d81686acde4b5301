//! The finite value that a fault is decided from (D6).

use arm64::attrs::Prot;

/// What the faulting instruction wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store, or an atomic that may store.
    Write,
    /// An instruction fetch.
    Exec,
}

impl Access {
    /// The right it takes.
    pub const fn right(self) -> Prot {
        match self {
            Self::Read => Prot::READ,
            Self::Write => Prot::WRITE,
            Self::Exec => Prot::EXEC,
        }
    }
}

/// What the area at the address says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaFacts {
    /// No area, and no stack that may grow here.
    Hole,
    /// An area.
    Area {
        /// Its rights.
        prot: Prot,
        /// What fills the page.
        content: Content,
    },
}

/// What a page that is not there yet would be filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Zeros.
    Zero,
    /// Bytes of an image, zeros behind its end.
    Image,
    /// Nothing: the page lies beyond the end of the object.
    BeyondEnd,
}

/// What the table says about the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFacts {
    /// Nothing mapped.
    None,
    /// A valid page.
    Page {
        /// The entry's rights.
        prot: Prot,
        /// Access flag.
        young: bool,
        /// Dirty state.
        dirty: bool,
    },
    /// Present to software, without rights.
    ProtNone,
    /// Anything this kernel does not make at a user address.
    Foreign,
}

/// Everything the decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultFacts {
    /// The area.
    pub area: AreaFacts,
    /// The entry.
    pub entry: EntryFacts,
    /// The access.
    pub access: Access,
    /// The aligned block of sixteen pages around the address lies in the area, nothing is mapped
    /// in it, and there was a folio for it when last asked.
    pub block: bool,
    /// Taken by the kernel on the program's behalf (D4): same decision, no signal.
    pub kernel: bool,
}
