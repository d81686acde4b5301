//! Memory that comes to carry tags, from several CPUs at once, while its storage holds data that is in
//! use: contents stay, tags are made once and before they are seen, and nothing is lost (laws 13, 14).

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arm64::UserAddr;
use arm64::attrs::Prot;
use arm64::pte::Format;
use frame::slab::Ref;
use mm::object::MemObject;
use mm::tags::StoragePolicy;
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
const BASE: u64 = 0x4000_0000 - 16 * PAGE;
/// Pages that are tagged, and mapped anew.
const PAGES: u64 = 32;
/// Where the object is mapped.
const OBJECT: u64 = 0x5000_0000;
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
            if let Some(result) = change.step(space, 8) {
                return result;
            }
            machine.grace().quiescent(sync::cpu_index());
        }
    }
}

fn map(space: &Space, machine: &HostMachine, addr: u64, pages: u64, backing: Backing) {
    let flags = match backing {
        Backing::Object { .. } => MapFlags::FIXED | MapFlags::SHARED,
        _ => MapFlags::FIXED,
    };
    let request = MapRequest {
        addr,
        len: pages * PAGE,
        prot: RW,
        flags,
        backing,
        refusal: None,
    };
    run(space, machine, Verb::Map(request)).expect("room");
}

fn pattern(page: u64) -> u8 {
    page as u8 ^ 0x5a
}

/// Writes its own byte of every page by a pointer with tag 0, and reads pages of the object. Tags that
/// are not 0 are those of somebody else, seen before they were cleared.
fn toucher(space: &Space, machine: &HostMachine, cpu: u64, stop: &AtomicBool) -> u64 {
    let (mark, mut writes) = ([0x40 | cpu as u8], 0);
    let failed = || space.context().tag_events().failed.get() != 0;
    while !stop.load(Ordering::Relaxed) {
        for page in 0..PAGES {
            let at = BASE + page * PAGE + cpu;
            match space.copy_out(UserAddr::checked(at, true, true), &mark) {
                Ok(_) => writes += 1,
                Err(CopyStop::Busy) => {}
                // A definite end, for want of storage, is one (law 14); a tag that is not 0 is none.
                Err(CopyStop::Fault) if failed() => {}
                Err(other) => panic!("page {page}: {other:?}"),
            }
            let mut byte = [0];
            if space.copy_in(at, &mut byte).is_ok() {
                assert!(byte == mark || byte == [0], "{byte:x?} for cpu {cpu}");
            }
            let (va, access, mode) = (at, Access::Read, Mode::User);
            let outcome = space.fault(FaultInput { va, access, mode });
            assert!(
                matches!(
                    outcome,
                    FaultOutcome::Done | FaultOutcome::Again | FaultOutcome::Busy
                ) || outcome == FaultOutcome::Bus && failed(),
                "{outcome:?}"
            );
            if space.copy_in(OBJECT + page * PAGE, &mut byte).is_ok() {
                assert_eq!(byte, [pattern(page)], "page {page} of the object");
            }
        }
        machine.grace().quiescent(sync::cpu_index());
    }
    writes
}

/// An object whose pages lie in tag storage, as far as that is free.
fn object(context: &'static MmContext<HostMachine>, filler: &Space, pages: u64) -> Ref<MemObject> {
    let machine = filler.table().machine();
    let object = context.objects().create(pages * PAGE).expect("an object");
    let backing = Backing::object(object.clone(), 0);
    map(filler, machine, OBJECT, pages, backing);
    for page in 0..pages {
        let byte = [pattern(page)];
        while filler.copy_out(OBJECT + page * PAGE, &byte) == Err(CopyStop::Busy) {}
    }
    object
}

fn changer(
    context: &'static MmContext<HostMachine>,
    (space, filler): (&Space, &Space),
    graves: &Graveyard,
    rounds: u64,
) {
    let machine = space.table().machine();
    for round in 0..rounds {
        let page = round * 7 % PAGES;
        let pages = (1 + round % 9).min(PAGES - page);
        let (addr, len) = (BASE + page * PAGE, pages * PAGE);
        let verb = Verb::Tag {
            addr,
            len,
            prot: RW,
            grows: None,
        };
        match round % 8 {
            0 | 3 => map(space, machine, addr, pages, Backing::ANON),
            7 => {
                let object = object(context, filler, PAGES);
                let backing = Backing::object(object, 0);
                map(space, machine, OBJECT, PAGES, backing);
                context.objects().sweep();
            }
            _ => {
                run(space, machine, verb).expect("areas are there");
            }
        }
        graves.reap(machine, 16);
        machine.grace().quiescent(sync::cpu_index());
    }
}

#[test]
fn tags_come_while_their_storage_is_used_and_nothing_is_lost() {
    let machine = HostMachine::with_tag_storage(2048, Format { lpa2: true }, 0);
    let graves: &'static Graveyard = Box::leak(Box::default());
    let context: &'static _ = Box::leak(Box::new(MmContext::new(machine, graves, 16, CPUS, || 0)));
    context.policy().set_storage(StoragePolicy::Migrate);
    let free = machine.free_frames();
    let in_use = || {
        let stats = machine.frames().tag_stats();
        (stats.blocks, stats.tags, stats.data)
    };
    // The page of zeros has tags.
    let before = in_use();
    let space = mm::Space::new(context).expect("a space");
    let filler = mm::Space::new(context).expect("a space");
    machine.grace().online(sync::cpu_index());
    map(&space, machine, BASE, PAGES, Backing::ANON);
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
        changer(context, (&space, &filler), graves, 20_000);
        stop.store(true, Ordering::Relaxed);
        touchers
            .into_iter()
            .map(|toucher| toucher.join().expect("no toucher fails"))
            .sum()
    });
    let (events, stats) = (context.tag_events(), machine.frames().tag_stats());
    assert!(writes > 0 && stats.reserved > 0, "nothing was tagged");
    assert!(events.pages_moved.get() > 0, "nothing was in the way");
    drop((space, filler));
    context.objects().sweep();
    while !graves.is_empty() {
        graves.reap(machine, 999);
        machine.grace().quiescent(sync::cpu_index());
    }
    assert_eq!(machine.free_frames(), free);
    assert_eq!(machine.stats().live(), 0);
    assert_eq!(in_use(), before);
}
