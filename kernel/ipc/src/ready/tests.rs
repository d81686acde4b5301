//! Queues of ready threads: who is next, where, and who takes what from whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::vec::Vec;

use sync::{Link, Linked};

use super::{Cpus, Priority, ReadyQueue, Runnable, has_any, next, place, spread};
use Priority::{Background, Highest, Ordinary, Server};

const NOWHERE: usize = usize::MAX;
const ANYWHERE: u64 = u64::MAX;

struct Thread {
    link: Link<Arc<Thread>>,
    id: u32,
    priority: AtomicU8,
    cpus: AtomicU64,
    queue: AtomicUsize,
}

impl Linked<Arc<Thread>> for Thread {
    fn link(&self) -> &Link<Arc<Thread>> {
        &self.link
    }
}

impl Runnable for Thread {
    fn priority(&self) -> Priority {
        Priority::from_number(self.priority.load(Ordering::Relaxed).into()).unwrap()
    }

    fn cpus(&self) -> u64 {
        self.cpus.load(Ordering::Relaxed)
    }

    fn set_queue(&self, cpu: Option<usize>) {
        self.queue.store(cpu.unwrap_or(NOWHERE), Ordering::Relaxed);
    }
}

fn thread(id: u32, priority: Priority, cpus: u64) -> Arc<Thread> {
    Arc::new(Thread {
        link: Link::new(),
        id,
        priority: AtomicU8::new(priority as u8),
        cpus: AtomicU64::new(cpus),
        queue: AtomicUsize::new(NOWHERE),
    })
}

struct Machine {
    online: u64,
    queues: Vec<ReadyQueue<Arc<Thread>>>,
}

impl Cpus<Arc<Thread>> for Machine {
    fn online(&self) -> u64 {
        self.online
    }

    fn queue(&self, cpu: usize) -> &ReadyQueue<Arc<Thread>> {
        &self.queues[cpu]
    }
}

impl Machine {
    /// CPUs that run these.
    fn running<const N: usize>(priorities: [Option<Priority>; N]) -> Self {
        let queues: Vec<_> = priorities.iter().map(|_| ReadyQueue::new()).collect();
        for (queue, priority) in queues.iter().zip(priorities) {
            queue.announce(priority);
        }
        Self {
            online: (1 << N) - 1,
            queues,
        }
    }

    fn put(&self, cpu: usize, thread: &Arc<Thread>) {
        self.queues[cpu].push(cpu, thread.clone());
    }

    /// What a CPU chooses until nothing is left: who, and whether from elsewhere.
    fn choices(&self, cpu: usize) -> Vec<(u32, bool)> {
        core::iter::from_fn(|| next(self, cpu))
            .map(|(thread, stolen)| (thread.id, stolen))
            .collect()
    }
}

#[test]
fn the_highest_is_next_and_the_first_among_equals() {
    let machine = Machine::running([None]);
    for (id, priority) in [Ordinary, Background, Server, Ordinary, Highest]
        .into_iter()
        .enumerate()
    {
        machine.put(0, &thread(id as u32, priority, ANYWHERE));
    }
    assert_eq!(machine.queues[0].best(), Some(Highest));
    let order: Vec<u32> = machine.choices(0).into_iter().map(|(id, _)| id).collect();
    assert_eq!(order, [4, 2, 0, 3, 1]);
    assert!(machine.queues[0].is_empty());
    assert_eq!(machine.queues[0].running(), None);
}

#[test]
fn a_cpu_takes_from_others_what_is_better_than_its_own() {
    let machine = Machine::running([None, None, None]);
    machine.put(0, &thread(0, Ordinary, ANYWHERE));
    machine.put(1, &thread(1, Ordinary, ANYWHERE));
    machine.put(1, &thread(2, Server, ANYWHERE));
    machine.put(2, &thread(3, Highest, 1 << 2));
    let (first, stolen) = next(&machine, 0).unwrap();
    assert_eq!((first.id, stolen), (2, true));
    assert_eq!(machine.queues[0].running(), Some(Server));
    assert_eq!(machine.choices(0), [(0, false), (1, true)]);
    assert!(!has_any(&machine, 0), "what is left may not run here");
    assert!(has_any(&machine, 2));
    assert_eq!(machine.choices(2), [(3, false)]);
}

#[test]
fn a_thread_is_put_where_it_runs_at_once_if_it_can() {
    let machine = Machine::running([Some(Server), Some(Ordinary), Some(Background)]);
    let place = |priority, cpus, me, last| place(&machine, me, &thread(0, priority, cpus), last);
    assert_eq!(place(Server, 0b011, 0, 1), 1, "its last CPU runs less");
    // From here on CPU 1 is being called to run a server.
    assert_eq!(machine.queues[1].running(), Some(Server));
    assert_eq!(place(Ordinary, ANYWHERE, 0, 1), 2, "another CPU runs less");
    assert_eq!(machine.queues[2].running(), Some(Ordinary));
    assert_eq!(place(Ordinary, ANYWHERE, 1, 0), 1, "nobody runs less");
    assert_eq!(place(Ordinary, 0b100, 1, 0), 2, "nor where it may run");
    assert_eq!(place(Highest, 0b001, 2, 1), 0, "it may run there only");
    assert_eq!(place(Ordinary, 0b1000, 2, 1), 2, "nowhere that there is");
}

#[test]
fn what_waits_is_handed_to_who_runs_less() {
    let machine = Machine::running([Some(Highest), Some(Server), Some(Ordinary), Some(Ordinary)]);
    let pinned = thread(0, Server, 0b0011);
    machine.put(0, &pinned);
    assert_eq!(spread(&machine, 0), 0, "nobody who runs less may run it");
    machine.put(0, &thread(1, Server, ANYWHERE));
    machine.put(0, &thread(2, Ordinary, ANYWHERE));
    assert_eq!(spread(&machine, 0), 0b0100);
    assert_eq!(machine.queues[2].running(), Some(Server), "called for it");
    assert_eq!(machine.choices(2), [(1, false), (2, true)]);
    assert_eq!(pinned.queue.load(Ordering::Relaxed), 0);
    let taken = machine.queues[0].remove(&pinned);
    assert!(taken.is_some() && machine.queues[0].remove(&pinned).is_none());
    assert_eq!(pinned.queue.load(Ordering::Relaxed), NOWHERE);
    assert!(machine.queues[0].is_empty());
}
