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
pub struct AreaFacts {
    /// Its rights.
    pub prot: Prot,
    /// What its pages are.
    pub kind: AreaKind,
    /// What a userfaultfd has asked for.
    pub uffd: UffdFacts,
}

/// What the pages of an area are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaKind {
    /// The program's own, zeros at first.
    Anon,
    /// The program's own, copies of an object's.
    Private(Content),
    /// An object's.
    Shared(Content),
    /// Registers of a device.
    Device,
}

/// What the object has at the address. Asked for only where nothing is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A page.
    Resident,
    /// No page yet; it can be made.
    Absent,
    /// No page yet, and only the object's pager can give it.
    Paged,
    /// The same, and the pager has refused to.
    Refused,
    /// Nothing: the page lies beyond the end of the object.
    BeyondEnd,
}

/// The modes in which a userfaultfd watches an area.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UffdFacts {
    /// It decides about pages that are not there.
    pub missing: bool,
    /// It decides about writes to pages that it has marked.
    pub wp: bool,
    /// It decides about pages that the object has and the space has not mapped.
    pub minor: bool,
}

/// What the table says about the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFacts {
    /// Nothing mapped.
    None,
    /// Nothing mapped, and a mark of a userfaultfd.
    Marker {
        /// Writes are to be told; else an access is a bus error.
        wp: bool,
    },
    /// A valid page.
    Page {
        /// The entry's rights.
        prot: Prot,
        /// Access flag.
        young: bool,
        /// Dirty state.
        dirty: bool,
        /// Marked by a userfaultfd.
        wp: bool,
        /// Whose it is. Asked for only where a write meets an entry without the right.
        owner: Owner,
    },
    /// Present to software, without rights.
    ProtNone,
    /// Present to software, to be tagged, and without tags as yet (`PAGE_FAULT_ON_ACCESS`).
    NoTags,
    /// Anything this kernel does not make at a user address.
    Foreign,
}

/// Whose page an entry maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The page of zeros that all share.
    Zero,
    /// The program's alone.
    Own,
    /// The program's, and somebody else has it too.
    Lent,
    /// An object's.
    Object,
}

/// The largest folio that a fault may try for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// 4 KiB.
    Page,
    /// 64 KiB: a contiguous block.
    Folio,
    /// 2 MiB: a block of level 2.
    Block,
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
    /// What the policy allows, what lies in the area, where nothing is mapped yet, and what there
    /// was memory for when last asked.
    pub size: Size,
    /// Whether resident neighbours may be mapped along (UF-01, UF-02).
    pub around: bool,
    /// Taken by the kernel on the program's behalf (D4): same decision, no signal.
    pub kernel: bool,
}
