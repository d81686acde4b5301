//! Threads that wait for a CPU: a queue for each CPU, by priority, and who takes what from where.
//!
//! The rule is strict: no CPU runs a thread while one of a higher priority, which may run there,
//! waits. Each CPU *announces* what it runs. Who makes a thread runnable looks at that, puts it on
//! a queue, and calls that queue's CPU; a CPU that has threads waiting looks before it returns to
//! its own ([`spread`]) whether another one runs less, and hands it over; a CPU that chooses
//! ([`next`]) announces first, then looks whether others have something better. With a full
//! barrier between the two on either side, one of them sees the other.
//!
//! Among equals, the first in the queue is next. A thread that is put back stands behind them.

use core::ops::Deref;

use sync::atomic::{AtomicU32, Ordering, fence};
use sync::planted::{Fault, is};
use sync::{Linked, Queue, SpinLock, rank};

/// How many priorities there are.
pub const PRIORITIES: usize = 4;

/// Which of two threads runs, if only one can. The lower one waits for as long as the higher one
/// wants to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Priority {
    /// Runs where nothing else wants to.
    Background = 0,
    /// Programs.
    #[default]
    Ordinary = 1,
    /// Who others wait for: pagers, servers.
    Server = 2,
    /// Above all.
    Highest = 3,
}

impl Priority {
    /// The priority of that number, from 0, lowest first.
    pub const fn from_number(number: usize) -> Option<Self> {
        Some(match number {
            0 => Self::Background,
            1 => Self::Ordinary,
            2 => Self::Server,
            3 => Self::Highest,
            _ => return None,
        })
    }
}

/// A thread, as far as its way to a CPU is concerned.
pub trait Runnable {
    /// How urgent it is.
    fn priority(&self) -> Priority;

    /// The CPUs that it may run on, one bit each.
    fn cpus(&self) -> u64;

    /// It is in the queue of this CPU from here on, or in none. Called with the queue locked.
    fn set_queue(&self, cpu: Option<usize>);

    /// Whether it may run on CPU `cpu`.
    #[inline]
    fn may_run_on(&self, cpu: usize) -> bool {
        is(Fault::IgnoreAffinity) || self.cpus() >> cpu & 1 == 1
    }
}

/// The threads that wait for one CPU, and what it runs.
pub struct ReadyQueue<H>
where
    H: Clone + Deref,
    H::Target: Linked<H>,
{
    queues: SpinLock<[Queue<H>; PRIORITIES], rank::RunQueue>,
    /// Which of them are not empty, one bit each: to look at without the lock.
    waiting: AtomicU32,
    /// The priority that the CPU runs, plus one; 0 for none.
    running: AtomicU32,
}

impl<H> ReadyQueue<H>
where
    H: Clone + Deref,
    H::Target: Linked<H>,
{
    sync::const_fn! {
        /// Nobody waits.
        pub const fn new() -> Self {
            Self {
                queues: SpinLock::new([Queue::new(), Queue::new(), Queue::new(), Queue::new()]),
                waiting: AtomicU32::new(0),
                running: AtomicU32::new(0),
            }
        }
    }

    /// The highest priority that waits.
    #[inline]
    pub fn best(&self) -> Option<Priority> {
        let waiting = self.waiting.load(Ordering::Relaxed);
        Priority::from_number(waiting.checked_ilog2()? as usize)
    }

    /// Whether nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// The priority that the CPU has announced.
    #[inline]
    pub fn running(&self) -> Option<Priority> {
        let running = self.running.load(Ordering::Relaxed) as usize;
        Priority::from_number(running.wrapping_sub(1))
    }

    /// Whether a thread of this priority may take the place of the one that runs with nobody noticing:
    /// the CPU has announced just that, and nobody better waits for it.
    #[inline]
    pub fn is_run(&self, priority: Priority) -> bool {
        let better = self.waiting.load(Ordering::Relaxed) >> number(Some(priority));
        self.running.load(Ordering::Relaxed) == number(Some(priority)) && better == 0
    }

    /// Says what the CPU runs.
    #[inline]
    pub fn announce(&self, priority: Option<Priority>) {
        self.running.store(number(priority), Ordering::Relaxed);
    }

    /// The CPU is being called to run at least this: what others see until it has answered.
    pub fn call_for(&self, priority: Priority) {
        self.running
            .fetch_max(number(Some(priority)), Ordering::Relaxed);
    }

    /// Tells those who look without the lock, which is held, whether any of `level` wait.
    #[inline]
    fn note(&self, level: usize, queue: &Queue<H>) {
        let bit = 1 << level;
        let others = self.waiting.load(Ordering::Relaxed) & !bit;
        let waiting = if queue.is_empty() { 0 } else { bit };
        self.waiting.store(others | waiting, Ordering::Relaxed);
    }
}

impl<H> ReadyQueue<H>
where
    H: Clone + Deref,
    H::Target: Linked<H> + Runnable,
{
    /// Puts a thread that is in no queue behind those of its priority. This is the queue of `cpu`.
    pub fn push(&self, cpu: usize, thread: H) {
        let level = match is(Fault::QueueWithoutPriority) {
            true => Priority::Ordinary,
            false => thread.priority(),
        };
        let mut queues = self.queues.lock();
        thread.set_queue(Some(cpu));
        let queue = &mut queues[level as usize];
        let pushed = queue.push(thread);
        debug_assert!(pushed.is_ok(), "a queued thread was made runnable");
        self.note(level as usize, queue);
    }

    /// Takes the first thread of that priority.
    fn pop(&self, level: Priority) -> Option<H> {
        let mut queues = self.queues.lock();
        let queue = &mut queues[level as usize];
        let thread = queue.pop()?;
        thread.set_queue(None);
        self.note(level as usize, queue);
        Some(thread)
    }

    /// Takes the first thread of that priority that may run on `cpu`.
    fn take(&self, level: Priority, cpu: usize) -> Option<H> {
        if self.waiting.load(Ordering::Relaxed) >> level as u32 & 1 == 0 {
            return None;
        }
        let mut queues = self.queues.lock();
        let queue = &mut queues[level as usize];
        let thread = queue.remove_first(|thread| thread.may_run_on(cpu))?;
        thread.set_queue(None);
        self.note(level as usize, queue);
        Some(thread)
    }

    /// Takes `thread` out, if it is here: its priority or its CPUs have changed. Linear.
    pub fn remove(&self, thread: &H) -> Option<H> {
        let mut queues = self.queues.lock();
        for (level, queue) in queues.iter_mut().enumerate() {
            if let Some(found) = queue.remove(thread) {
                found.set_queue(None);
                self.note(level, queue);
                return Some(found);
            }
        }
        None
    }

    /// Whether somebody waits here who may run on `cpu`.
    fn has_for(&self, cpu: usize) -> bool {
        let has = |queue: &Queue<H>| {
            let mut found = false;
            queue.for_each(|thread| found |= thread.may_run_on(cpu));
            found
        };
        !self.is_empty() && self.queues.lock().iter().any(has)
    }
}

impl<H> Default for ReadyQueue<H>
where
    H: Clone + Deref,
    H::Target: Linked<H>,
{
    fn default() -> Self {
        Self::new()
    }
}

const fn number(priority: Option<Priority>) -> u32 {
    match priority {
        None => 0,
        Some(priority) => priority as u32 + 1,
    }
}

/// The CPUs of a machine, at most 64.
pub trait Cpus<H>
where
    H: Clone + Deref,
    H::Target: Linked<H>,
{
    /// Those that take part, one bit each.
    fn online(&self) -> u64;

    /// The queue of one of them.
    fn queue(&self, cpu: usize) -> &ReadyQueue<H>;
}

/// The CPUs of `mask`, without `me`, those that follow it first.
fn others(mask: u64, me: usize) -> impl Iterator<Item = usize> {
    let mut left = mask.rotate_right(me as u32) & !1;
    core::iter::from_fn(move || {
        let next = left.checked_ilog2().map(|_| left.trailing_zeros())?;
        left &= left - 1;
        Some((me + next as usize) % 64)
    })
}

/// What CPU `me` runs next, and whether it comes from another one's queue. Not in any queue any
/// more; it may have been there since before it was told to run elsewhere
/// ([`Runnable::may_run_on`]).
pub fn next<H>(cpus: &impl Cpus<H>, me: usize) -> Option<(H, bool)>
where
    H: Clone + Deref,
    H::Target: Linked<H> + Runnable,
{
    let mine = cpus.queue(me);
    loop {
        let own = mine.best();
        if !is(Fault::AnnounceLate) {
            mine.announce(own);
        }
        let online = cpus.online() & !(1 << me);
        if online != 0 {
            // Paired with the one in `spread`.
            fence(Ordering::SeqCst);
            if let Some(thread) = steal(cpus, me, online, own) {
                mine.announce(Some(thread.priority()));
                return Some((thread, true));
            }
        }
        mine.announce(own);
        let level = own?;
        if let Some(thread) = mine.pop(level) {
            return Some((thread, false));
        }
    }
}

/// Takes the best thread of other queues that is better than `own`.
fn steal<H>(cpus: &impl Cpus<H>, me: usize, online: u64, own: Option<Priority>) -> Option<H>
where
    H: Clone + Deref,
    H::Target: Linked<H> + Runnable,
{
    let lowest = number(own) as usize;
    let levels = (lowest..PRIORITIES).rev().filter_map(Priority::from_number);
    levels
        .flat_map(|level| others(online, me).map(move |cpu| (level, cpu)))
        .find_map(|(level, cpu)| cpus.queue(cpu).take(level, me))
}

/// Whether a queue has something for CPU `me`, which is about to idle.
pub fn has_any<H>(cpus: &impl Cpus<H>, me: usize) -> bool
where
    H: Clone + Deref,
    H::Target: Linked<H> + Runnable,
{
    !cpus.queue(me).is_empty() || others(cpus.online(), me).any(|cpu| cpus.queue(cpu).has_for(me))
}

/// The CPU whose queue a thread is to be put on, when none is idle; `last` is where it ran before.
/// A CPU that runs less, the last one if it does, is going to run it at once. Else CPU `me`, if the
/// thread may run there.
pub fn place<H>(cpus: &impl Cpus<H>, me: usize, thread: &H, last: usize) -> usize
where
    H: Clone + Deref,
    H::Target: Linked<H> + Runnable,
{
    if cpus.online() == 1 << me {
        return me;
    }
    let allowed = match thread.cpus() & cpus.online() {
        _ if is(Fault::IgnoreAffinity) => cpus.online(),
        // Told to run nowhere that takes part: not a reason to wait for ever.
        0 => cpus.online(),
        some => some,
    };
    let level = number(Some(thread.priority()));
    let running = |cpu: usize| cpus.queue(cpu).running.load(Ordering::Relaxed);
    let is_allowed = |cpu: usize| allowed >> cpu & 1 == 1;
    let chosen = match is_allowed(last) && running(last) < level {
        true => last,
        false => lowest(allowed, me, running),
    };
    if running(chosen) < level {
        cpus.queue(chosen).call_for(thread.priority());
        return chosen;
    }
    if is_allowed(me) { me } else { chosen }
}

/// The CPU of `allowed` that runs the least, `me` before others.
fn lowest(allowed: u64, me: usize, running: impl Fn(usize) -> u32) -> usize {
    let mine = (allowed >> me & 1 == 1).then_some(me);
    let all = mine.into_iter().chain(others(allowed, me));
    all.min_by_key(|&cpu| running(cpu)).unwrap_or(me)
}

/// Whether what waits for CPU `me`, which goes on with what it runs, is to be looked at by
/// [`spread`]: another CPU may have come to run less since it was asked.
#[inline]
pub fn is_to_spread<H>(cpus: &impl Cpus<H>, me: usize) -> bool
where
    H: Clone + Deref,
    H::Target: Linked<H> + Runnable,
{
    let online = cpus.online() & !(1 << me);
    if online == 0 {
        return false;
    }
    // Paired with the one in `next`.
    fence(Ordering::SeqCst);
    let best = number(cpus.queue(me).best());
    others(online, me).any(|cpu| cpus.queue(cpu).running.load(Ordering::Relaxed) < best)
}

/// Hands threads that wait for CPU `me`, which has chosen what to run, to CPUs that run less.
/// Returns those, to be called.
pub fn spread<H>(cpus: &impl Cpus<H>, me: usize) -> u64
where
    H: Clone + Deref,
    H::Target: Linked<H> + Runnable,
{
    let mine = cpus.queue(me);
    let online = cpus.online() & !(1 << me);
    if mine.is_empty() || online == 0 {
        return 0;
    }
    // Paired with the one in `next`.
    fence(Ordering::SeqCst);
    let mut called = 0;
    for cpu in others(online, me) {
        let Some(level) = mine.best() else { break };
        let other = cpus.queue(cpu);
        if other.running.load(Ordering::Relaxed) >= number(Some(level)) {
            continue;
        }
        if let Some(thread) = mine.take(level, cpu) {
            other.call_for(level);
            other.push(cpu, thread);
            called |= 1 << cpu;
        }
    }
    called
}

#[cfg(all(test, not(loom)))]
mod tests;
