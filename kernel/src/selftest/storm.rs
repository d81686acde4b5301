//! Walkers without a lock on the other CPUs, while this one folds and unfolds the block they walk.

use alloc::string::String;
use alloc::sync::Arc;

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::Prot;
use mm::Access;
use pgtable::{Gather, Machine, Walked};
use sync::atomic::{AtomicBool, AtomicU64, Ordering};
use sync::{SpinLock, cpu_index, rank};

use super::loaded::{Loaded, PAGE, RW};
use super::{Failure, Outcome, check};
use crate::arch::mmu::hw;
use crate::arch::probe::{As, load_as_user, translate};
use crate::memory::{grace, graveyard};
use crate::{arch, bootargs, sched};

const VA: u64 = 0x12_3460_0000;
const BLOCK: u64 = 16 * PAGE;

/// With instructions counted the CPUs take turns: fewer rounds show as much there, and the many are
/// for CPUs that really run in parallel.
fn rounds_wanted() -> u64 {
    match bootargs::get().icount {
        true => 2_000,
        false => 16_000,
    }
}

/// Walks for each dump of the tables.
const WALKS_PER_DUMP: u64 = 64;

/// What the walkers share with the one who changes the block.
struct Storm {
    space: Loaded,
    /// Where the block is in memory.
    first: u64,
    stop: AtomicBool,
    /// Translations seen, and pages found empty in the moment of a repaint.
    seen: AtomicU64,
    missed: AtomicU64,
    /// The first address whose walk was wrong.
    wrong: AtomicU64,
    /// Lines of dumps, and those among them that show what never was.
    lines: AtomicU64,
    torn: AtomicU64,
}

static WANTED: AtomicBool = AtomicBool::new(false);
static HELPERS: AtomicU64 = AtomicU64::new(0);
static JOB: SpinLock<Option<Arc<Storm>>, rank::Leaf> = SpinLock::new(None);

/// Called by every CPU that has nothing to do.
#[inline]
pub(super) fn help() {
    if WANTED.load(Ordering::Acquire) {
        walk_until_told();
    }
}

#[cold]
fn walk_until_told() {
    let Some(storm) = JOB.lock().clone() else {
        return;
    };
    HELPERS.fetch_add(1, Ordering::AcqRel);
    let mut walks = 0_u64;
    while !storm.stop.load(Ordering::Acquire) {
        storm.walk();
        walks += 1;
        if walks.is_multiple_of(WALKS_PER_DUMP) {
            storm.dump();
        }
        grace().quiescent(cpu_index());
        sync::relax();
    }
    drop(storm);
    HELPERS.fetch_sub(1, Ordering::AcqRel);
}

impl Storm {
    /// Every page: its own frame, accessed and written, or nothing at all.
    fn walk(&self) {
        let stay = ();
        let section = hw().read_side(&stay);
        let (mut seen, mut missed) = (0, 0);
        for va in (0..16).map(|page| VA + page * PAGE) {
            let walked = self.space.0.table().walk(va, &section);
            let fine = match walked {
                Walked::Seen { value, .. } => {
                    let place = walked.address(va, hw().format()).map(PhysAddr::raw);
                    seen += 1;
                    place == Some(self.first + va - VA) && value.young() && value.dirty()
                }
                Walked::Miss { value, .. } => {
                    missed += 1;
                    value.is_none()
                }
            };
            if !fine {
                self.wrong.store(va, Ordering::Relaxed);
            }
        }
        self.seen.fetch_add(seen, Ordering::Relaxed);
        self.missed.fetch_add(missed, Ordering::Relaxed);
    }

    /// The tables as `ptdump` shows them, without a lock (PTE-07).
    fn dump(&self) {
        let (stay, mut text) = ((), String::new());
        let written = self.space.0.table().dump(&mut text, &hw().read_side(&stay));
        let (mut lines, mut torn) = (0, u64::from(written.is_err()));
        for line in text.lines() {
            lines += 1;
            torn += u64::from(!is_well_formed(line));
        }
        self.lines.fetch_add(lines, Ordering::Relaxed);
        self.torn.fetch_add(torn, Ordering::Relaxed);
    }

    fn protect(&self, start: u64, len: u64, prot: Prot) -> Outcome {
        let Some(range) = VaRange::from_len(VirtAddr::new(start), len) else {
            return check(false, "no range", start);
        };
        let (table, stay) = (self.space.0.table(), ());
        let (section, mut gather) = (hw().read_side(&stay), Gather::new());
        let end = table.protect(range, prot, &mut gather, &section);
        let flushed = gather.flush(table);
        gather.release(hw(), graveyard(), &flushed);
        check(end == start + len, "a protection ends early", end)
    }
}

/// Whether a line shows pages of the block, or the block whole, as it may ever have been.
fn is_well_formed(line: &str) -> bool {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let Some((from, to)) = line.get(..33).and_then(|range| range.split_once('-')) else {
        return line == "ranges both writable and executable: 0";
    };
    let (Some(from), Some(to)) = (hex(from), hex(to)) else {
        return false;
    };
    let known = VA <= from && from < to && to <= VA + BLOCK && (from | to).is_multiple_of(PAGE);
    let whole = !line.ends_with(" contiguous") || to - from == BLOCK;
    let rights = ["rw-u", "r--u"].iter().any(|prot| line.contains(prot));
    known
        && rights
        && whole
        && line
            .trim_end_matches(" contiguous")
            .ends_with(" L3 4 KiB pages")
}

fn begin() -> Result<Arc<Storm>, Failure> {
    let space = Loaded::new()?;
    space.map(VA, BLOCK, RW)?;
    space.fault(VA, Access::Write);
    for va in (0..16).map(|page| VA + page * PAGE) {
        space.store(va, va)?;
    }
    let first = translate(VA, As::UserRead).map_or(0, PhysAddr::raw);
    Ok(Arc::new(Storm {
        space,
        first,
        stop: AtomicBool::new(false),
        seen: AtomicU64::new(0),
        missed: AtomicU64::new(0),
        wrong: AtomicU64::new(0),
        lines: AtomicU64::new(0),
        torn: AtomicU64::new(0),
    }))
}

/// Waits until so many CPUs walk.
fn helpers(wanted: u64) -> Outcome {
    for _ in 0..100_000_000 {
        if HELPERS.load(Ordering::Acquire) == wanted {
            return Ok(());
        }
        sync::relax();
    }
    check(false, "other CPUs do not come", wanted)
}

pub(super) fn walkers_see_a_block_whole_while_it_is_folded_and_unfolded() -> Outcome {
    let storm = begin()?;
    let others = sched::online_mask() & !(1 << cpu_index());
    *JOB.lock() = Some(Arc::clone(&storm));
    WANTED.store(true, Ordering::Release);
    arch::gic::send_ipi(others);
    let outcome = helpers(others.count_ones().into()).and_then(|()| rounds(&storm));
    WANTED.store(false, Ordering::Release);
    storm.stop.store(true, Ordering::Release);
    // Whoever drops the space last unloads it: that is to be this CPU.
    let gone = helpers(0);
    *JOB.lock() = None;
    outcome.and(gone)?;
    let wrong = storm.wrong.load(Ordering::Relaxed);
    check(wrong == 0, "XC-04: a walker saw something else", wrong)?;
    let seen = storm.seen.load(Ordering::Relaxed);
    let wanted = rounds_wanted();
    check(seen >= wanted, "few walks", seen)?;
    let (lines, torn) = (
        storm.lines.load(Ordering::Relaxed),
        storm.torn.load(Ordering::Relaxed),
    );
    check(torn == 0, "PTE-07: a dump shows what never was", torn)?;
    check(lines > wanted / 64, "few lines of dumps", lines)?;
    let (folds, unfolds) = (storm.space.event("folds"), storm.space.event("unfolds"));
    check(unfolds == wanted, "unfolds", unfolds)?;
    check(folds == wanted + 1, "folds", folds)?;
    for va in (0..16).map(|page| VA + page * PAGE) {
        check(load_as_user(va) == va, "the content", va)?;
    }
    Ok(())
}

fn rounds(storm: &Storm) -> Outcome {
    for round in 0..rounds_wanted() {
        storm.protect(VA + round % 16 * PAGE, PAGE, Prot::READ)?;
        if round % 8 == 0 {
            storm.walk();
        }
        if round % 128 == 0 {
            storm.dump();
        }
        storm.protect(VA, BLOCK, RW)?;
        grace().quiescent(cpu_index());
    }
    Ok(())
}
