//! Pinning pages of user memory without a lock (GUP-13, GUP-20, GUP-26): walk by values read once,
//! take references that are not the first, look again at each entry and at what leads to it.
//!
//! A table that is replaced by a block keeps its entries: the entry alone does not tell that the
//! page has gone since. What leads to a table changes once, when it is unlinked, and the tables
//! above are unlinked empty: one look at the entry that names the table is enough.

use core::sync::atomic::Ordering;

use arm64::addr::{PAGE_SIZE, PhysAddr};
use arm64::geometry::{Level, MAX_LEVELS};
use arm64::pte::{Entry, Format, Invalid};
use arrayvec::ArrayVec;
use frame::UserFrame;
use sync::planted::{self, Fault};

use crate::machine::{Machine, Pause};
use crate::slot::{ReadSide, TableRef};
use crate::space::{PageTable, User};
use crate::value::Value;
use crate::walk::{Reached, Walked, climb, last_of};

/// Why a page was not pinned without a lock (GUP-26): the fault path decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decline {
    /// Nothing is mapped there.
    NotPresent,
    /// A page is mapped that nobody may access (`PROT_NONE`).
    NoAccess,
    /// Programs may not read by the entry, or not write.
    NoRight,
    /// The entry was not accessed yet: only its lock's holder may say that it was.
    NotYoung,
    /// A page to be written was not written yet, likewise.
    NotDirty,
    /// A page that is not counted, a page without storage for its tags, or a mark.
    Special,
    /// The entry has changed since.
    RacedLeaf,
    /// The table of the entry was unlinked since.
    RacedParent,
    /// The page has no references any more.
    ReferenceRefused,
    /// The space does not reach that far.
    BeyondRange,
}

impl<M: Machine> PageTable<User, M> {
    /// Adds references to `count` pages from the one at `va` on to `pins`, or to as many as there is
    /// room for, up to the first that cannot be pinned like this; why that one cannot.
    ///
    /// For a `write` pages are those that the space's own writes go to. The reference keeps the page
    /// what it is; who writes to it holds the lock of its table (law 17).
    pub fn gup_fast<const N: usize>(
        &self,
        va: u64,
        count: u64,
        write: bool,
        pins: &mut ArrayVec<UserFrame, N>,
        section: &ReadSide<'_>,
    ) -> Option<Decline> {
        let root = self.root(section);
        let mut path = [root; MAX_LEVELS];
        let first = root.level().position();
        let mut depth = first;
        let mut at = va & !(PAGE_SIZE - 1);
        let count = count.min(pins.remaining_capacity() as u64);
        let end = at.saturating_add(count * PAGE_SIZE);
        while at < end {
            if !self.contains(&root, at) {
                return Some(Decline::BeyondRange);
            }
            let table = path[depth];
            let mut run = Run::<N>::new(end, write, self.machine().format());
            let part = (table.index(at)..=last_of(&table, at, end), at, end);
            let see = &mut |va, walked| run.see(va, walked);
            let reached = match table.level() {
                Level::L3 => self.scan::<true>(&table, part, section, see),
                _ => self.scan::<false>(&table, part, section, see),
            };
            let parent = (depth > first).then(|| path[depth - 1]);
            let declined = self.take(Place::new(table, parent), run, pins);
            if declined.is_some() {
                return declined;
            }
            match reached {
                Reached::Table(va, next) => {
                    (at, depth) = (va, depth + 1);
                    path[depth] = next;
                }
                Reached::End(va) => {
                    at = va;
                    depth = climb(&path, depth, first, va);
                }
            }
        }
        None
    }

    /// Pins what was seen in one table; why no more of it.
    fn take<const N: usize>(
        &self,
        place: Place<'_>,
        run: Run<N>,
        pins: &mut ArrayVec<UserFrame, N>,
    ) -> Option<Decline> {
        let (mut seen, mut declined) = (run.seen, run.declined);
        if seen.is_empty() {
            return declined;
        }
        let (machine, first) = (self.machine(), pins.len());
        machine.pause(Pause::PinBeforeReference);
        if planted::is(Fault::GupReload) {
            let again = seen.iter_mut();
            again.for_each(|seen| seen.value = place.load(seen.va));
        }
        if !seen.iter().all(|seen| self.reference_all(seen, pins)) {
            declined = Some(Decline::ReferenceRefused);
        }
        machine.pause(Pause::PinBeforeRecheck);
        let (taken, mut kept) = (pins.len() - first, 0);
        for seen in &seen {
            if kept < taken && !place.is_still(seen) {
                declined = Some(Decline::RacedLeaf);
                break;
            }
            kept = taken.min(kept + seen.pages);
        }
        if kept != 0 && !place.is_linked(machine.format(), seen[0].va) {
            declined = Some(Decline::RacedParent);
            kept = 0;
        }
        pins.truncate(first + kept);
        declined
    }

    /// Adds references to all pages seen by an entry; false: one has none, and it ends there.
    fn reference_all<const N: usize>(
        &self,
        seen: &Seen,
        pins: &mut ArrayVec<UserFrame, N>,
    ) -> bool {
        let pages = (seen.va..).step_by(PAGE_SIZE as usize).take(seen.pages);
        for va in pages {
            match self.reference(&Seen { va, ..*seen }) {
                Some(frame) => pins.push(frame),
                None => return false,
            }
        }
        true
    }

    /// A reference to the first page that was seen, if it has any.
    #[inline(always)]
    pub(crate) fn reference(&self, seen: &Seen) -> Option<UserFrame> {
        let machine = self.machine();
        let into = seen.va & (seen.level.size() - 1);
        let pa = machine.format().pa(seen.value.pte(), seen.level).raw() + into;
        machine.frames().try_pin_user(PhysAddr::new(pa).pfn())
    }
}

/// Pages seen by one entry.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    /// The address of the first.
    pub(crate) va: u64,
    /// The entry, as it was loaded.
    pub(crate) value: Value,
    pub(crate) level: Level,
    /// How many.
    pub(crate) pages: usize,
}

/// What a walk has seen in one table, up to the first page that cannot be pinned.
struct Run<const N: usize> {
    end: u64,
    write: bool,
    format: Format,
    seen: ArrayVec<Seen, N>,
    declined: Option<Decline>,
}

impl<const N: usize> Run<N> {
    fn new(end: u64, write: bool, format: Format) -> Self {
        let seen = ArrayVec::new();
        Self {
            end,
            write,
            format,
            seen,
            declined: None,
        }
    }

    /// The entry that translates the range from `va` on.
    #[inline(always)]
    fn see(&mut self, va: u64, walked: Walked) {
        if self.declined.is_some() {
            return;
        }
        match wanted(walked, self.write, self.format) {
            Ok((value, level)) => {
                let behind = (va | (level.size() - 1)).wrapping_add(1);
                let pages = ((behind.min(self.end) - va) / PAGE_SIZE) as usize;
                // An entry is a page at least, and as many fit as the range has pages.
                self.seen.push(Seen {
                    va,
                    value,
                    level,
                    pages,
                });
            }
            Err(decline) => self.declined = Some(decline),
        }
    }
}

/// The leaf, if programs may read by it, or write, and have.
#[inline(always)]
fn wanted(walked: Walked, write: bool, format: Format) -> Result<(Value, Level), Decline> {
    let (value, level) = match walked {
        Walked::Seen { value, level, .. } => (value, level),
        Walked::Miss { value, level } => return Err(absent(value, level, format)),
    };
    if value.special() {
        Err(Decline::Special)
    } else if !value.user_readable() || write && !value.writable() {
        Err(Decline::NoRight)
    } else if !value.young() {
        Err(Decline::NotYoung)
    } else if write && !value.dirty() {
        Err(Decline::NotDirty)
    } else {
        Ok((value, level))
    }
}

/// Why there is no leaf.
#[cold]
fn absent(value: Value, level: Level, format: Format) -> Decline {
    match value.decode(format, level) {
        Entry::None | Entry::Table(_) => Decline::NotPresent,
        Entry::PresentInvalid {
            reason: Invalid::ProtNone,
            ..
        } => Decline::NoAccess,
        _ => Decline::Special,
    }
}

/// The table that a page was seen in, and the one whose entry led there, if there is one.
pub(crate) struct Place<'g> {
    table: TableRef<'g>,
    parent: Option<TableRef<'g>>,
}

impl<'g> Place<'g> {
    #[inline(always)]
    pub(crate) fn new(table: TableRef<'g>, parent: Option<TableRef<'g>>) -> Self {
        Self { table, parent }
    }

    /// The second look at the entry: whether it maps what it did. Of a contiguous block this is the
    /// page's own entry, with what the hardware has recorded in it alone.
    #[inline(always)]
    pub(crate) fn is_still(&self, seen: &Seen) -> bool {
        self.load(seen.va).same_but_ad(seen.value) || planted::is(Fault::PinWithoutRecheck)
    }

    /// The second look at what leads there: whether it is this table still.
    #[inline(always)]
    pub(crate) fn is_linked(&self, format: Format, va: u64) -> bool {
        let Some(parent) = &self.parent else {
            return true;
        };
        let entry = parent.load(parent.index(va), Ordering::Acquire);
        entry == format.table(self.table.pa()) || planted::is(Fault::GupWithoutParentRecheck)
    }

    fn load(&self, va: u64) -> Value {
        let pte = self.table.load(self.table.index(va), Ordering::Acquire);
        Value::new(pte.with_contiguous(false))
    }
}
