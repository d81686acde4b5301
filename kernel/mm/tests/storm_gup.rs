//! Pins and copies between two spaces while pages come and go, one space in 2 MiB that are put
//! together and split again. Page n of either side says n or 0, or somebody has got another's page.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arm64::attrs::Prot;
use arm64::pte::Format;
use mm::{Access, Backing, CopyStop, MapFlags, MapRequest, MmContext, MmError, PINS, Pins, Verb};
use model::HostMachine;
use pgtable::{Graveyard, Machine};

type Space = std::sync::Arc<mm::Space<HostMachine>>;

const PAGE: u64 = 4096;
const CPUS: usize = 4;
const RW: Prot = Prot::READ.union(Prot::WRITE);
const BASE: u64 = 0x6000_0000;
const PAGES: u64 = 512;
/// Pages that are given up and written again one by one.
const LIVELY: u64 = 96;
/// Bytes of a page that are looked at.
const BYTES: usize = 64;

struct Storm {
    machine: &'static HostMachine,
    graves: &'static Graveyard,
    from: Space,
    to: Space,
}

/// Lets the other threads end, also where this one fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn number(page: u64) -> u8 {
    1 + (page % 251) as u8
}

impl Storm {
    fn quiescent(&self) {
        self.machine.grace().quiescent(sync::cpu_index());
    }

    fn run(&self, space: &Space, verb: Verb) -> Result<u64, MmError> {
        let mut change = loop {
            match space.begin(verb.clone()) {
                Err(MmError::Busy) => self.quiescent(),
                other => break other?,
            }
        };
        loop {
            if let Some(result) = change.step(space, 4) {
                return result;
            }
            self.quiescent();
        }
    }

    fn map(&self, space: &Space, pages: u64) {
        let request = MapRequest {
            addr: BASE,
            len: pages * PAGE,
            prot: RW,
            flags: MapFlags::FIXED,
            backing: Backing::ANON,
            refusal: None,
        };
        assert_eq!(self.run(space, Verb::Map(request)), Ok(BASE));
    }

    fn write(&self, space: &Space, page: u64) {
        let bytes = [number(page); BYTES];
        while space.copy_out(BASE + page * PAGE, &bytes) == Err(CopyStop::Busy) {
            self.quiescent();
        }
    }

    fn change(&self, round: u64) {
        let first = round * 7 % LIVELY;
        let pages = (1 + round % 5).min(LIVELY - first);
        let (addr, len) = (BASE + first * PAGE, pages * PAGE);
        match round % 8 {
            0 => {
                self.map(&self.from, PAGES);
                (0..PAGES).for_each(|page| self.write(&self.from, page));
            }
            1 => {
                let (addr, len) = (BASE, PAGES * PAGE);
                let done = self.run(&self.from, Verb::Collapse { addr, len });
                assert!(matches!(
                    done,
                    Ok(_) | Err(MmError::NoMemory | MmError::Invalid)
                ));
            }
            2 | 5 => assert!(self.run(&self.to, Verb::DontNeed { addr, len }).is_ok()),
            3 => assert!(self.run(&self.from, Verb::DontNeed { addr, len }).is_ok()),
            4 => self.write(&self.from, first),
            6 => self.map(&self.to, LIVELY),
            _ => {
                let (addr, prot) = (BASE, Prot::READ);
                let len = LIVELY * PAGE;
                assert!(
                    self.run(&self.from, Verb::Protect { addr, len, prot })
                        .is_ok()
                );
                let prot = RW;
                assert!(
                    self.run(&self.from, Verb::Protect { addr, len, prot })
                        .is_ok()
                );
            }
        }
    }
}

/// Whether the front of a page says its number all through, or nothing.
fn check(page: u64, bytes: &[u8], what: &str) {
    let fits = |&byte: &u8| byte == 0 || byte == number(page);
    assert!(bytes.iter().all(fits), "{what}: page {page} says {bytes:?}");
}

/// Pins a few pages and looks at them; how many.
fn pin(storm: &Storm, page: u64, access: Access) -> u64 {
    let mut pins = Pins::new();
    let len = PINS as u64 * PAGE;
    match storm.from.gup(
        BASE + page * PAGE,
        len,
        access,
        page.is_multiple_of(2),
        &mut pins,
    ) {
        Ok(count) => assert_eq!(count, pins.len()),
        Err(CopyStop::Busy | CopyStop::Fault) => assert!(pins.is_empty()),
        Err(other) => panic!("{other:?}"),
    }
    for (page, pin) in (page..).zip(&pins) {
        let mut bytes = [0; BYTES];
        pin.read(0, &mut bytes);
        check(page, &bytes, "pinned");
    }
    pins.len() as u64
}

/// Copies a few pages and looks at them; how many bytes.
fn copy(storm: &Storm, page: u64, remote: Access) -> u64 {
    let (va, len) = (BASE + page * PAGE, 5 * PAGE);
    let copied = match storm.from.copy_across(va, &storm.to, va, len, remote) {
        Ok(copied) => copied,
        Err(CopyStop::Busy | CopyStop::Fault) => 0,
        Err(other) => panic!("{other:?}"),
    };
    for page in page..page + copied / PAGE {
        let mut bytes = [0; BYTES];
        if storm.to.copy_in(BASE + page * PAGE, &mut bytes).is_ok() {
            check(page, &bytes, "copied");
        }
    }
    copied
}

fn work(storm: &Storm, lane: u64, stop: &AtomicBool) -> (u64, u64) {
    storm.machine.grace().online(sync::cpu_index());
    let (mut pinned, mut copied, mut round) = (0, 0, lane);
    while !stop.load(Ordering::Relaxed) {
        let writes = round.is_multiple_of(3);
        let access = if writes { Access::Write } else { Access::Read };
        pinned += pin(storm, round * 5 % (PAGES - 16), access);
        copied += copy(storm, round * 3 % (LIVELY - 8), access);
        storm.quiescent();
        round += 1;
    }
    storm.machine.grace().idle_enter(sync::cpu_index());
    storm.machine.frames().answer_drain();
    (pinned, copied)
}

#[test]
fn nobody_gets_anothers_page() {
    let machine = HostMachine::new(4096, Format::NORMAL, 0);
    let graves: &'static Graveyard = Box::leak(Box::default());
    let context: &'static MmContext<HostMachine> =
        Box::leak(Box::new(MmContext::new(machine, graves, 16, CPUS, || 0)));
    let free = machine.free_frames();
    let space = || mm::Space::new(context).expect("a space");
    let (from, to) = (space(), space());
    let storm = Storm {
        machine,
        graves,
        from,
        to,
    };
    machine.grace().online(sync::cpu_index());
    storm.map(&storm.to, LIVELY);
    let stop = AtomicBool::new(false);
    let done = thread::scope(|scope| {
        let start = |lane| {
            let (storm, stop) = (&storm, &stop);
            scope.spawn(move || work(storm, lane, stop))
        };
        let workers: Vec<_> = (1..CPUS as u64).map(start).collect();
        let stop = Stop(&stop);
        for round in 0..if cfg!(miri) { 24 } else { 400 } {
            storm.change(round);
            storm.graves.reap(machine, 16);
            storm.quiescent();
        }
        drop(stop);
        let ended = workers.into_iter().map(|worker| worker.join());
        ended
            .map(|done| done.expect("no worker fails"))
            .collect::<Vec<_>>()
    });
    assert!(
        done.iter()
            .all(|&(pinned, copied)| pinned > 0 && copied > 0)
    );
    drop(storm);
    while !graves.is_empty() {
        graves.reap(machine, 999);
        machine.grace().quiescent(sync::cpu_index());
    }
    assert_eq!(machine.stats().live(), 0);
    assert_eq!(machine.free_frames(), free);
}
