//! The cost report of a program, as one JSON object.
//!
//! Hand-formatted: keys are fixed words and values are numbers or fixed words, so nothing has to
//! be escaped.

use core::fmt::{self, Write};

use arm64::geometry::Level;
use sync::atomic::{AtomicU32, AtomicU64, Ordering};

use mm::Counters;
use pgtable::Machine;

use crate::arch::{self, table_window, time};
use crate::process::Process;
use crate::sched::{calls, cpu, stay};
use crate::thread::footprint;
use crate::{memory, trace};

/// Counts of CPUs are never reset: a program's are the difference to those at its start.
#[derive(Clone, Copy, Debug, Default)]
struct Cpus {
    calls: u64,
    switches: u64,
    ticks: u64,
    steals: u64,
    turns: u32,
}

fn cpus() -> Cpus {
    cpu::all().fold(Cpus::default(), |sum, cpu| {
        let one = &cpu.counters;
        Cpus {
            calls: sum.calls + one.calls.load(Ordering::Relaxed),
            switches: sum.switches + one.switches.load(Ordering::Relaxed),
            ticks: sum.ticks + one.ticks.load(Ordering::Relaxed),
            steals: sum.steals + one.steals.load(Ordering::Relaxed),
            turns: sum.turns.wrapping_add(cpu.turns.get()),
        }
    })
}

static CALLS: AtomicU64 = AtomicU64::new(0);
static SWITCHES: AtomicU64 = AtomicU64::new(0);
static TICKS: AtomicU64 = AtomicU64::new(0);
static STEALS: AtomicU64 = AtomicU64::new(0);
static TURNS: AtomicU32 = AtomicU32::new(0);
static WINDOWS: AtomicU64 = AtomicU64::new(0);
/// Tables of earlier programs by level, made and freed.
static TABLES: [(AtomicU64, AtomicU64); 5] = [const { (AtomicU64::new(0), AtomicU64::new(0)) }; 5];
/// Free frames before the program was loaded.
static FREE_BEFORE: AtomicU64 = AtomicU64::new(0);
/// Instructions when the program was about to execute its first.
static STARTED: AtomicU64 = AtomicU64::new(0);
/// Instructions from reset to the first one at EL0.
static FIRST: AtomicU64 = AtomicU64::new(0);

/// Takes the state before a program is loaded as the one to compare with.
pub fn begin() {
    let now = cpus();
    CALLS.store(now.calls, Ordering::Relaxed);
    SWITCHES.store(now.switches, Ordering::Relaxed);
    TICKS.store(now.ticks, Ordering::Relaxed);
    STEALS.store(now.steals, Ordering::Relaxed);
    TURNS.store(now.turns, Ordering::Relaxed);
    WINDOWS.store(table_window::opened(), Ordering::Relaxed);
    cpu::all().for_each(|cpu| cpu.stay.reset());
    footprint::reset();
    trace::begin();
    calls::reset();
    for (level, place) in Level::ALL.into_iter().zip(&TABLES) {
        let (made, freed) = user_tables(level);
        place.0.store(made, Ordering::Relaxed);
        place.1.store(freed, Ordering::Relaxed);
    }
    FREE_BEFORE.store(free_frames(), Ordering::Relaxed);
}

/// The program is about to run. True for the first one since reset.
pub fn started() -> bool {
    let now = time::instructions();
    STARTED.store(now, Ordering::Relaxed);
    FIRST
        .compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed)
        .is_ok()
}

/// Instructions from reset to the first one at EL0.
pub fn first_el0() -> u64 {
    FIRST.load(Ordering::Relaxed)
}

/// Frames that nobody uses now: free ones, those in per-CPU lists included, and those set aside
/// for tables.
pub fn free_frames() -> u64 {
    arch::mmu::frames().stats().unused()
}

/// Free frames before the program was loaded.
pub fn free_before() -> u64 {
    FREE_BEFORE.load(Ordering::Relaxed)
}

/// `frames` were added while the program ran; it did not free them.
pub fn note_added(frames: u64) {
    FREE_BEFORE.fetch_add(frames, Ordering::Relaxed);
}

/// Writes the report of a process that is alive or ending, without the closing brace's part on
/// what it left behind.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, process: &Process) -> fmt::Result {
    write_open(out, process)?;
    write_tables(out)?;
    write_all_spaces(out, Some(process))?;
    write!(
        out,
        ",\"frames\":{{\"before\":{},\"now\":{}}}}}",
        free_before(),
        free_frames()
    )
}

/// The same, with the object left open.
///
/// # Errors
/// Those of `out`.
pub fn write_open(out: &mut dyn Write, process: &Process) -> fmt::Result {
    let space = process.space();
    write!(out, "{{\"first_el0_instruction\":{}", first_el0())?;
    match stay::is_measured() {
        true => {
            let run = time::instructions().saturating_sub(STARTED.load(Ordering::Relaxed));
            write!(out, ",\"instructions\":{run}")?;
        }
        // Each CPU's counter runs for itself then: a difference means nothing.
        false => write!(out, ",\"instructions\":null")?,
    }
    write!(out, ",\"memory\":{{")?;
    let mut separator = "";
    let mut failed = Ok(());
    let mut counter = |name, value| {
        if failed.is_ok() {
            failed = write!(out, "{separator}\"{name}\":{value}");
        }
        separator = ",";
    };
    space.counters().each(&mut counter);
    counter("faults_4k", space.counters().faults_4k());
    space.table_stats().events().each(&mut counter);
    failed?;
    write!(out, "}}")?;
    match space.first_fault() {
        Some(fault) => write!(out, ",\"first_fault_instructions\":{}", fault.cost)?,
        None => write!(out, ",\"first_fault_instructions\":null")?,
    }
    events(out)?;
    let (peak, each) = footprint::peak();
    write!(
        out,
        ",\"threads\":{{\"peak\":{peak},\"kernel_bytes_each\":{each}}}"
    )?;
    longest_stay(out)
}

/// Tables of programs at `level`, made and freed since reset: all but the kernel's own.
fn user_tables(level: Level) -> (u64, u64) {
    let (all, kernel) = (
        arch::mmu::hw().stats().at(level),
        memory::init_mm().stats().at(level),
    );
    (all.made - kernel.made, all.freed - kernel.freed)
}

/// Writes the tables of the program by level. Freed are those whose destructor has run, after
/// their grace period: at the end of a program, when it has settled, that is all of them.
///
/// # Errors
/// Those of `out`.
pub fn write_tables(out: &mut dyn Write) -> fmt::Result {
    write!(out, ",\"tables\":{{")?;
    let mut separator = "";
    for (level, before) in Level::ALL.into_iter().zip(&TABLES) {
        let (made, freed) = user_tables(level);
        let made = made - before.0.load(Ordering::Relaxed);
        let freed = freed - before.1.load(Ordering::Relaxed);
        if made != 0 {
            let number = level.number();
            write!(
                out,
                "{separator}\"level_{number}\":{{\"made\":{made},\"freed\":{freed},\"live\":{}}}",
                made - freed
            )?;
            separator = ",";
        }
    }
    write!(out, "}}")
}

/// Writes the counters of all spaces since reset: those that have ended, and the living one.
///
/// # Errors
/// Those of `out`.
pub fn write_all_spaces(out: &mut dyn Write, living: Option<&Process>) -> fmt::Result {
    let (ended, counters) = memory::context().ended();
    let all = Counters::default();
    all.absorb(counters);
    let living = living.map(Process::space);
    if let Some(space) = living {
        all.absorb(space.counters());
    }
    let spaces = ended + u64::from(living.is_some());
    write!(out, ",\"all_spaces\":{{\"spaces\":{spaces}")?;
    let mut failed = Ok(());
    let mut counter = |name, value| {
        if failed.is_ok() {
            failed = write!(out, ",\"{name}\":{value}");
        }
    };
    all.each(&mut counter);
    counter("faults_4k", all.faults_4k());
    let living = living.map(|space| space.table_stats().events());
    let ended = arch::mmu::hw().stats().events();
    ended.each_with(living, &mut counter);
    failed?;
    write!(out, "}}")?;
    let objects = memory::context().objects();
    let (dropped, written_back) = (objects.pages_dropped(), objects.pages_written_back());
    write!(out, ",\"pagers\":{{\"pages_dropped\":{dropped}")?;
    write!(out, ",\"pages_written_back\":{written_back}}}")?;
    write_tag_storage(out)
}

/// What tag storage holds, and what it has come to since the machine started (TAG-19).
fn write_tag_storage(out: &mut dyn Write) -> fmt::Result {
    let (now, events) = (
        arch::mmu::frames().tag_stats(),
        memory::context().tag_events(),
    );
    let figures = [
        ("frames", now.frames),
        ("data", now.data),
        ("tags", now.tags),
        ("blocks", now.blocks),
        ("blocks_peak", now.blocks_peak),
        ("reserved", now.reserved),
        ("busy", now.busy),
        ("replays", events.replays.get()),
        ("pages_dropped", events.pages_dropped.get()),
        ("pages_moved", events.pages_moved.get()),
        ("pages_relocated", events.pages_relocated.get()),
        ("refused", events.refused.get()),
        ("unbacked", events.unbacked.get()),
        ("failed", events.failed.get()),
    ];
    write!(out, ",\"tag_storage\":{{")?;
    for (name, value) in figures {
        write!(out, "\"{name}\":{value},")?;
    }
    let (replays, times) = (&events.replays_per_fault, &events.time_to_resolve);
    write!(out, "\"replays_per_fault\":{:?}", replays.bins())?;
    write!(out, ",\"time_to_resolve\":{:?}}}", times.bins())
}

fn events(out: &mut dyn Write) -> fmt::Result {
    let now = cpus();
    let since = |now: u64, then: &AtomicU64| now - then.load(Ordering::Relaxed);
    write!(out, ",\"system_calls\":{}", since(now.calls, &CALLS))?;
    write!(out, ",\"unknown_calls\":{}", calls::total())?;
    write!(
        out,
        ",\"context_switches\":{}",
        since(now.switches, &SWITCHES)
    )?;
    write!(out, ",\"ticks\":{}", since(now.ticks, &TICKS))?;
    write!(out, ",\"steals\":{}", since(now.steals, &STEALS))?;
    let turns = now.turns.wrapping_sub(TURNS.load(Ordering::Relaxed));
    write!(out, ",\"direct_switches\":{turns}")?;
    let windows = table_window::opened();
    write!(out, ",\"table_windows\":{}", since(windows, &WINDOWS))
}

/// `null` when nothing was measured.
fn longest_stay(out: &mut dyn Write) -> fmt::Result {
    let longest = cpu::all()
        .map(|cpu| cpu.stay.longest())
        .max_by_key(|(length, _)| *length);
    match longest.filter(|_| stay::is_measured()) {
        Some((length, what)) => {
            write!(
                out,
                ",\"longest_stay\":{{\"instructions\":{length},\"in\":\"{what}\"}}"
            )
        }
        None => write!(out, ",\"longest_stay\":null"),
    }
}
