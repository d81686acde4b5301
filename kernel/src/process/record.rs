//! The record of a process.

use alloc::sync::Arc;
use alloc::vec::Vec;

use frame::slab::{Cache, Ref, SlabBox};
use sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use sync::{Queue, SpinGuard, SpinLock, rank};

use super::end::End;
use super::signals::{self, Dispositions};
use crate::arch::activate::RootActivation;
use crate::errno::Errno;
use crate::handle::{self, HandleTable};
use crate::memory::{self, Space};
use crate::sched::{self, wait};
use crate::thread::Thread;
use crate::work::{self, Work};

/// Threads that one process may have (`RLIMIT_NPROC`).
pub const THREADS_MAX: usize = 1024;
/// Parked or sleeping threads that one step wakes.
const BATCH: usize = 32;

static PROCESSES: Cache<Process> = Cache::new("process");

type Parked = Queue<Ref<Thread>>;

/// One process.
pub struct Process {
    pid: AtomicU32,
    space: Arc<Space>,
    handles: SlabBox<SpinLock<HandleTable, rank::Leaf>>,
    threads: SpinLock<Vec<Ref<Thread>>, rank::Endpoint>,
    parked: SpinLock<Parked, rank::Endpoint>,
    /// Thread records that exist, those not in `threads` any more included.
    records: AtomicU32,
    dying: AtomicBool,
    end: SpinLock<Option<End>, rank::Leaf>,
    last_status: AtomicU32,
    runtime: AtomicU64,
    dispositions: Ref<Dispositions>,
    /// Signals sent to the process while every thread had them blocked.
    pub pending: AtomicU64,
}

/// Prepares the caches that processes come from, once, at boot.
pub fn init() {
    PROCESSES.init(memory::frames());
    signals::init();
    handle::init(memory::frames());
}

impl Process {
    /// A process with an empty space, the console in its first slots and no thread.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Ref<Self>, Errno> {
        let process = Self {
            pid: AtomicU32::new(0),
            space: Space::new(memory::context())?,
            handles: handle::table().map_err(|_| Errno::ENOMEM)?,
            threads: SpinLock::new(Vec::new()),
            parked: SpinLock::new(Queue::new()),
            records: AtomicU32::new(0),
            dying: AtomicBool::new(false),
            end: SpinLock::new(None),
            last_status: AtomicU32::new(0),
            runtime: AtomicU64::new(0),
            dispositions: signals::dispositions()?,
            pending: AtomicU64::new(0),
        };
        PROCESSES.alloc_ref(process).map_err(|_| Errno::ENOMEM)
    }

    /// Its number, that of its first thread.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Its address space.
    #[inline]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Its space as the MMU takes it.
    #[inline]
    pub fn space_activation(&self) -> RootActivation<'_> {
        RootActivation::new(self.space.root_word(), self.space.asid_cell())
    }

    /// Its descriptors. A leaf: nothing is locked meanwhile.
    pub fn handles(&self) -> SpinGuard<'_, HandleTable, rank::Leaf> {
        self.handles.lock()
    }

    /// Threads that wait for its map.
    pub fn parked(&self) -> SpinGuard<'_, Parked, rank::Endpoint> {
        self.parked.lock()
    }

    /// Signal dispositions.
    pub fn dispositions(&self) -> &Dispositions {
        &self.dispositions
    }

    /// Whether it is ending: its threads do not return to EL0.
    #[inline]
    pub fn is_dying(&self) -> bool {
        self.dying.load(Ordering::Relaxed)
    }

    /// Ticks that its threads have run, up to their last switch.
    pub fn runtime(&self) -> u64 {
        self.runtime.load(Ordering::Relaxed)
    }

    /// A thread has run for `ticks`.
    pub fn add_runtime(&self, ticks: u64) {
        self.runtime.fetch_add(ticks, Ordering::Relaxed);
    }

    /// A thread record has come (+1) or gone (-1).
    pub fn count_thread(&self, change: i32) {
        self.records.fetch_add(change as u32, Ordering::AcqRel);
    }

    /// Whether no thread record is left: only then nobody but its last owner knows the process.
    pub fn is_deserted(&self) -> bool {
        self.records.load(Ordering::Acquire) == 0
    }

    /// Number of its threads.
    pub fn thread_count(&self) -> usize {
        self.threads.lock().len()
    }

    /// Whether `holds` is true of every thread.
    pub fn all_threads(&self, holds: &dyn Fn(&Thread) -> bool) -> bool {
        self.threads.lock().iter().all(|thread| holds(thread))
    }

    /// Takes a new thread in. The first one gives the process its number.
    ///
    /// # Errors
    /// `EAGAIN`: too many threads, no memory for the list, or the process is ending.
    pub fn add_thread(&self, thread: &Ref<Thread>) -> Result<(), Errno> {
        let mut threads = self.threads.lock();
        let full = threads.len() >= THREADS_MAX || threads.try_reserve(1).is_err();
        if full || self.is_dying() {
            return Err(Errno::EAGAIN);
        }
        threads.push(thread.clone());
        let _first =
            self.pid
                .compare_exchange(0, thread.tid(), Ordering::Relaxed, Ordering::Relaxed);
        Ok(())
    }

    /// The thread with this number.
    pub fn thread(&self, tid: u32) -> Option<Ref<Thread>> {
        self.threads
            .lock()
            .iter()
            .find(|thread| thread.tid() == tid)
            .cloned()
    }

    /// Takes out a thread that has left its CPU for good; the last one takes the process with it.
    pub fn remove_thread(&self, thread: &Ref<Thread>) {
        let mut threads = self.threads.lock();
        let at = threads.iter().position(|other| Ref::ptr_eq(other, thread));
        let removed = at.map(|at| threads.swap_remove(at));
        let last = threads.is_empty();
        drop(threads);
        if removed.is_some() && last {
            let status = self.last_status.load(Ordering::Relaxed);
            self.end.lock().get_or_insert(End::Exited(status));
            self.dying.store(true, Ordering::SeqCst);
            work::add(Work::end_of(thread.process().clone()));
        }
        drop(removed);
    }

    /// Remembers what a thread's own exit said: if all threads end one by one, the last one's is
    /// the status of the process (as on Linux since 5.17).
    pub fn set_last_status(&self, status: u32) {
        self.last_status.store(status, Ordering::Relaxed);
    }

    /// How it ended.
    pub fn end(&self) -> Option<End> {
        *self.end.lock()
    }

    /// Ends the process: the first reason counts. Threads that run on other CPUs are interrupted,
    /// parked ones are woken to die, the current one dies on its way out of the kernel.
    pub fn finish(process: &Ref<Self>, end: End) {
        process.end.lock().get_or_insert(end);
        if process.dying.swap(true, Ordering::SeqCst) {
            return;
        }
        // Pairs with the barrier in `ParkWord::begin`.
        fence(Ordering::SeqCst);
        sched::this().attend();
        sched::interrupt_others();
        let count = process.thread_count();
        if count > 1 {
            work::add(Work::wake_to_die(process.clone(), count));
        }
    }

    /// Wakes some parked threads of an ending process: those in the list before `end`, from the
    /// back, so that threads that leave meanwhile make none be missed. Returns where to go on.
    pub fn wake_to_die(&self, end: usize) -> usize {
        let mut at = end;
        for _ in 0..BATCH {
            let threads = self.threads.lock();
            at = at.min(threads.len());
            let Some(next) = at.checked_sub(1) else {
                return 0;
            };
            at = next;
            let sleeper = Some(&threads[at])
                .filter(|thread| thread.park().claim_any())
                .cloned();
            drop(threads);
            if let Some(thread) = sleeper {
                wait::finish(thread);
            }
        }
        at
    }

    /// Wakes the threads that wait for the map, some now and the rest as a work item.
    pub fn wake_parked(process: &Ref<Self>) {
        if process.wake_some_parked() {
            work::add(Work::WakeParked(process.clone()));
        }
    }

    /// Wakes a batch of them; whether there are more.
    pub fn wake_some_parked(&self) -> bool {
        for _ in 0..BATCH {
            // Claimed under the lock: as long as it is queued, its sleep is the one that it queued
            // for. One that somebody else has claimed is on its way out of the queue.
            let next = self
                .parked
                .lock()
                .remove_first(|thread| thread.park().claim_any());
            let Some(thread) = next else { return false };
            wait::finish_dequeued(thread);
        }
        true
    }
}

impl core::fmt::Debug for Process {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Process({})", self.pid())
    }
}
