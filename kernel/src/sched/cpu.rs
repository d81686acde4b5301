//! What the scheduler keeps for each CPU.

use frame::slab::Ref;
use ipc::park::Sleep;
use ipc::ready::ReadyQueue;
use sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sync::{MAX_CPUS, SpinLock, cpu_index, rank};

use super::stay::Stay;
use super::timers::Timers;
use crate::ipc::Endpoint;
use crate::thread::Thread;

/// A registered time-out.
#[derive(Debug)]
pub enum Timeout {
    /// It ends this sleep of this thread.
    Sleep(Sleep, Ref<Thread>),
    /// It is an endpoint's.
    Endpoint(Ref<Endpoint>),
}

/// Event counters of one CPU, written by that CPU only.
#[derive(Debug)]
pub struct CpuCounters {
    /// System calls.
    pub calls: AtomicU64,
    /// Threads put on the CPU in place of another.
    pub switches: AtomicU64,
    /// Timer interrupts.
    pub ticks: AtomicU64,
    /// Threads taken from other CPUs' queues.
    pub steals: AtomicU64,
}

/// How often a CPU has turned from one thread to another past the queues.
#[derive(Debug)]
pub struct Turns(AtomicU32);

impl Turns {
    /// So often, modulo 2^32: there is no room for more in the record of a CPU.
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn count(&self) {
        let turns = self.get().wrapping_add(1);
        self.0.store(turns, Ordering::Relaxed);
    }
}

/// One more on a counter that only this CPU writes.
#[inline]
pub fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// The scheduler's record of one CPU. Its size is a power of two, so that finding it on every entry
/// to the kernel takes one instruction.
#[repr(align(256))]
pub struct Cpu {
    attention: AtomicU32,
    /// The thread whose context is loaded or is to be loaded next.
    pub(super) current: SpinLock<Option<Ref<Thread>>, rank::Leaf>,
    /// Threads ready to run here.
    pub(super) ready: ReadyQueue<Ref<Thread>>,
    /// Time-outs of threads that parked here.
    pub(super) timers: SpinLock<Timers<Timeout>, rank::Leaf>,
    /// When the current thread has had its share, in ticks; 0 while nobody waits for the CPU.
    pub(super) slice_end: AtomicU64,
    /// When the oldest open grace period was first seen here, in ticks; 0 while none is open.
    pub(super) grace_seen: AtomicU64,
    /// Stays in the kernel.
    pub stay: Stay,
    /// Counters.
    pub counters: CpuCounters,
    /// Of the switches, those past the queues.
    pub turns: Turns,
}

impl Cpu {
    /// Bits of `attention`: there is something to do.
    const WORK: u32 = 1;
    /// The thread that came has left the CPU.
    const LEFT: u32 = 1 << 1;
    /// Tag check faults of the thread that is loaded may be reported late. Stays until another is.
    const TAGS: u32 = 1 << 2;

    const fn new() -> Self {
        Self {
            attention: AtomicU32::new(1),
            current: SpinLock::new(None),
            ready: ReadyQueue::new(),
            timers: SpinLock::new(Timers::new()),
            slice_end: AtomicU64::new(0),
            grace_seen: AtomicU64::new(0),
            stay: Stay::new(),
            counters: CpuCounters {
                calls: AtomicU64::new(0),
                switches: AtomicU64::new(0),
                ticks: AtomicU64::new(0),
                steals: AtomicU64::new(0),
            },
            turns: Turns(AtomicU32::new(0)),
        }
    }

    /// Asks for the long way out of the kernel: there is more to do than to return.
    #[inline]
    pub fn attend(&self) {
        self.want(Self::WORK);
    }

    /// The CPU has left its thread.
    pub(super) fn left(&self) {
        self.want(Self::LEFT);
    }

    fn want(&self, more: u32) {
        let before = self.attention.load(Ordering::Relaxed);
        self.attention.store(before | more, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn needs_attention(&self) -> bool {
        self.attention.load(Ordering::Relaxed) != 0
    }

    /// Whether there is something to do even if no thread is loaded.
    #[inline]
    pub(super) fn has_work(&self) -> bool {
        self.attention.load(Ordering::Relaxed) & !Self::TAGS != 0
    }

    /// Whether nothing has happened but that a thread has left the CPU.
    pub(super) fn only_left(&self) -> bool {
        self.attention.load(Ordering::Relaxed) & !Self::TAGS == Self::LEFT
    }

    pub(super) fn attended(&self) {
        let tags = self.attention.load(Ordering::Relaxed) & Self::TAGS;
        self.attention.store(tags, Ordering::Relaxed);
    }

    /// Whether tag check faults of the thread that is loaded may be reported late: each way out looks
    /// then, and each call on its way in.
    #[inline(always)]
    pub fn watches_tags(&self) -> bool {
        self.attention.load(Ordering::Relaxed) & Self::TAGS != 0
    }

    /// Says so.
    pub fn watch_tags(&self, watch: bool) {
        let others = self.attention.load(Ordering::Relaxed) & !Self::TAGS;
        let tags = if watch { Self::TAGS } else { 0 };
        self.attention.store(others | tags, Ordering::Relaxed);
    }

    /// How many time-outs there is room for.
    pub fn timers_room(&self) -> usize {
        self.timers.lock().room()
    }

    /// The current thread, for longer than a lock may be held.
    pub fn current(&self) -> Option<Ref<Thread>> {
        self.current.lock().clone()
    }
}

const _: () = assert!(size_of::<Cpu>() == 256 && MAX_CPUS.is_power_of_two());

static CPUS: [Cpu; MAX_CPUS] = [const { Cpu::new() }; MAX_CPUS];

/// This CPU's record.
#[inline]
pub fn this() -> &'static Cpu {
    // The mask changes nothing and lets the compiler leave out the bounds check.
    &CPUS[cpu_index() % MAX_CPUS]
}

/// The record of CPU `index`.
pub(super) fn of(index: usize) -> &'static Cpu {
    &CPUS[index]
}

/// The records of all CPUs that there can be.
pub fn all() -> impl Iterator<Item = &'static Cpu> {
    CPUS.iter()
}
