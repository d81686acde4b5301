//! How the size of the folios behind a mapping is asked for.

use programs::measure::{Done, accept};
use programs::memory::Area;
use programs::sys::{PAGE, map, nr, syscall};

/// A size of folios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Single pages: large folios are switched off for the process and for the mapping.
    Small,
    /// 64 KiB: what the kernel does by itself.
    Medium,
    /// 2 MiB: what the mapping asks for.
    Large,
}

/// `prctl`: no large folios in this process, whatever is advised.
const PR_SET_THP_DISABLE: usize = 41;

impl Size {
    /// All three, small first.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// What the names of rows end in.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Small => "_4k",
            Self::Medium => "_64k",
            Self::Large => "_2m",
        }
    }

    /// How many faults fill `len` bytes.
    pub const fn faults(self, len: usize) -> u64 {
        let folio = match self {
            Self::Small => PAGE,
            Self::Medium => 16 * PAGE,
            Self::Large => 512 * PAGE,
        };
        (len / folio) as u64
    }

    /// Sets the process up for this size. The area's addresses, and so its mappings, are advised by
    /// [`Self::advise`].
    pub fn choose(self) -> Done {
        let disable = usize::from(self == Self::Small);
        // SAFETY: changes a policy of the process, no memory.
        let got = unsafe { syscall(nr::PRCTL, [PR_SET_THP_DISABLE, disable, 0, 0, 0, 0]) };
        // A kernel that cannot switch large folios off has them on.
        if self == Self::Small {
            accept(got, "prctl")?;
        }
        Ok(())
    }

    /// Advises a mapping.
    pub fn advise(self, area: &Area, len: usize) -> Done {
        let advice = match self {
            Self::Small => map::MADV_NOHUGEPAGE,
            Self::Medium => return Ok(()),
            Self::Large => map::MADV_HUGEPAGE,
        };
        accept(area.advise(0, len, advice), "madvise-size").map(|_| ())
    }
}
