//! Work that outlives a stay in the kernel: bounded state machines run on the way out and while idle
//! (D3).
//!
//! What has something to do, a process that ends or an endpoint that is closed, stands in a queue by
//! itself, so nothing is allocated and there is always room. Any CPU takes it out, does one bounded
//! step with nothing locked, and puts it back if it is not finished.

use frame::slab::Ref;
use sync::atomic::{AtomicUsize, Ordering};
use sync::{Linked, Queue, SpinLock, rank};

use crate::arch::mmu::hw;
use crate::ipc::Endpoint;
use crate::memory;
use crate::process::Process;
use crate::report::ending::settling;
use crate::sched::cpu::Cpu;

/// Steps that one way out does.
const STEPS: usize = 8;
/// Tables that one pass destructs.
const REAP: usize = 8;
/// Pages of objects that have ended that one run frees.
const REAP_PAGES: u32 = 64;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// It can go on at once.
    More,
    /// It waits for time to pass or for another CPU.
    Later,
    /// It is finished.
    Done,
}

/// Things that have something to do.
struct Waiting<T: Linked<Ref<T>> + 'static> {
    queue: SpinLock<Queue<Ref<T>>, rank::Leaf>,
    /// Its length, to look at without the lock.
    count: AtomicUsize,
}

impl<T: Linked<Ref<T>> + 'static> Waiting<T> {
    const fn new() -> Self {
        Self {
            queue: SpinLock::new(Queue::new()),
            count: AtomicUsize::new(0),
        }
    }

    /// What is in the queue already is not put in twice.
    fn add(&self, item: Ref<T>) {
        let mut queue = self.queue.lock();
        let again = queue.push(item.clone());
        self.count.store(queue.len(), Ordering::Relaxed);
        drop(queue);
        drop((again, item));
    }

    fn take(&self) -> Option<Ref<T>> {
        if self.is_empty() {
            return None;
        }
        let mut queue = self.queue.lock();
        let item = queue.pop();
        self.count.store(queue.len(), Ordering::Relaxed);
        item
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    fn run(&self, cpu: &Cpu, step: impl Fn(&Ref<T>) -> Progress) {
        for _ in 0..STEPS.min(self.count.load(Ordering::Relaxed)) {
            let Some(item) = self.take() else { return };
            match step(&item) {
                Progress::Done => {}
                Progress::More => {
                    cpu.attend();
                    self.add(item);
                }
                // The timer comes back to it.
                Progress::Later => self.add(item),
            }
        }
    }
}

static PROCESSES: Waiting<Process> = Waiting::new();
static ENDPOINTS: Waiting<Endpoint> = Waiting::new();

/// `process` has something to do: see [`Process::work`].
pub fn add(process: Ref<Process>) {
    PROCESSES.add(process);
    crate::sched::this().attend();
}

/// Tells those who wait at `endpoint` that nobody receives any more.
pub fn close(endpoint: Ref<Endpoint>) {
    ENDPOINTS.add(endpoint);
    crate::sched::this().attend();
}

/// Whether there is work, tables wait for their grace period or objects for their end, so that a timer
/// has to stay armed.
pub fn is_pending() -> bool {
    !PROCESSES.is_empty()
        || !ENDPOINTS.is_empty()
        || settling::is_pending()
        || !memory::graveyard().is_empty()
        || !memory::context().objects().is_reaped()
}

/// Has what is pending attended to before EL0 is entered: something has left work behind, tables or
/// an object, and nothing else would.
#[inline(always)]
pub fn attend_to_pending() {
    if is_pending() {
        crate::sched::this().attend();
    }
}

/// Does some steps of what there is to do, and frees tables whose grace period is over and pages of
/// objects that have ended.
pub fn run(cpu: &'static Cpu) {
    memory::frames().answer_drain();
    if !memory::graveyard().is_empty() && memory::graveyard().reap(hw(), REAP) == REAP {
        cpu.attend();
    }
    if memory::context().objects().reap(REAP_PAGES) {
        cpu.attend();
    }
    ENDPOINTS.run(cpu, |endpoint| match Endpoint::drain_some(endpoint) {
        true => Progress::More,
        false => Progress::Done,
    });
    PROCESSES.run(cpu, Process::work);
    settling::step(cpu);
}
