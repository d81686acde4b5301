//! What the model reports: one rule per way of being wrong, each naming the law it comes from.

use std::fmt;

/// A rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A live entry became one that translates otherwise.
    MakeWithoutBreak,
    /// An entry was made while an older translation of its addresses may be cached.
    MadeOverCached,
    /// A contiguous block is misaligned, has a hole, or its entries differ.
    BlockMalformed,
    /// A store did not start from what the entry held: a hardware update was overwritten.
    LostUpdate,
    /// A frame's reference was dropped while a CPU may still translate to it.
    ReleasedWhileCached,
    /// An operation ended and a CPU may still use a translation that it took away.
    StaleAfterOperation,
    /// An operation ended and a CPU may still use rights that it took away.
    RightsAfterOperation,
    /// A table was freed, or became a table again, while a CPU may walk through it.
    TableStillWalked,
    /// A table was freed while a CPU has it as its root.
    TableStillRoot,
    /// A table was destructed before every CPU had passed a quiescent state.
    BeforeGrace,
    /// A table was constructed twice, destructed twice, or linked without being constructed.
    TableLife,
    /// A table was freed while an entry names it.
    TableStillLinked,
    /// An identifier was loaded while the CPU may hold another space's translations of it.
    AsidReused,
    /// One identifier is in use for two spaces at once.
    AsidShared,
    /// A grown root was loaded without dropping what was cached under the former one.
    GrownWithoutFlush,
    /// T0SZ was changed, or not waited for, while a root was loaded.
    SizeUnderRoot,
    /// A root was loaded under a T0SZ of another number of levels.
    SizeMismatch,
    /// A kernel mapping was taken away and made again.
    KernelRepainted,
    /// A userfaultfd write-protect mark on a writable entry.
    MarkWritable,
    /// A user mapping that is global.
    GlobalUser,
}

impl Rule {
    /// Where the rule comes from.
    pub const fn law(self) -> &'static str {
        match self {
            Self::MakeWithoutBreak | Self::MadeOverCached => "law 5: break before make",
            Self::BlockMalformed => "law 6: contiguous blocks are aligned, whole and uniform",
            Self::LostUpdate => "law 3: a live entry changes by exchange",
            Self::ReleasedWhileCached | Self::StaleAfterOperation => "law 12: flush before reuse",
            Self::RightsAfterOperation => "law 12: a restriction holds after its flush",
            Self::TableStillWalked | Self::TableStillRoot | Self::TableStillLinked => {
                "law 8: detach, flush, grace, destruct"
            }
            Self::BeforeGrace => "law 8: the destructor runs after the grace period",
            Self::TableLife => "law 8: constructed once, destructed once",
            Self::AsidReused | Self::AsidShared => "law 12: an identifier is reused after a flush",
            Self::GrownWithoutFlush | Self::SizeUnderRoot | Self::SizeMismatch => {
                "D12: T0SZ changes under the reserved root, a grown root comes with a flush"
            }
            Self::KernelRepainted => "XC-13: kernel entries are never repainted",
            Self::MarkWritable => "law 10: no writable entry under a write-protect mark",
            Self::GlobalUser => "law 6: user mappings belong to one identifier",
        }
    }
}

/// A rule with what broke it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The case.
    pub case: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}: {}", self.rule.law(), self.rule, self.case)
    }
}
