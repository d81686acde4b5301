//! The fault decision: a pure function over a finite value (D6).

use arm64::attrs::Prot;

use super::facts::{
    Access, AreaFacts, AreaKind, Content, EntryFacts, FaultFacts, Owner, Size, UffdFacts,
};

/// What is to be done about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The entry allows the access already: another CPU was faster, or a stale translation.
    Spurious,
    /// Set the access flag, and the dirty state for a write.
    SetAccess {
        /// For a write.
        dirty: bool,
    },
    /// Give the entry the rights of its area, and take a mark away that nobody watches any more.
    Reprotect,
    /// The page is the program's alone: give it the right to write.
    Reuse,
    /// Map fresh zeroed memory.
    Fill(Size),
    /// Map the page of zeros that all share.
    Zero {
        /// With the mark that was there.
        mark: bool,
    },
    /// Map the object's page.
    Map {
        /// It has to be made first.
        supply: Option<Size>,
        /// Map resident neighbours along.
        around: bool,
        /// Privately: without the right to write.
        private: bool,
        /// With the mark that was there, and so without the right to write.
        mark: bool,
    },
    /// Map the page of registers.
    Device,
    /// Give the page that is mapped tags, and then access to it.
    Tag,
    /// Map a copy of the page that is mapped.
    Copy,
    /// Map a copy of the object's page.
    CopyObject {
        /// That page has to be made first.
        supply: bool,
    },
    /// A userfaultfd or a pager decides.
    Ask(Question),
    /// Not allowed.
    Refuse(Refusal),
}

impl Plan {
    /// Whether it puts a page into an entry of a table of pages where none was.
    pub const fn takes_entry(self) -> bool {
        matches!(
            self,
            Self::Fill(Size::Page | Size::Folio)
                | Self::Zero { .. }
                | Self::Map { .. }
                | Self::Device
                | Self::CopyObject { .. }
        )
    }
}

/// What a userfaultfd, or a pager, is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// A page is not there.
    Missing,
    /// A page that is marked is to be written.
    WriteProtected,
    /// A page of the object is not mapped.
    Minor,
    /// The object does not have the page: its pager is asked.
    Page,
}

/// Why an access is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing is mapped at the address (`SEGV_MAPERR`).
    NoArea,
    /// The area does not allow it (`SEGV_ACCERR`).
    NoRight,
    /// The object ends before the page (`SIGBUS`).
    BeyondEnd,
    /// The pager of the object does not give the page (`SIGBUS`).
    NotSupplied,
    /// The kernel does not touch registers of a device on a program's behalf, nor ahead of its use
    /// (`SIGBUS`, EFAULT).
    Registers,
    /// The page is marked as broken (`SIGBUS`).
    Poisoned,
    /// The entry is not of this kernel's making (`SIGBUS`).
    Foreign,
}

/// Decides.
#[inline(always)]
pub fn plan(facts: &FaultFacts) -> Plan {
    let AreaFacts { prot, kind, uffd } = facts.area;
    if !prot.contains(facts.access.right()) {
        return Plan::Refuse(Refusal::NoRight);
    }
    if kind == AreaKind::Device && facts.kernel {
        return Plan::Refuse(Refusal::Registers);
    }
    match facts.entry {
        EntryFacts::None => absent(facts, kind, uffd, false),
        EntryFacts::Marker { wp: false } => Plan::Refuse(Refusal::Poisoned),
        // A mark that nobody watches any more is dropped on the way (UF-25).
        EntryFacts::Marker { wp: true } => absent(facts, kind, uffd, uffd.wp),
        EntryFacts::ProtNone => Plan::Reprotect,
        // What else there is to do is found when the page can be looked at.
        EntryFacts::NoTags => Plan::Tag,
        EntryFacts::Foreign => Plan::Refuse(Refusal::Foreign),
        EntryFacts::Page {
            prot: has,
            young,
            dirty,
            wp,
            owner,
        } => {
            let write = facts.access == Access::Write;
            if write && wp && uffd.wp {
                Plan::Ask(Question::WriteProtected)
            } else if !has.contains(facts.access.right() | Prot::USER) {
                match write {
                    true => upgrade(kind, owner),
                    false => Plan::Reprotect,
                }
            } else if !young || write && !dirty {
                Plan::SetAccess { dirty: write }
            } else {
                Plan::Spurious
            }
        }
    }
}

/// A write meets a page that may be read only, though the area may be written.
fn upgrade(kind: AreaKind, owner: Owner) -> Plan {
    match (owner, kind) {
        (_, AreaKind::Device) | (Owner::Object, AreaKind::Shared(_)) => Plan::Reprotect,
        (Owner::Own, _) => Plan::Reuse,
        (Owner::Zero | Owner::Lent | Owner::Object, _) => Plan::Copy,
    }
}

/// Nothing is mapped, or `mark` alone.
fn absent(facts: &FaultFacts, kind: AreaKind, uffd: UffdFacts, mark: bool) -> Plan {
    let write = facts.access == Access::Write;
    let content = match kind {
        // No userfaultfd watches registers.
        AreaKind::Anon | AreaKind::Device => None,
        AreaKind::Private(content) | AreaKind::Shared(content) => Some(content),
    };
    match content {
        Some(Content::BeyondEnd) => return Plan::Refuse(Refusal::BeyondEnd),
        None | Some(Content::Absent | Content::Paged | Content::Refused) if uffd.missing => {
            return Plan::Ask(Question::Missing);
        }
        Some(Content::Resident) if uffd.minor => return Plan::Ask(Question::Minor),
        _ => {}
    }
    if write && mark {
        return Plan::Ask(Question::WriteProtected);
    }
    match content {
        Some(Content::Paged) => return Plan::Ask(Question::Page),
        Some(Content::Refused) => return Plan::Refuse(Refusal::NotSupplied),
        _ => {}
    }
    let supply = content == Some(Content::Absent);
    match kind {
        AreaKind::Anon if write => Plan::Fill(facts.size),
        AreaKind::Anon => Plan::Zero { mark },
        AreaKind::Device => Plan::Device,
        AreaKind::Private(_) if write => Plan::CopyObject { supply },
        AreaKind::Private(_) | AreaKind::Shared(_) => Plan::Map {
            supply: supply.then_some(facts.size),
            around: facts.around && !write,
            private: matches!(kind, AreaKind::Private(_)),
            mark,
        },
    }
}

#[cfg(test)]
mod tests;
