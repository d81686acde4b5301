//! What a space should look like: a map from page to what software asked for, updated by the
//! operations of a test and compared with the tables by the independent walker.

use std::collections::{BTreeMap, BTreeSet};

use arm64::addr::PhysAddr;
use arm64::geometry::Level;

use crate::descriptor::{Desc, Leaf, is_marker, right};
use crate::walker::{Found, Tables};

/// One mapped page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Physical address of its frame.
    pub pa: u64,
    /// What it allows: bits of [`right`]; 0 for a page that nobody may access.
    pub rights: u8,
    /// It was accessed and not aged since: the tables must know.
    pub young: bool,
    /// It was written and not cleaned since: the tables must know.
    pub dirty: bool,
    /// Write-protected by a userfaultfd.
    pub mark: bool,
    /// Its frame is not counted.
    pub special: bool,
}

/// What a space should look like, by page.
#[derive(Clone, Debug, Default)]
pub struct Ghost {
    pages: BTreeMap<u64, Page>,
    /// Pages that are not there, but remembered as write-protected by a userfaultfd.
    markers: BTreeSet<u64>,
}

impl Ghost {
    /// An empty space.
    pub fn new() -> Self {
        Self::default()
    }

    /// The page at `va`.
    pub fn get(&self, va: u64) -> Option<Page> {
        self.pages.get(&(va >> 12)).copied()
    }

    /// The page at `va`, to change it.
    pub fn get_mut(&mut self, va: u64) -> Option<&mut Page> {
        self.pages.get_mut(&(va >> 12))
    }

    /// Whether nothing is at `va`, not even a marker.
    pub fn is_none(&self, va: u64) -> bool {
        self.get(va).is_none() && !self.has_marker(va)
    }

    /// Whether a marker is at `va`.
    pub fn has_marker(&self, va: u64) -> bool {
        self.markers.contains(&(va >> 12))
    }

    /// Puts a marker at `va`, where no page is, or takes it away.
    pub fn set_marker(&mut self, va: u64, on: bool) {
        match on {
            true => self.markers.insert(va >> 12),
            false => self.markers.remove(&(va >> 12)),
        };
    }

    /// The markers of `[start, end)`.
    pub fn markers(&self, start: u64, end: u64) -> impl Iterator<Item = u64> + '_ {
        let range = self.markers.range(start >> 12..end >> 12);
        range.map(|page| page << 12)
    }

    /// Maps a page.
    pub fn map(&mut self, va: u64, page: Page) -> Option<Page> {
        self.pages.insert(va >> 12, page)
    }

    /// Takes a page out.
    pub fn unmap(&mut self, va: u64) -> Option<Page> {
        self.pages.remove(&(va >> 12))
    }

    /// The mapped pages of `[start, end)` with their addresses.
    pub fn range(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, Page)> + '_ {
        let range = self.pages.range(start >> 12..end >> 12);
        range.map(|(page, state)| (page << 12, *state))
    }

    /// The mapped pages of `[start, end)`, to change them.
    pub fn range_mut(&mut self, start: u64, end: u64) -> impl Iterator<Item = &mut Page> + '_ {
        let range = self.pages.range_mut(start >> 12..end >> 12);
        range.map(|(_, page)| page)
    }

    /// How many pages are mapped.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether no page is.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Compares with everything that hangs under the root.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn compare(&self, tables: &Tables, root: PhysAddr, level: Level) -> Result<(), String> {
        let mut expected = self.pages.iter();
        let mut markers = self.markers.iter();
        let mut wrong = None;
        let mut gathered = Block::default();
        tables.each(root, level, &mut |va, found| {
            if wrong.is_some() || matches!(found.desc, Desc::Table(_)) {
                return;
            }
            if is_marker(found.word) {
                let next = markers.next();
                if next != Some(&(va >> 12)) {
                    wrong = Some(format!("{va:#x}: a marker, expected next {next:x?}"));
                }
                return;
            }
            // Another word that maps nothing is the business of nobody here.
            let leaf = match gathered.leaf(tables, &found) {
                Some(leaf) => leaf,
                None => match tables.withheld(&found) {
                    Some(leaf) => Leaf { rights: 0, ..leaf },
                    None => return,
                },
            };
            for piece in 0..leaf.size >> 12 {
                let va = va + (piece << 12);
                let page = Some((&(va >> 12), leaf.pa + (piece << 12)));
                let next = expected.next();
                let Some((place, page)) = next.zip(page).filter(|(a, b)| a.0 == b.0) else {
                    wrong = Some(format!("{va:#x}: {leaf:x?}, expected next {next:x?}"));
                    return;
                };
                if let Some(how) = place.1.differs(&leaf, page.1) {
                    wrong = Some(format!("{va:#x}: {how}: {leaf:x?} for {:x?}", place.1));
                    return;
                }
            }
        });
        match (wrong, expected.next(), markers.next()) {
            (Some(wrong), ..) => Err(wrong),
            (None, Some((page, state)), _) => Err(format!("{:#x} is lost: {state:x?}", page << 12)),
            (None, None, Some(page)) => Err(format!("the marker of {:#x} is lost", page << 12)),
            (None, None, None) => Ok(()),
        }
    }
}

/// The contiguous block that was looked at last: what its entries record belongs to all of them.
#[derive(Default)]
struct Block {
    at: u64,
    young: bool,
    dirty: bool,
}

impl Block {
    fn leaf(&mut self, tables: &Tables, found: &Found) -> Option<Leaf> {
        let leaf = found.desc.as_leaf()?;
        if !leaf.contiguous {
            return Some(leaf);
        }
        let at = found.at & !(16 * 8 - 1);
        if self.at != at {
            let Leaf { young, dirty, .. } = tables.gathered(found)?;
            *self = Self { at, young, dirty };
        }
        let Self { young, dirty, .. } = *self;
        Some(Leaf {
            young,
            dirty,
            ..leaf
        })
    }
}

impl Page {
    fn differs(&self, leaf: &Leaf, pa: u64) -> Option<&'static str> {
        let rights = right::EL0 | right::WRITE | right::EXEC_EL0;
        if self.pa != pa {
            return Some("another frame");
        }
        if leaf.rights & rights != self.rights & rights {
            return Some("other rights");
        }
        if self.dirty && !leaf.dirty {
            return Some("dirty state lost");
        }
        if self.young && !leaf.young {
            return Some("access flag lost");
        }
        if self.special != leaf.special {
            return Some("counted otherwise");
        }
        (self.mark != leaf.mark).then_some("another mark")
    }
}
