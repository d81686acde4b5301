//! What threads cost the kernel in memory.

use frame::slab::{Cache, Ref};
use sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{THREADS, Thread};
use crate::sched::cpu::{self, Timeout};
use crate::sched::timers::Entry;

/// Most bytes that a thread may cost, its share of slabs and lists included.
const LIMIT: usize = 1536;
/// Its place in the list of its process, which has room for up to twice as many.
const LISTED: usize = 2 * size_of::<Ref<Thread>>();
/// A time-out, among which there is room for a quarter more.
const TIMED: usize = size_of::<Entry<Timeout>>() * 5 / 4;

const _: () = assert!(Cache::<Thread>::BYTES_EACH + LISTED + TIMED <= LIMIT);

/// Records that exist.
static LIVE: AtomicU32 = AtomicU32::new(0);
/// Most of them at a time, and all that they cost then.
static PEAK: AtomicU32 = AtomicU32::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// Another program begins: earlier ones' threads do not count.
pub fn reset() {
    PEAK.store(LIVE.load(Ordering::Relaxed), Ordering::Relaxed);
    BYTES.store(total(), Ordering::Relaxed);
}

/// A record is about to come.
pub(super) fn comes() {
    LIVE.fetch_add(1, Ordering::Relaxed);
}

/// The record is there: looks what all of them cost, if there have never been more.
pub(super) fn came() {
    let live = LIVE.load(Ordering::Relaxed);
    if live > PEAK.fetch_max(live, Ordering::Relaxed) {
        BYTES.store(total(), Ordering::Relaxed);
    }
}

/// A record is gone.
pub(super) fn went() {
    LIVE.fetch_sub(1, Ordering::Relaxed);
}

/// Bytes of all threads now: whole blocks of slabs, and the room for time-outs.
fn total() -> u64 {
    let slabs = THREADS.stats().pages * arm64::addr::PAGE_SIZE;
    let timers = cpu::all().map(|cpu| cpu.timers_room() * size_of::<Entry<Timeout>>());
    let listed = LIVE.load(Ordering::Relaxed) as usize * LISTED;
    slabs + (timers.sum::<usize>() + listed) as u64
}

/// Most threads at a time, and the bytes that each of them cost then.
pub fn peak() -> (u64, u64) {
    let peak = u64::from(PEAK.load(Ordering::Relaxed));
    (peak, BYTES.load(Ordering::Relaxed) / peak.max(1))
}
