//! What the tests of the engine share: a machine, spaces, folios, and looks at raw entries.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use arm64::addr::{VaRange, VirtAddr};
use arm64::attrs::{Attrs, Prot};
use arm64::bbm::{self, Change};
use arm64::geometry::{Geometry, Level};
use arm64::pte::{Format, Pte};
use frame::UserFrame;
use model::HostMachine;
use model::host::Event;
use pgtable::{Gather, Graveyard, Kind, Leaf, Machine, PageTable, User, Visit, Walked, Zap};

pub const PAGE: u64 = 4096;
pub const BLOCK: u64 = 16 * PAGE;
pub const MIB2: u64 = 2 << 20;
pub const GIB: u64 = 1 << 30;
pub const RW: Prot = Prot::READ.union(Prot::WRITE);
pub const PLAIN: Format = Format { lpa2: false };

pub type Space = PageTable<User, HostMachine>;

pub fn machine() -> &'static HostMachine {
    // Fewer pages where setting up each takes the interpreter long.
    HostMachine::new(if cfg!(miri) { 1024 } else { 2048 }, PLAIN, 1)
}

pub fn user(machine: &'static HostMachine) -> Space {
    shaped(machine, Geometry::for_va_bits(39))
}

pub fn shaped(machine: &'static HostMachine, shape: Geometry) -> Space {
    PageTable::new(machine, 7, shape).expect("a root")
}

pub fn range(start: u64, end: u64) -> VaRange {
    VaRange::new(VirtAddr::new(start), VirtAddr::new(end)).expect("a range")
}

pub fn young() -> Attrs {
    Attrs::user(RW).with_young(true)
}

/// A folio of 2^`order` frames, by its first page.
pub fn folio(machine: &'static HostMachine, order: u8) -> UserFrame {
    let fresh = machine.frames().alloc_fresh(order, false);
    fresh.expect("a frame").into_user()
}

/// Maps one page.
pub fn install(space: &Space, va: u64, frame: UserFrame, attrs: Attrs) {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let leaf = space.lock_leaf(va, &section, || true).expect("a table");
    assert!(leaf.install(va, frame, attrs).is_ok(), "an empty slot");
}

/// Maps `count` pages of a folio from `frame` on.
pub fn install_folio(space: &Space, va: u64, frame: UserFrame, count: usize, attrs: Attrs) {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let leaf = space.lock_leaf(va, &section, || true).expect("a table");
    let done = leaf.install_folio(va, frame, count, attrs, None);
    assert!(done.is_ok(), "empty slots");
}

/// Does `act` to each locked leaf table of the range, then flushes and releases.
pub fn each_leaf(
    space: &Space,
    graves: &Graveyard,
    (start, end): (u64, u64),
    mut act: impl FnMut(&Leaf<'_, User, HostMachine>, &mut Gather),
) {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let mut gather = Gather::new();
    let mut cursor = space.cursor(range(start, end), &section);
    while let Some(visit) = cursor.visit() {
        if let Visit::Table(leaf) = visit {
            act(&leaf, &mut gather);
        }
    }
    release(space, graves, &mut gather);
}

pub fn release(space: &Space, graves: &Graveyard, gather: &mut Gather) {
    let flushed = gather.flush(space);
    gather.release(space.machine(), graves, &flushed);
}

pub fn zap(space: &Space, graves: &Graveyard, start: u64, end: u64) {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let mut at = start;
    while at != end {
        let mut gather = Gather::new();
        at = space.zap(range(at, end), Zap::REGION_GONE, &mut gather, &section);
        release(space, graves, &mut gather);
    }
}

pub fn protect(space: &Space, graves: &Graveyard, (start, end): (u64, u64), prot: Prot) {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let mut at = start;
    while at != end {
        let mut gather = Gather::new();
        at = space.protect(range(at, end), prot, &mut gather, &section);
        release(space, graves, &mut gather);
    }
}

/// Lets grace periods pass until nothing is buried.
pub fn settle(machine: &'static HostMachine, graves: &Graveyard) {
    while !graves.is_empty() {
        graves.reap(machine, 99);
        machine.pass_grace_period(1);
    }
}

/// Empties and ends the space, and sees that no table is left.
pub fn end(mut space: Space, graves: &Graveyard) {
    let machine = space.machine();
    assert_eq!(machine.script_left(), 0, "the script was played to its end");
    zap(&space, graves, 0, 1 << space.geometry().va_bits());
    let mut gather = Gather::new();
    space.retire(&mut gather);
    release(&space, graves, &mut gather);
    settle(machine, graves);
    assert_eq!(space.stats().live(), 0);
    assert_eq!(machine.stats().live(), 0);
    let (made, freed) = machine.hook_calls();
    assert_eq!(made, freed, "law 8: one destructor per constructor");
}

/// Takes the space out of the last [`Arc`]: scripts that had others have been played.
pub fn only<T>(shared: Arc<T>) -> T {
    Arc::into_inner(shared).expect("the last reference")
}

pub fn walk(space: &Space, va: u64) -> Walked {
    let stay = ();
    space.walk(va, &space.machine().read_side(&stay))
}

/// The frame number that a walk of `va` leads to.
pub fn pfn_at<K: Kind>(space: &PageTable<K, HostMachine>, va: u64) -> Option<u64> {
    let stay = ();
    let machine = space.machine();
    let walked = space.walk(va, &machine.read_side(&stay));
    let pa = walked.address(va, machine.format());
    pa.map(|pa| pa.pfn().raw())
}

/// The last entry on the way to `va`: its level, and where the hardware would find it.
pub fn entry<K: Kind>(space: &PageTable<K, HostMachine>, va: u64) -> (Level, &'static AtomicU64) {
    let stay = ();
    let machine = space.machine();
    let mut table = space.root_word().root();
    let mut last = None;
    space.trace(va, &machine.read_side(&stay), |level, index, pte| {
        let cells = machine.frames().cells(table.pfn());
        // SAFETY: an index of the table, whose memory is an arena's and is never given back; only
        // atomics touch it while it is a table.
        last = Some((level, unsafe { cells.add(index).as_ref() }));
        table = machine.format().table_pa(pte);
    });
    last.expect("an address of the space")
}

/// The last entry on the way to `va` as it is in memory.
pub fn raw<K: Kind>(space: &PageTable<K, HostMachine>, va: u64) -> Pte {
    Pte::from_raw(entry(space, va).1.load(SeqCst))
}

/// What hardware that keeps accessed and dirty by itself does on an access; whether it is allowed.
pub fn touch(space: &Space, va: u64, write: bool) -> bool {
    let (level, cell) = entry(space, va);
    let change = |word| {
        let pte = Pte::from_raw(word);
        let allowed = pte.is_leaf(level) && pte.user_readable() && (!write || pte.writable());
        let new = if write {
            pte.mkyoung().mkdirty()
        } else {
            pte.mkyoung()
        };
        allowed.then(|| new.raw())
    };
    cell.fetch_update(SeqCst, SeqCst, change).is_ok()
}

/// Which of the `count` pages from `va` on have the contiguous bit in memory.
pub fn contiguous(space: &Space, va: u64, count: u64) -> Vec<bool> {
    let pages = (0..count).map(|i| raw(space, va + i * PAGE));
    pages.map(Pte::is_contiguous).collect()
}

/// Law 5 over a log: no live entry becomes another one that needs a break.
pub fn assert_broken_before_made(log: &[Event], format: Format) {
    for event in log {
        if let &Event::Stored {
            level,
            old,
            new,
            at,
        } = event
        {
            let change = bbm::change(old, new, level, format);
            assert_ne!(
                change,
                Change::Break,
                "law 5: {old:?} became {new:?} at {at:?}"
            );
        }
    }
}
