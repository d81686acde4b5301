//! `mprotect`.

use arm64::addr::PAGE_SIZE;
use arm64::attrs::Prot;
use arm64::geometry::Level;
use pgtable::{Gather, Machine, ReadSide};

use super::round_up;
use crate::change::{Change, Work, cost_of_part, range};
use crate::error::MmError;
use crate::space::{AREAS_PER_STEP, Map, Space};
use crate::vma::{Vma, VmaFlags, entry_prot, rights, shows_tags};

/// Which bit came with the rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grows {
    /// `PROT_GROWSDOWN`: the change begins where the area does, which has to grow down.
    Down,
    /// `PROT_GROWSUP`: no area grows up.
    Up,
}

/// Bytes whose entries lose their access for want of tags in one piece: blocks of them are unfolded,
/// which costs many times as much as other rights (law 16).
const TAGGED_AT_ONCE: u64 = 1 << 20;

/// What a change asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    prot: Prot,
    /// Allocation tags too.
    tags: bool,
}

impl Wish {
    #[inline(always)]
    pub(crate) const fn rights(prot: Prot) -> Self {
        Self { prot, tags: false }
    }

    pub(crate) const fn tags(prot: Prot) -> Self {
        Self { prot, tags: true }
    }

    /// Why an area cannot have it, in Linux's order.
    fn refusal(self, area: &Vma) -> Option<MmError> {
        let write = self.prot.contains(Prot::WRITE) && area.flags.contains(VmaFlags::NEVER_WRITE);
        let exec = self.prot.contains(Prot::EXEC) && area.flags.contains(VmaFlags::NEVER_EXEC);
        if write || exec {
            return Some(MmError::Access);
        }
        (self.tags && !area.backing.may_carry_tags()).then_some(MmError::Invalid)
    }

    /// What the entries of an area get.
    #[inline(always)]
    fn entries_of(self, area: &Vma) -> Entries {
        let (prot, unread) = rights(self.prot);
        let mut flags = area.flags.difference(VmaFlags::UNREAD) | unread;
        flags.set(VmaFlags::MTE, self.tags || flags.contains(VmaFlags::MTE));
        Entries {
            prot: entry_prot(prot, area.flags, &area.backing),
            tagged: shows_tags(prot, flags),
        }
    }
}

/// What entries get.
#[derive(Clone, Copy, Debug)]
struct Entries {
    prot: Prot,
    tagged: bool,
}

/// Of no area.
const NO_ENTRIES: Entries = Entries {
    prot: Prot::empty(),
    tagged: false,
};

/// Entries, and then areas, that get other rights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protecting {
    /// Areas before this address have them.
    start: u64,
    /// Entries before this one have them.
    at: u64,
    end: u64,
    wish: Wish,
    /// How far the area goes whose entries are being changed, and what they get.
    part: (u64, Entries),
}

#[inline(always)]
pub(crate) fn begin(
    map: &mut Map,
    change: &mut Change,
    (addr, len): (u64, u64),
    wish: Wish,
    grows: Option<Grows>,
) -> Result<(), MmError> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(MmError::Invalid);
    }
    if len == 0 {
        return Ok(());
    }
    // An end beyond all addresses is no error of its own: there is a hole before it.
    let end = round_up(len).and_then(|len| addr.checked_add(len));
    let end = end.ok_or(MmError::NoMemory)?;
    let around = map.areas.find_around(addr, end);
    let Some(area) = around.filter(|_| grows.is_none()) else {
        return begin_across(map, change, (addr, end), wish, grows);
    };
    if let Some(refusal) = wish.refusal(area) {
        return Err(refusal);
    }
    let cuts = usize::from(area.start < addr) + usize::from(end < area.end);
    if !map.areas.may_add(cuts) {
        return Err(MmError::NoMemory);
    }
    change.carry(Work::Protect(Protecting {
        start: addr,
        at: addr,
        end,
        wish,
        part: (end, wish.entries_of(area)),
    }));
    Ok(())
}

/// As [`begin`], for a range that is not within one area, or may begin before its first byte.
#[inline(never)]
fn begin_across(
    map: &mut Map,
    change: &mut Change,
    (addr, end): (u64, u64),
    wish: Wish,
    grows: Option<Grows>,
) -> Result<(), MmError> {
    let addr = first(map, addr, end, grows)?;
    // Up to the first hole, or the first area that must not get these rights, the change is made;
    // then that is reported, as on Linux.
    let covered = map.areas.covered_until(addr, end);
    let refusal = map
        .areas
        .overlapping(addr, covered)
        .find_map(|area| Some((area.start.max(addr), wish.refusal(area)?)));
    let (stop, error) = match refusal {
        Some((at, error)) => (at, Some(error)),
        None => (covered, (covered < end).then_some(MmError::NoMemory)),
    };
    if stop == addr {
        return Err(error.unwrap_or(MmError::NoMemory));
    }
    if !map.areas.may_cut(addr, stop) {
        return Err(MmError::NoMemory);
    }
    change.carry(Work::Protect(Protecting {
        start: addr,
        at: addr,
        end: stop,
        wish,
        part: (addr, NO_ENTRIES),
    }));
    if let Some(error) = error {
        change.fail_with(error);
    }
    Ok(())
}

/// Where the change begins.
fn first(map: &Map, start: u64, end: u64, grows: Option<Grows>) -> Result<u64, MmError> {
    let area = map.areas.overlapping(start, end).next();
    let area = area.ok_or(MmError::NoMemory)?;
    match grows {
        Some(Grows::Down) if area.flags.contains(VmaFlags::GROWSDOWN) => Ok(area.start),
        Some(Grows::Down) => Err(MmError::Invalid),
        _ if area.start > start => Err(MmError::NoMemory),
        Some(Grows::Up) => Err(MmError::Invalid),
        None => Ok(start),
    }
}

impl Protecting {
    /// The range that it is about.
    #[inline(always)]
    pub(crate) const fn range(&self) -> (u64, u64) {
        (self.start, self.end)
    }

    /// What the next piece costs at most, in pages.
    #[inline(always)]
    pub(crate) fn cost(&self) -> u32 {
        cost_of_part(self.at, self.end)
    }

    /// Changes and flushes the entries of one table, or passes a range without tables; behind the
    /// last one, publishes a bounded number of areas. Whether it is over, and the map let go.
    #[inline(always)]
    pub(crate) fn step<M: Machine>(&mut self, space: &Space<M>, section: &ReadSide<'_>) -> bool {
        if self.at < self.end {
            self.change_entries(space, section);
            return false;
        }
        self.publish(space)
    }

    fn change_entries<M: Machine>(&mut self, space: &Space<M>, section: &ReadSide<'_>) {
        if self.part.0 <= self.at {
            self.part = self.next_part(space);
        }
        let (stop, entries) = self.part;
        // A block loses its access as a whole.
        let in_pieces = || space.table().look(self.at, section).level() == Level::L3;
        let piece = match entries.tagged && in_pieces() {
            false => stop,
            true => stop.min((self.at & !(TAGGED_AT_ONCE - 1)) + TAGGED_AT_ONCE),
        };
        let reached = piece.min(space.end());
        let mut next = piece;
        if let Some(range) = range(self.at, reached) {
            let mut gather = Gather::new();
            let table = space.table();
            let done = match entries.tagged {
                false => table.protect(range, entries.prot, &mut gather, section),
                true => table.protect_tagged(range, entries.prot, &mut gather, section),
            };
            space.release(&mut gather);
            if done < reached {
                next = done;
            }
        }
        self.at = next;
    }

    /// How far the area goes whose entries are to be changed next, and what they get.
    fn next_part<M: Machine>(&self, space: &Space<M>) -> (u64, Entries) {
        let map = space.map().lock();
        match map.areas.find(self.at) {
            Some(area) => (area.end.min(self.end), self.wish.entries_of(area)),
            None => (self.end, NO_ENTRIES),
        }
    }

    /// The entries have their rights: so do the areas from the start on, a bounded number at a time.
    fn publish<M: Machine>(&mut self, space: &Space<M>) -> bool {
        let mut map = space.map().lock();
        let stop = map.areas.step_end(self.start, self.end, AREAS_PER_STEP);
        map.areas
            .change(self.start, stop, |area| set(area, self.wish));
        self.start = stop;
        if stop == self.end {
            map.let_go();
        }
        stop == self.end
    }
}

/// The area as it is afterwards. What was promised when it became writable stays promised, unless
/// it has never been touched.
fn set(area: &mut Vma, Wish { prot, tags }: Wish) {
    if tags {
        area.flags.insert(VmaFlags::MTE);
    }
    let shared = VmaFlags::SHARED | VmaFlags::NORESERVE;
    let was_writable = area.prot.contains(Prot::WRITE);
    if prot.contains(Prot::WRITE) {
        if !was_writable && !area.flags.intersects(shared) {
            area.flags.insert(VmaFlags::ACCOUNT);
        }
    } else if area.backing.is_anon() && area.backing.origin().id == 0 {
        area.flags.remove(VmaFlags::ACCOUNT);
    }
    let (prot, unread) = rights(prot);
    area.flags.remove(VmaFlags::UNREAD);
    area.flags.insert(unread);
    area.prot = prot;
}
