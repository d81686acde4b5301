//! Two CPUs, one of which has something waiting that the other one should run.

use ipc::ready::{Cpus, Priority, ReadyQueue, Runnable, is_to_spread, next, place, spread};
use loom::sync::Arc;
use loom::thread;
use sync::{Link, Linked};

use crate::run::explore;

sync::models! {
    nobody_waits_for_a_cpu_that_runs_less { AnnounceLate: "waits while CPU 1 runs less" }
    a_thread_is_taken_once {}
}

type Handle = std::sync::Arc<Thread>;

struct Thread {
    link: Link<Handle>,
    priority: Priority,
}

impl Linked<Handle> for Thread {
    fn link(&self) -> &Link<Handle> {
        &self.link
    }
}

impl Runnable for Thread {
    fn priority(&self) -> Priority {
        self.priority
    }

    fn cpus(&self) -> u64 {
        3
    }

    fn set_queue(&self, _cpu: Option<usize>) {}
}

struct Machine([ReadyQueue<Handle>; 2]);

impl Cpus<Handle> for Machine {
    fn online(&self) -> u64 {
        3
    }

    fn queue(&self, cpu: usize) -> &ReadyQueue<Handle> {
        &self.0[cpu]
    }
}

impl Machine {
    /// Both CPUs run servers; an ordinary thread waits for CPU 1.
    fn busy() -> Arc<Self> {
        let machine = Self([ReadyQueue::new(), ReadyQueue::new()]);
        machine.0[0].announce(Some(Priority::Server));
        machine.0[1].announce(Some(Priority::Server));
        machine.put(1, Priority::Ordinary);
        Arc::new(machine)
    }

    fn put(&self, cpu: usize, priority: Priority) {
        self.0[cpu].push(cpu, thread_of(priority));
    }
}

fn thread_of(priority: Priority) -> Handle {
    std::sync::Arc::new(Thread {
        link: Link::new(),
        priority,
    })
}

/// CPU 0 wakes a server while CPU 1 is done with its own and chooses again: it takes the server
/// from CPU 0, or CPU 0 hands it over.
fn nobody_waits_for_a_cpu_that_runs_less() {
    explore(|| {
        let machine = Machine::busy();
        let other = machine.clone();
        let cpu1 = thread::spawn(move || next(&*other, 1).map(|(thread, _)| thread.priority));
        let server = thread_of(Priority::Server);
        let at = place(&*machine, 0, &server, 0);
        machine.0[at].push(at, server);
        let handed = match is_to_spread(&*machine, 0) {
            true => spread(&*machine, 0),
            false => 0,
        };
        let called = handed | u64::from(at == 1) << 1;
        let ran = cpu1.join().unwrap();
        let is_called = called & 2 != 0;
        assert!(
            ran == Some(Priority::Server) || is_called,
            "a server waits while CPU 1 runs less"
        );
        // What CPU 1 is called for is there when it looks.
        if is_called && ran != Some(Priority::Server) {
            let best = machine.0[1].best();
            assert_eq!(best, Some(Priority::Server));
        }
    });
}

fn a_thread_is_taken_once() {
    explore(|| {
        let machine = Machine::busy();
        let other = machine.clone();
        let cpu1 = thread::spawn(move || next(&*other, 1).is_some());
        let here = next(&*machine, 0).is_some();
        assert!(here != cpu1.join().unwrap(), "one thread, two CPUs");
        assert!(next(&*machine, 0).is_none());
    });
}
