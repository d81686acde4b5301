//! `madvise` of the kinds that are remembered with the areas.

use super::advised;
use crate::change::Change;
use crate::error::MmError;
use crate::space::Map;
use crate::vma::{Vma, VmaFlags};

/// What is remembered, and where it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Set in every area of the range.
    pub set: VmaFlags,
    /// Cleared, before.
    pub clear: VmaFlags,
    /// Where it does not apply.
    pub only: Only,
}

/// Which areas an advice is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// Any.
    Any,
    /// Private memory without an object; others refuse it (`MADV_WIPEONFORK`, `MADV_FREE`).
    Anonymous,
    /// Private memory; others ignore it (`MADV_MERGEABLE`).
    Private,
}

impl Advice {
    /// Advice that sets `set` and clears `clear`, for any area.
    pub const fn new(set: VmaFlags, clear: VmaFlags) -> Self {
        let only = Only::Any;
        Self { set, clear, only }
    }

    /// Advice that nothing comes of but what is wrong with the range.
    pub const NOTHING: Self = Self::new(VmaFlags::empty(), VmaFlags::empty());

    /// The same, for some areas only.
    #[must_use]
    pub const fn only(self, only: Only) -> Self {
        Self { only, ..self }
    }

    fn is_refused_by(self, area: &Vma) -> bool {
        self.only == Only::Anonymous && !area.backing.is_anon()
    }

    fn apply(self, area: &mut Vma) {
        if self.only != Only::Private || !area.is_shared() {
            area.flags.remove(self.clear);
            area.flags.insert(self.set);
        }
    }

    fn changes(self, area: &Vma) -> bool {
        let mut after = area.flags;
        after.remove(self.clear);
        after.insert(self.set);
        after != area.flags
    }
}

/// Changes flags only: no entry is touched, so that it is over at once. Areas before one that
/// refuses are changed; a hole is reported at the end, as on Linux.
pub(crate) fn begin(
    map: &mut Map,
    change: &mut Change,
    (addr, len): (u64, u64),
    advice: Advice,
) -> Result<(), MmError> {
    let Some((start, end)) = advised(addr, len)? else {
        return Ok(());
    };
    let whole = map.areas.covered_until(start, end) == end;
    let refusal = map
        .areas
        .overlapping(start, end)
        .find(|area| advice.is_refused_by(area))
        .map(|area| area.start.max(start));
    let (stop, refused) = (refusal.unwrap_or(end), refusal.is_some());
    let differs = map
        .areas
        .overlapping(start, stop)
        .any(|area| advice.changes(area));
    if differs && !map.areas.may_cut(start, stop) {
        return Err(MmError::NoMemory);
    }
    if differs {
        map.areas.change(start, stop, |area| advice.apply(area));
    }
    match (refused, whole) {
        (true, _) => change.fail_with(MmError::Invalid),
        (_, false) => change.fail_with(MmError::NoMemory),
        _ => {}
    }
    Ok(())
}
