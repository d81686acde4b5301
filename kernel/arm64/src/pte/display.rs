//! Entries in words, for dumps and fault reports.

use core::fmt;

use super::{EncodeError, Entry, Invalid, Pte};

impl fmt::Debug for Pte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pte({:#018x})", self.raw())
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProtNone => "no access",
            Self::NoTagStorage => "no tag storage",
        })
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Level => "no such entry at this level",
            Self::Misaligned => "address not aligned to the size of the entry",
            Self::AddressTooLarge => "address too large for the descriptor format",
            Self::NoAccess => "valid mapping without any access",
            Self::WithoutRead => "write or execute without read",
            Self::AccessAllowed => "PROT_NONE mapping that allows access",
            Self::GlobalUser => "global user mapping",
            Self::Contiguous => "contiguous where no block can be",
            Self::EmptyMarker => "marker without a mark",
            Self::SwapOutOfRange => "swap device or offset out of range",
            Self::Corrupt => "corrupt entry",
        })
    }
}

fn words(f: &mut fmt::Formatter<'_>, words: &[(bool, &str)]) -> fmt::Result {
    for (on, word) in words {
        if *on {
            write!(f, " {word}")?;
        }
    }
    Ok(())
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::None => f.write_str("none"),
            Self::Table(pa) => write!(f, "table {pa}"),
            Self::Leaf { pa, attrs } => write!(f, "leaf {pa} {attrs}"),
            Self::PresentInvalid { reason, pa, attrs } => {
                write!(f, "invalid ({reason}) {pa} {attrs}")
            }
            Self::Marker(marks) => {
                f.write_str("marker")?;
                words(f, &[(marks.uffd_wp, "uffd-wp"), (marks.poison, "poison")])
            }
            Self::Swap {
                kind,
                offset,
                exclusive,
                uffd_wp,
            } => {
                write!(f, "swap {kind}:{offset:#x}")?;
                words(f, &[(exclusive, "exclusive"), (uffd_wp, "uffd-wp")])
            }
            Self::Migration {
                pa,
                writable,
                exclusive,
                young,
                dirty,
                uffd_wp,
            } => {
                write!(f, "migration {pa}")?;
                let flags = [
                    (writable, "writable"),
                    (exclusive, "exclusive"),
                    (young, "young"),
                    (dirty, "dirty"),
                    (uffd_wp, "uffd-wp"),
                ];
                words(f, &flags)
            }
            Self::Poison => f.write_str("poison"),
            Self::Corrupt(word) => write!(f, "corrupt {word:#018x}"),
        }
    }
}
