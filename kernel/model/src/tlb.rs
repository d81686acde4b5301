//! What CPUs may still have cached of entries that have changed: the worst the architecture allows.
//!
//! Nothing is recorded of what entries say now; a walker can always read that. A [`Record`] is made
//! when an entry stops saying something, and lives until an invalidation reaches every CPU and
//! identifier that may have cached it. Entries whose access flag is clear count as cached too: a
//! walker may have set the flag just before.

use arm64::geometry::Level;
use pgtable::Invalidation;

use crate::descriptor::Leaf;

/// Under what a translation is cached: by one CPU, for one identifier or (kernel) for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Context {
    /// The CPU.
    pub cpu: usize,
    /// The identifier; none for global translations.
    pub asid: Option<u16>,
}

/// What may be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A translation. Of an entry of a contiguous block, fragments of the whole block, as long as
    /// their bit in `pages` is set; of another entry, its own bit.
    Leaf {
        /// The entry as it was.
        leaf: Leaf,
        /// Its place in its block.
        index: u32,
        /// Which places of the block are still translated.
        pages: u16,
    },
    /// A walk-cache entry: the way to a table.
    Walk {
        /// Physical address of the table.
        table: u64,
    },
}

/// Something that may still be cached although its entry has changed.
#[derive(Clone, Debug)]
pub struct Record {
    /// Number of the space.
    pub space: u32,
    /// Physical address of the entry.
    pub at: u64,
    /// Level of the entry.
    pub level: Level,
    /// First address that the entry translates.
    pub va: u64,
    /// What is kept.
    pub kept: Kept,
    /// Who may keep it.
    pub holders: Vec<Context>,
    /// The change is visible to walks that begin now, so that an invalidation ends it.
    pub visible: bool,
    /// The operation during which it changed.
    pub operation: u32,
    /// Only rights were taken away.
    pub rights_only: bool,
}

/// What [`Record::invalidate`] leaves.
enum Left {
    All,
    Pages(u16),
    Nothing,
}

impl Record {
    /// First address and bytes that it may translate, fragments not looked at.
    pub fn span(&self) -> (u64, u64) {
        let size = self.level.size();
        match self.kept {
            Kept::Leaf { leaf, index, .. } if leaf.contiguous => {
                (self.va - u64::from(index) * size, 16 * size)
            }
            _ => (self.va, size),
        }
    }

    /// The physical address that it may translate `va` to, and the leaf.
    pub fn translates(&self, va: u64) -> Option<(u64, Leaf)> {
        let Kept::Leaf { leaf, index, pages } = self.kept else {
            return None;
        };
        let size = self.level.size();
        let block = self.va.wrapping_sub(u64::from(index) * size);
        let place = va.wrapping_sub(block) / size;
        let fits = place < 16 && pages >> place & 1 == 1;
        fits.then(|| (leaf.pa.wrapping_add(va.wrapping_sub(self.va)), leaf))
    }

    /// An address that it may translate to the frame at `pa`.
    pub fn reaches(&self, pa: u64) -> Option<u64> {
        let Kept::Leaf { leaf, .. } = self.kept else {
            return None;
        };
        let va = self.va.wrapping_add(pa.wrapping_sub(leaf.pa));
        let (start, size) = self.span();
        let inside = va.wrapping_sub(start) < size;
        (inside && self.translates(va).is_some()).then_some(va)
    }

    fn left_by(&self, what: &Invalidation) -> Left {
        let (start, size) = self.span();
        let overlaps = |from: u64, to: u64| start < to && from < start.wrapping_add(size);
        let (from, to, hint) = match *what {
            Invalidation::Asid(_) => return Left::Nothing,
            Invalidation::Kernel { start, end } => (start, end, None),
            Invalidation::Range {
                start,
                end,
                level,
                tables,
                ..
            } => (start, end, (!tables).then_some(level)),
        };
        if !overlaps(from, to) {
            return Left::All;
        }
        match (self.kept, hint) {
            // Invalidations of the last level leave walk caches alone, and a wrong hint leaves all.
            (Kept::Walk { .. }, Some(_)) => Left::All,
            (Kept::Leaf { .. }, Some(level)) if level != self.level => Left::All,
            (Kept::Walk { .. }, None) => Left::Nothing,
            (Kept::Leaf { leaf, pages, .. }, _) if leaf.contiguous => {
                let page = self.level.size();
                let gone = (0..16u64)
                    .filter(|place| start + place * page < to && from < start + (place + 1) * page)
                    .fold(0u16, |mask, place| mask | 1 << place);
                match pages & !gone {
                    0 => Left::Nothing,
                    pages => Left::Pages(pages),
                }
            }
            (Kept::Leaf { .. }, _) => Left::Nothing,
        }
    }

    fn is_aimed_at(context: Context, what: &Invalidation) -> bool {
        match *what {
            Invalidation::Asid(asid) | Invalidation::Range { asid, .. } => {
                context.asid == Some(asid)
            }
            Invalidation::Kernel { .. } => context.asid.is_none(),
        }
    }

    /// Carries out a broadcast invalidation. A record whose holders are hit in part comes apart:
    /// the second value is the part that keeps fewer pages.
    pub fn invalidate(mut self, what: &Invalidation) -> (Option<Self>, Option<Self>) {
        let hit = |context: &Context| Self::is_aimed_at(*context, what);
        if !self.visible || !self.holders.iter().any(hit) {
            return (Some(self), None);
        }
        let fewer = match (self.left_by(what), self.kept) {
            (Left::All, _) => return (Some(self), None),
            (Left::Pages(pages), Kept::Leaf { leaf, index, .. }) => Some(Self {
                kept: Kept::Leaf { leaf, index, pages },
                holders: self.holders.iter().copied().filter(hit).collect(),
                ..self.clone()
            }),
            _ => None,
        };
        self.holders.retain(|context| !hit(context));
        ((!self.holders.is_empty()).then_some(self), fewer)
    }
}
