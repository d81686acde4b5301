//! What the scheduler knows about a thread.

use frame::slab::Ref;
use ipc::ready::{Priority, Runnable};
use sync::atomic::{AtomicU8, AtomicU64, Ordering};
use sync::{MAX_CPUS, cpu_index};

use super::{cpu, interrupt_others, make_runnable, this};
use crate::thread::Thread;

/// In no queue.
const NO_QUEUE: u8 = MAX_CPUS as u8;

/// In the byte of a policy: new threads do not inherit it.
const RESETS: u8 = 1 << 7;

/// The scheduler's part of a thread's record.
pub struct Entity {
    /// CPUs that it may run on, one bit each.
    cpus: AtomicU64,
    last_cpu: AtomicU8,
    priority: AtomicU8,
    /// The CPU in whose queue of ready threads it is; written under the lock of that queue.
    queue: AtomicU8,
    /// Linux's policy as it was set, and [`RESETS`].
    policy: AtomicU8,
    /// Linux's nice value, as a signed byte.
    nice: AtomicU8,
}

impl Entity {
    /// Of a thread that is ordinary and may run anywhere.
    pub fn new() -> Self {
        Self {
            cpus: AtomicU64::new(u64::MAX),
            last_cpu: AtomicU8::new(cpu_index() as u8),
            priority: AtomicU8::new(Priority::default() as u8),
            queue: AtomicU8::new(NO_QUEUE),
            policy: AtomicU8::new(0),
            nice: AtomicU8::new(0),
        }
    }

    /// A new thread has what its maker has, unless that is not to be passed on.
    pub fn inherit(&self, from: &Self) {
        let cpus = from.cpus.load(Ordering::Relaxed);
        self.cpus.store(cpus, Ordering::Relaxed);
        let (policy, resets) = from.policy();
        if resets {
            self.set_nice(from.nice().max(0));
            return;
        }
        self.set_policy(policy, false);
        self.set_nice(from.nice());
        let priority = from.priority.load(Ordering::Relaxed);
        self.priority.store(priority, Ordering::Relaxed);
    }

    /// Linux's policy, and whether new threads go back to the usual one.
    pub fn policy(&self) -> (u32, bool) {
        let policy = self.policy.load(Ordering::Relaxed);
        ((policy & !RESETS).into(), policy & RESETS != 0)
    }

    /// Remembers a policy; the priority that it stands for is [`set_priority`]'s.
    pub fn set_policy(&self, policy: u32, resets: bool) {
        let flag = if resets { RESETS } else { 0 };
        self.policy.store(policy as u8 | flag, Ordering::Relaxed);
    }

    /// Linux's nice value.
    pub fn nice(&self) -> i32 {
        (self.nice.load(Ordering::Relaxed) as i8).into()
    }

    /// Remembers a nice value. Threads of one priority stay equal.
    pub fn set_nice(&self, nice: i32) {
        self.nice.store(nice as i8 as u8, Ordering::Relaxed);
    }

    /// The CPU that it ran on last.
    pub fn last_cpu(&self) -> usize {
        self.last_cpu.load(Ordering::Relaxed).into()
    }

    /// It begins to run on `cpu`.
    pub(super) fn runs_on(&self, cpu: usize) {
        self.last_cpu.store(cpu as u8, Ordering::Relaxed);
    }
}

impl Default for Entity {
    fn default() -> Self {
        Self::new()
    }
}

impl Runnable for Thread {
    #[inline]
    fn priority(&self) -> Priority {
        let number = self.entity().priority.load(Ordering::Relaxed);
        Priority::from_number(number.into()).unwrap_or_default()
    }

    #[inline]
    fn cpus(&self) -> u64 {
        self.entity().cpus.load(Ordering::Relaxed)
    }

    #[inline]
    fn set_queue(&self, cpu: Option<usize>) {
        let queue = cpu.map_or(NO_QUEUE, |cpu| cpu as u8);
        self.entity().queue.store(queue, Ordering::Relaxed);
    }
}

/// Changes the priority of a thread, wherever it is.
pub fn set_priority(thread: &Ref<Thread>, priority: Priority) {
    let old = thread
        .entity()
        .priority
        .swap(priority as u8, Ordering::Relaxed);
    if old != priority as u8 {
        look_again(thread);
    }
}

/// Changes the CPUs that a thread may run on. One that runs where it may not moves at once.
pub fn set_cpus(thread: &Ref<Thread>, cpus: u64) {
    let old = thread.entity().cpus.swap(cpus, Ordering::Relaxed);
    if old != cpus {
        look_again(thread);
    }
}

/// What decides where a thread runs has changed. One that waits for a CPU is queued anew. One that
/// runs is looked at on the way out of the kernel; one that is on its way from one to the other may
/// be either, so all CPUs take the long way.
fn look_again(thread: &Ref<Thread>) {
    let queue = usize::from(thread.entity().queue.load(Ordering::Relaxed));
    if queue < MAX_CPUS
        && let Some(thread) = cpu::of(queue).ready.remove(thread)
    {
        return make_runnable(thread);
    }
    this().attend();
    interrupt_others();
}
