//! The rings: one for each CPU, written by that CPU only, read by whoever reports.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::Write;

use mm::trace::{Categories, Event, Kind};
use sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sync::{MAX_CPUS, Once, Ring, cpu_index};

use super::record::{Readable, Record, WORDS, Wire};
use crate::arch::time;
use crate::syscall::native::info::Growing;
use crate::{control, memory};

/// Events on one control line.
const PER_LINE: usize = 24;
/// Events of each CPU in the report of a kernel bug.
const IN_BUG: u64 = 64;

type Slots = Box<[[AtomicU64; WORDS]]>;

static RINGS: Once<Vec<Ring<Slots, WORDS>>> = Once::new();
/// Records of each ring when the program began that is reported on next.
static BEGAN: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// The chosen categories, where the kernel's own events look.
static CHOSEN: AtomicU32 = AtomicU32::new(0);

/// Sets up rings of `events` each for `cpus` CPUs, if any category is chosen; once, at boot.
/// Returns the categories that can be traced: none without memory.
pub fn init(categories: Categories, cpus: usize, events: usize) -> Categories {
    if categories.is_empty() {
        return categories;
    }
    let Some(rings) = make(cpus, events) else {
        log::warn!("no memory to trace {events} events on each of {cpus} CPUs");
        return Categories::NONE;
    };
    RINGS.call_once(|| rings);
    CHOSEN.store(categories.bits(), Ordering::Relaxed);
    categories
}

fn make(cpus: usize, events: usize) -> Option<Vec<Ring<Slots, WORDS>>> {
    let mut rings = Vec::new();
    rings.try_reserve_exact(cpus).ok()?;
    for _ in 0..cpus {
        let mut slots = Vec::new();
        slots.try_reserve_exact(events).ok()?;
        slots.resize_with(events, || [const { AtomicU64::new(0) }; WORDS]);
        rings.push(Ring::new(slots.into_boxed_slice()));
    }
    Some(rings)
}

/// Keeps an event: the listener of all spaces.
pub fn keep(event: &Event) {
    if let Some(ring) = RINGS.get().and_then(|rings| rings.get(cpu_index())) {
        let (at, event) = (time::now(), *event);
        ring.push(Record { at, event }.words());
    }
}

/// Tells an event of the kernel's own, if its kind is wanted.
#[inline(always)]
pub fn tell(kind: Kind, event: impl FnOnce() -> Event) {
    if wants(kind.categories()) {
        keep_made(event);
    }
}

#[cold]
#[inline(never)]
fn keep_made(event: impl FnOnce() -> Event) {
    keep(&event());
}

/// Whether any of these categories is chosen.
#[inline(always)]
pub fn wants(categories: Categories) -> bool {
    CHOSEN.load(Ordering::Relaxed) & categories.bits() != 0
}

/// Changes the categories. False: there are no rings.
pub fn choose(categories: Categories) -> bool {
    if RINGS.get().is_none() {
        return false;
    }
    CHOSEN.store(categories.bits(), Ordering::Relaxed);
    memory::context().tracer().choose(categories);
    true
}

/// A program begins: what was told before is not reported with it.
pub fn begin() {
    for (ring, began) in RINGS.get().into_iter().flatten().zip(&BEGAN) {
        began.store(ring.written(), Ordering::Relaxed);
    }
}

/// Tells a machine what was kept since the program began: for each CPU its events in order, and how
/// many were lost because newer ones took their places. Its length is not bounded by law 16: it
/// is for people, like the prompt.
pub fn dump() {
    for (cpu, (ring, began)) in RINGS.get().into_iter().flatten().zip(&BEGAN).enumerate() {
        let (began, end) = (began.load(Ordering::Relaxed), ring.written());
        let mut kept = 0u64;
        let mut text = Growing::default();
        let flush = |text: &mut Growing| {
            if !text.0.is_empty() {
                control::line(format_args!("trace cpu={cpu} text={}", text.0.trim_end()));
                text.0.clear();
            }
        };
        for record in records(ring, began, end) {
            let ns = time::ticks_to_ns(record.at);
            if write!(text, "{} ", Wire(ns, record.event)).is_ok() {
                kept += 1;
            }
            if kept.is_multiple_of(PER_LINE as u64) {
                flush(&mut text);
            }
        }
        flush(&mut text);
        let lost = end - began - kept;
        control::line(format_args!("traced cpu={cpu} kept={kept} lost={lost}"));
    }
}

/// The same for the kernel-bug report, which may neither allocate nor take a lock: the newest
/// events of each CPU, one on a line.
pub fn dump_in_bug() {
    for (cpu, (ring, began)) in RINGS.get().into_iter().flatten().zip(&BEGAN).enumerate() {
        let (began, end) = (began.load(Ordering::Relaxed), ring.written());
        let mut kept = 0;
        for record in records(ring, began.max(end.saturating_sub(IN_BUG)), end) {
            let ns = time::ticks_to_ns(record.at);
            control::line_in_bug(format_args!(
                "trace cpu={cpu} text={}",
                Wire(ns, record.event)
            ));
            kept += 1;
        }
        let lost = end - began - kept;
        control::line_in_bug(format_args!("traced cpu={cpu} kept={kept} lost={lost}"));
    }
}

fn records<'a>(
    ring: &'a Ring<Slots, WORDS>,
    began: u64,
    end: u64,
) -> impl Iterator<Item = Record> + 'a {
    let first = began.max(end.saturating_sub(ring.capacity()));
    (first..end).filter_map(|number| Record::from_words(ring.get(number)?))
}

/// Writes the newest `count` events of all CPUs, oldest first.
///
/// # Errors
/// Those of `out`, and no memory.
pub fn write_newest(out: &mut dyn Write, count: usize) -> core::fmt::Result {
    let Some(rings) = RINGS.get() else {
        return writeln!(out, "nothing is traced (boot argument tessera.trace)");
    };
    let mut all = Vec::new();
    for (cpu, ring) in rings.iter().enumerate() {
        let end = ring.written();
        let newest = end.saturating_sub(count as u64);
        for record in records(ring, newest, end) {
            all.try_reserve(1).map_err(|_| core::fmt::Error)?;
            all.push((record.at, cpu, record.event));
        }
    }
    all.sort_unstable_by_key(|(at, cpu, _)| (*at, *cpu));
    let newest = all.len().saturating_sub(count);
    for (at, cpu, event) in all.drain(newest..) {
        writeln!(out, "{}", Readable(time::ticks_to_ns(at), cpu, event))?;
    }
    Ok(())
}
