//! What a space tells of itself: as many events as it counts, with the right numbers.

use std::cell::RefCell;

use arm64::attrs::Prot;
use arm64::pte::Format;
use mm::trace::{Categories, Event, Kind};
use mm::{Access, FaultInput, MapFlags, MapRequest, MmContext, Mode, Verb};
use mm::{Backing, FaultOutcome};
use model::HostMachine;
use pgtable::Graveyard;

type Space = std::sync::Arc<mm::Space<HostMachine>>;

std::thread_local! {
    static HEARD: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
    static NOW: RefCell<u64> = const { RefCell::new(0) };
}

/// A clock that goes on by seven at each look.
fn clock() -> u64 {
    NOW.with_borrow_mut(|now| {
        *now += 7;
        *now
    })
}

fn space(categories: &str) -> Space {
    HEARD.with_borrow_mut(Vec::clear);
    let machine = HostMachine::new(512, Format::NORMAL, 1);
    let graves: &'static Graveyard = Box::leak(Box::default());
    let categories = Categories::parse(categories).expect("categories");
    let context = MmContext::new(machine, graves, 8, 1, clock).traced_by(
        |event| HEARD.with_borrow_mut(|heard| heard.push(*event)),
        categories,
    );
    let space = mm::Space::new(Box::leak(Box::new(context))).expect("a space");
    let switched = space.context().asids().switch_to(space.asid_cell(), 0);
    assert_eq!(switched.asid, space.asid_cell().current());
    space
}

fn heard() -> Vec<Event> {
    HEARD.with_borrow(Vec::clone)
}

fn change(space: &Space, verb: Verb) -> u64 {
    let mut change = space.begin(verb).expect("a change");
    loop {
        if let Some(result) = change.step(space, 64) {
            return result.expect("a change that succeeds");
        }
    }
}

fn map(space: &Space, len: u64, prot: Prot) -> u64 {
    change(
        space,
        Verb::Map(MapRequest {
            addr: 0x40_0000,
            len,
            prot,
            flags: MapFlags::FIXED,
            backing: Backing::ANON,
            refusal: None,
        }),
    )
}

fn fault(space: &Space, va: u64, access: Access) -> FaultOutcome {
    space.begin_fault();
    space.fault(FaultInput {
        va,
        access,
        mode: Mode::User,
    })
}

#[test]
fn each_fault_is_told_once_with_what_it_came_to() {
    let space = space("fault");
    let at = map(&space, 0x3000, Prot::READ | Prot::WRITE);
    assert_eq!(fault(&space, at + 5, Access::Write), FaultOutcome::Done);
    assert_eq!(fault(&space, at + 6, Access::Write), FaultOutcome::Done);
    fault(&space, 0x7000_0000, Access::Read);
    space.copy_out(at + 0x1000, b"x").expect("memory");
    let heard = heard();
    let told: Vec<_> = heard
        .iter()
        .map(|e| (e.kind, e.detail, e.va, e.arg))
        .collect();
    assert_eq!(
        told,
        [
            (Kind::FaultAnon, 1, at + 5, 4096),
            (Kind::FaultSpurious, 1, at + 6, 0),
            (Kind::FaultSegv, 0, 0x7000_0000, 0),
            (Kind::FaultAnon, 5, at + 0x1000, 4096),
        ]
    );
    assert!(
        heard
            .iter()
            .all(|e| e.space == space.id() && e.cost > 0 && e.cost % 7 == 0)
    );
}

/// The sums over a trace are what the counters say, kind by kind.
#[test]
fn the_trace_agrees_with_the_counters() {
    let space = space("all");
    let at = map(&space, 0x40000, Prot::READ | Prot::WRITE);
    for page in (0..0x40u64).rev() {
        let access = if page % 3 == 0 {
            Access::Write
        } else {
            Access::Read
        };
        assert_eq!(
            fault(&space, at + page * 0x1000, access),
            FaultOutcome::Done
        );
    }
    let (addr, len, prot) = (at, 0x20000, Prot::READ);
    change(&space, Verb::Protect { addr, len, prot });
    fault(&space, at, Access::Write);
    change(&space, Verb::Unmap { addr, len: 0x40000 });
    let heard = heard();
    space.counters().each(|name, value| {
        let Some(rest) = name.strip_prefix("faults_") else {
            return;
        };
        let mut kinds = Kind::ALL.iter();
        let Some(kind) = kinds.find(|kind| kind.word().strip_prefix("fault_") == Some(rest)) else {
            return;
        };
        let told = heard.iter().filter(|event| event.kind == *kind).count();
        assert_eq!(told as u64, value, "{name}");
    });
    let zapped: u64 = heard
        .iter()
        .filter(|e| e.kind == Kind::Zap)
        .map(|e| e.arg)
        .sum();
    assert_eq!(zapped, space.counters().pages_unmapped.get());
    assert!(zapped > 0);
}

#[test]
fn nothing_is_told_of_what_nobody_wants_to_know() {
    let space = space("flush");
    let at = map(&space, 0x3000, Prot::READ | Prot::WRITE);
    fault(&space, at, Access::Write);
    change(
        &space,
        Verb::Unmap {
            addr: at,
            len: 0x3000,
        },
    );
    assert_eq!(heard(), []);
}

/// What a space has counted is in the sum of all spaces when it has ended, and not before.
#[test]
fn what_a_space_counted_outlives_it() {
    let space = space("");
    let context = space.context();
    let at = map(&space, 0x3000, Prot::READ | Prot::WRITE);
    fault(&space, at, Access::Write);
    fault(&space, at + 0x1000, Access::Write);
    let (ended, counters) = context.ended();
    assert_eq!((ended, counters.faults_anon.get()), (0, 0));
    let counted = space.counters().faults_anon.get();
    drop(space);
    let (ended, counters) = context.ended();
    assert_eq!((ended, counters.faults_anon.get()), (1, counted));
    assert_eq!(counters.pages_unmapped.get(), 2);
}
