//! Shared, private and anonymous memory of two spaces under every verb at once. Each thread has a
//! byte of its own in every page and counts in it: a write that is lost, or one that comes through
//! where it must not, is a number that nobody wrote.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arm64::attrs::Prot;
use arm64::pte::Format;
use frame::slab::Ref;
use mm::object::{Punch, Resize};
use mm::{
    Backing, CopyStop, MapFlags, MapRequest, MemObject, MmContext, MmError, RemapFlags, Verb,
};
use model::HostMachine;
use pgtable::{Graveyard, Machine};

type Space = std::sync::Arc<mm::Space<HostMachine>>;

const PAGE: u64 = 4096;
const RW: Prot = Prot::READ.union(Prot::WRITE);
const CPUS: usize = 4;
/// Shared memory: straddles the border between two tables. Holes and ends come from page 8 on.
const SHARED: u64 = 0x4000_0000 - 4 * PAGE;
const SHARED_PAGES: u64 = 24;
const STABLE: u64 = 8;
/// A private mapping of an object whose bytes nobody may change.
const PRIVATE: u64 = 0x5000_0000;
const PRIVATE_PAGES: u64 = 8;
const ORIGINAL: u8 = 0xff;
/// Anonymous memory, a block of 2 MiB that is put together and split again.
const ANON: u64 = 0x6000_0000;
const ANON_PAGES: [u64; 4] = [0, 17, 255, 511];
const BLOCK: u64 = 512 * PAGE;
const ELSEWHERE: u64 = 0x3000_0000;

struct Storm {
    machine: &'static HostMachine,
    graves: &'static Graveyard,
    context: &'static MmContext<HostMachine>,
    spaces: [Space; 2],
    shared: Ref<MemObject>,
    original: Ref<MemObject>,
    free: u64,
}

impl Storm {
    fn quiescent(&self) {
        self.machine.grace().quiescent(sync::cpu_index());
    }

    fn run(&self, space: usize, verb: Verb) -> Result<u64, MmError> {
        let space = &self.spaces[space];
        loop {
            let mut change = match space.begin(verb.clone()) {
                Err(MmError::Busy) => {
                    self.quiescent();
                    thread::yield_now();
                    continue;
                }
                other => other?,
            };
            loop {
                if let Some(result) = change.step(space, 4) {
                    return result;
                }
                self.quiescent();
            }
        }
    }

    fn map(&self, space: usize, addr: u64, pages: u64, backing: Backing, flags: MapFlags) {
        let request = MapRequest {
            addr,
            len: pages * PAGE,
            prot: RW,
            flags: flags | MapFlags::FIXED,
            backing,
            refusal: None,
        };
        assert_eq!(self.run(space, Verb::Map(request)), Ok(addr));
    }

    fn map_shared(&self, space: usize, first: u64, pages: u64) {
        let backing = Backing::object(self.shared.clone(), first * PAGE);
        let addr = SHARED + first * PAGE;
        self.map(space, addr, pages, backing, MapFlags::SHARED);
    }

    fn map_private(&self) {
        let backing = Backing::object(self.original.clone(), 0);
        self.map(0, PRIVATE, PRIVATE_PAGES, backing, MapFlags::empty());
    }

    fn remap(&self, space: usize, old: u64, new: u64) {
        let verb = Verb::Remap {
            old,
            old_len: SHARED_PAGES * PAGE,
            new_len: SHARED_PAGES * PAGE,
            flags: RemapFlags::MAYMOVE | RemapFlags::FIXED,
            new,
        };
        assert_eq!(self.run(space, verb), Ok(new));
    }

    fn protect(&self, addr: u64, len: u64, prot: Prot) {
        assert!(self.run(0, Verb::Protect { addr, len, prot }).is_ok());
    }

    fn resize(&self, pages: u64) {
        let mut change = Resize::begin(&self.shared, pages * PAGE).unwrap();
        while !change.step(8) {
            self.quiescent();
        }
    }

    fn change(&self, round: u64) {
        let (space, first) = ((round / 10 % 2) as usize, round * 5 % SHARED_PAGES);
        let pages = (1 + round % 7).min(SHARED_PAGES - first);
        let (addr, len) = (SHARED + first * PAGE, pages * PAGE);
        match round % 10 {
            0 => self.protect(addr, len, Prot::READ),
            1 => self.protect(SHARED, SHARED_PAGES * PAGE, RW),
            2 => {
                assert!(self.run(space, Verb::Unmap { addr, len }).is_ok());
                self.map_shared(space, first, pages);
            }
            3 => assert!(self.run(space, Verb::DontNeed { addr, len }).is_ok()),
            4 => {
                let start = (STABLE + round % 9) * PAGE;
                let mut hole = Punch::begin(&self.shared, start, 5 * PAGE).unwrap();
                while !hole.step(4) {
                    self.quiescent();
                }
            }
            5 => {
                self.resize(STABLE + round % 5);
                self.resize(SHARED_PAGES);
            }
            6 => {
                self.remap(space, SHARED, ELSEWHERE);
                self.remap(space, ELSEWHERE, SHARED);
            }
            7 => {
                let (addr, len) = (PRIVATE, PRIVATE_PAGES * PAGE);
                assert!(self.run(0, Verb::DontNeed { addr, len }).is_ok());
                self.map_private();
            }
            8 => {
                let (addr, len) = (ANON, BLOCK);
                let done = self.run(0, Verb::Collapse { addr, len });
                assert!(matches!(done, Ok(_) | Err(MmError::NoMemory)), "{done:?}");
            }
            _ => {
                self.protect(ANON + 16 * PAGE, 8 * PAGE, Prot::READ);
                self.protect(ANON + 16 * PAGE, 8 * PAGE, RW);
            }
        }
    }
}

/// A thread with its byte of each page.
struct Worker<'a> {
    storm: &'a Storm,
    lane: u64,
    count: u8,
    writes: u64,
}

impl Worker<'_> {
    /// Writes the next number through one space and reads it through another, which has to show it
    /// or one of `besides`; anything where there is none.
    fn count_at(&mut self, (through, seen): (usize, usize), va: u64, besides: Option<&[u8]>) {
        let va = va + self.lane;
        self.count = 1 + self.count % 200;
        match self.storm.spaces[through].copy_out(va, &[self.count]) {
            Ok(_) => self.writes += 1,
            Err(CopyStop::Busy | CopyStop::Fault) => return,
            Err(other) => panic!("{other:?}"),
        }
        for _ in 0..4 {
            let mut byte = [0];
            if self.storm.spaces[seen].copy_in(va, &mut byte).is_ok() {
                let others = |besides: &[u8]| besides.contains(&byte[0]);
                let fits = byte[0] == self.count || besides.is_none_or(others);
                let (wrote, read) = (self.count, byte[0]);
                assert!(fits, "{va:#x}: wrote {wrote} and read {read}");
            }
        }
    }

    fn round(&mut self, round: u64) {
        let spaces = ((round % 2) as usize, (round / 2 % 2) as usize);
        for page in 0..SHARED_PAGES {
            // Between the detachment of a page and the second visit of its hole one space may have
            // the page still and another one its successor, with what was written there.
            let besides: Option<&[u8]> = (page < STABLE).then_some(&[]);
            self.count_at(spaces, SHARED + page * PAGE, besides);
        }
        for page in 0..PRIVATE_PAGES {
            self.count_at((0, 0), PRIVATE + page * PAGE, Some(&[ORIGINAL]));
        }
        for page in ANON_PAGES {
            self.count_at((0, 0), ANON + page * PAGE, Some(&[]));
        }
        self.storm.quiescent();
    }
}

fn work(storm: &Storm, lane: u64, stop: &AtomicBool) -> u64 {
    storm.machine.grace().online(sync::cpu_index());
    let mut worker = Worker {
        storm,
        lane,
        count: 0,
        writes: 0,
    };
    let mut round = lane;
    while !stop.load(Ordering::Relaxed) {
        worker.round(round);
        round += 1;
    }
    storm.machine.grace().idle_enter(sync::cpu_index());
    storm.machine.frames().answer_drain();
    worker.writes
}

fn set_up() -> Storm {
    let machine = HostMachine::new(4096, Format::NORMAL, 0);
    let graves: &'static Graveyard = Box::leak(Box::default());
    let context: &'static MmContext<HostMachine> =
        Box::leak(Box::new(MmContext::new(machine, graves, 16, CPUS, || 0)));
    let (objects, free) = (context.objects(), machine.free_frames());
    let original = objects.create(PRIVATE_PAGES * PAGE).unwrap();
    for page in 0..PRIVATE_PAGES {
        let mut frame = machine.frames().alloc_fresh(0, true).unwrap();
        frame.bytes_mut().fill(ORIGINAL);
        drop(original.supply(page, frame).unwrap());
    }
    let space = || mm::Space::new(context).expect("a space");
    Storm {
        machine,
        graves,
        context,
        spaces: [space(), space()],
        shared: objects.create(SHARED_PAGES * PAGE).unwrap(),
        original,
        free,
    }
}

#[test]
fn no_write_is_lost_and_none_comes_through_where_it_must_not() {
    let storm = set_up();
    let machine = storm.machine;
    machine.grace().online(sync::cpu_index());
    for space in 0..2 {
        storm.map_shared(space, 0, SHARED_PAGES);
    }
    storm.map_private();
    storm.map(0, ANON, 512, Backing::ANON, MapFlags::empty());
    let stop = AtomicBool::new(false);
    let writes: u64 = thread::scope(|scope| {
        let start = |lane| {
            let (storm, stop) = (&storm, &stop);
            scope.spawn(move || work(storm, lane, stop))
        };
        let workers: Vec<_> = (1..CPUS as u64).map(start).collect();
        for round in 0..if cfg!(miri) { 20 } else { 1_000 } {
            storm.change(round);
            storm.graves.reap(machine, 16);
            storm.quiescent();
        }
        stop.store(true, Ordering::Relaxed);
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no worker fails"))
            .sum()
    });
    assert!(writes > 0, "no write ever got through");
    for page in 0..PRIVATE_PAGES {
        let mut bytes = [0; PAGE as usize];
        let frame = storm.original.resident(page).expect("a page");
        frame.read(0, &mut bytes);
        assert!(bytes.iter().all(|&byte| byte == ORIGINAL), "page {page}");
    }
    end(storm);
}

/// Nothing is mapped any more, and all is free that was.
fn end(storm: Storm) {
    let Storm {
        machine,
        graves,
        context,
        spaces,
        shared,
        original,
        free,
    } = storm;
    drop(spaces);
    assert_eq!(shared.mapping_count() + original.mapping_count(), 0);
    drop((shared, original));
    context.objects().reap(u32::MAX);
    while !graves.is_empty() {
        graves.reap(machine, 999);
        machine.grace().quiescent(sync::cpu_index());
    }
    assert_eq!(context.objects().count(), 0);
    assert_eq!(machine.stats().live(), 0);
    assert_eq!(machine.free_frames(), free);
}
