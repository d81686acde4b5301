//! Faults, copies and changes of one space from several CPUs at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arm64::attrs::Prot;
use arm64::pte::Format;
use mm::{
    Access, Backing, CopyStop, FaultInput, FaultOutcome, MapFlags, MapRequest, MmContext, MmError,
    Mode, Verb,
};
use model::HostMachine;
use pgtable::{Graveyard, Machine};

type Space = std::sync::Arc<mm::Space<HostMachine>>;

const PAGE: u64 = 4096;
const RW: Prot = Prot::READ.union(Prot::WRITE);
/// Straddles the border between two leaf tables.
const BASE: u64 = 0x4000_0000 - 8 * PAGE;
const PAGES: u64 = 16;
const CPUS: usize = 4;

fn run(space: &Space, machine: &HostMachine, verb: Verb) -> Result<u64, MmError> {
    loop {
        let mut change = match space.begin(verb.clone()) {
            Err(MmError::Busy) => {
                machine.grace().quiescent(sync::cpu_index());
                thread::yield_now();
                continue;
            }
            other => other?,
        };
        loop {
            if let Some(result) = change.step(space, 4) {
                return result;
            }
            machine.grace().quiescent(sync::cpu_index());
        }
    }
}

/// Writes its own byte of every page and reads it back: another value than zero (the page was
/// dropped in between) or its own is another CPU's, or a freed frame's.
fn toucher(space: &Space, machine: &HostMachine, cpu: u64, stop: &AtomicBool) -> u64 {
    let mark = [0x40 | cpu as u8];
    let mut writes = 0;
    while !stop.load(Ordering::Relaxed) {
        for page in 0..PAGES {
            let va = BASE + page * PAGE + cpu;
            match space.copy_out(va, &mark) {
                Ok(_) => writes += 1,
                Err(CopyStop::Busy | CopyStop::Fault) => {}
                Err(other) => panic!("{other:?}"),
            }
            let mut byte = [0];
            if space.copy_in(va, &mut byte).is_ok() {
                assert!(
                    byte == mark || byte == [0],
                    "page {page} holds {byte:x?} for cpu {cpu}"
                );
            }
            let input = FaultInput {
                va,
                access: Access::Read,
                mode: Mode::User,
            };
            assert_ne!(space.fault(input), FaultOutcome::OutOfMemory);
        }
        machine.grace().quiescent(sync::cpu_index());
    }
    writes
}

fn changer(space: &Space, machine: &HostMachine, graves: &Graveyard, rounds: u64) {
    for round in 0..rounds {
        let page = round * 7 % PAGES;
        let len = (1 + round % 5).min(PAGES - page) * PAGE;
        let addr = BASE + page * PAGE;
        let map = MapRequest {
            addr,
            len,
            prot: RW,
            flags: MapFlags::FIXED,
            backing: Backing::ANON,
            refusal: None,
        };
        let done = match round % 4 {
            0 => run(space, machine, Verb::Unmap { addr, len }),
            1 => run(space, machine, Verb::Map(map)),
            2 => run(
                space,
                machine,
                Verb::Protect {
                    addr,
                    len,
                    prot: Prot::READ,
                },
            ),
            _ => run(space, machine, Verb::Map(map)),
        };
        assert!(done.is_ok() || round % 4 == 2, "round {round}: {done:?}");
        graves.reap(machine, 16);
        machine.grace().quiescent(sync::cpu_index());
    }
}

#[test]
fn nobody_sees_a_page_that_was_dropped_and_nothing_is_lost() {
    let machine = HostMachine::new(2048, Format { lpa2: true }, 0);
    let graves: &'static Graveyard = Box::leak(Box::default());
    let context = Box::leak(Box::new(MmContext::new(machine, graves, 16, CPUS, || 0)));
    let free = machine.free_frames();
    let space = mm::Space::new(context).expect("a space");
    let stop = AtomicBool::new(false);
    let writes: u64 = thread::scope(|scope| {
        let touchers: Vec<_> = (1..CPUS as u64)
            .map(|cpu| {
                let (space, stop) = (&space, &stop);
                scope.spawn(move || {
                    machine.grace().online(sync::cpu_index());
                    let writes = toucher(space, machine, cpu, stop);
                    machine.grace().idle_enter(sync::cpu_index());
                    machine.frames().answer_drain();
                    writes
                })
            })
            .collect();
        machine.grace().online(sync::cpu_index());
        changer(
            &space,
            machine,
            graves,
            if cfg!(miri) { 40 } else { 20_000 },
        );
        stop.store(true, Ordering::Relaxed);
        touchers
            .into_iter()
            .map(|toucher| toucher.join().expect("no toucher fails"))
            .sum()
    });
    assert!(writes > 0, "no write ever got through");
    drop(space);
    while !graves.is_empty() {
        graves.reap(machine, 999);
        machine.grace().quiescent(sync::cpu_index());
    }
    assert_eq!(machine.free_frames(), free);
    assert_eq!(machine.stats().live(), 0);
}
