//! Growing, and coming to a space: roots, T0SZ, identifiers.

use std::sync::Arc;

use arm64::attrs::Prot;
use arm64::geometry::Geometry;
use model::ModelMachine;
use pgtable::activation::{Needs, Step};
use pgtable::asid::{Asids, SET_ASIDE};
use pgtable::{PageTable, Pause, User};

use crate::stage::{BASE, PAGE, Stage, machine};

#[test]
fn a_cpu_drops_translations_when_its_root_has_grown() {
    let stage = Stage::new();
    stage.fill(BASE, Prot::RW);
    stage.space.grow().expect("a level more");
    stage.machine.activate(0, &stage.space, Needs::default());
    stage.right();
}

#[test]
fn t0sz_changes_under_the_reserved_root() {
    let stage = Stage::new();
    let other = PageTable::<User, _>::new(stage.machine, 10, Geometry::for_va_bits(48));
    let other = other.expect("a root");
    other.asid_cell().set(6);
    stage.machine.activate(0, &other, Needs::default());
    stage.right();
}

#[test]
fn a_former_root_stays_while_its_space_lives() {
    let stage = Stage::new();
    stage.fill(BASE, Prot::RW);
    stage.space.grow().expect("a level more");
    // CPU 1 goes on with the old root.
    stage.machine.activate(0, &stage.space, Needs::default());
    stage.zap(BASE, 1);
    stage.settle();
    stage.right();
    stage.fill(BASE + PAGE, Prot::RW);
    let found = stage.machine.translations(1, BASE + PAGE);
    assert_eq!(
        found.len(),
        1,
        "the old root leads to what is mapped below it"
    );
}

#[test]
fn a_page_stays_where_it_is_while_its_space_grows() {
    let stage = Arc::new(Stage::new());
    stage.fill(BASE, Prot::RW);
    let (machine, other) = (stage.machine, Arc::downgrade(&stage));
    machine.set_hook(Some(Box::new(move |at| {
        if at == Pause::BeforeGrow
            && let Some(stage) = other.upgrade()
        {
            assert!(stage.leaf(BASE).is_some(), "lost while growing");
        }
    })));
    stage.space.grow().expect("a level more");
    stage.right();
}

/// Eight spaces share six identifiers, on both CPUs in turn.
fn generations() -> &'static ModelMachine {
    let machine = machine();
    let asids = Asids::<2>::new(3, 2, SET_ASIDE).expect("enough identifiers");
    let spaces: Vec<_> = (10..18)
        .map(|id| PageTable::<User, _>::new(machine, id, Geometry::for_va_bits(39)))
        .map(|space| space.expect("a root"))
        .collect();
    for round in 0..40 {
        let space = &spaces[round * 3 % spaces.len()];
        let cpu = usize::from(round % 5 == 0);
        let switched = asids.switch_to(space.asid_cell(), cpu);
        machine.activate(cpu, space, Needs::new(switched, false));
    }
    assert!(asids.rollovers() > 1);
    machine
}

#[test]
fn a_generation_of_identifiers_begins_with_a_flush() {
    let broken = generations().take_violations();
    assert!(broken.is_empty(), "{}", broken[0]);
}

#[test]
fn an_identifier_in_use_is_not_given_away() {
    let machine = machine();
    let asids = Asids::<2>::new(3, 2, SET_ASIDE).expect("enough identifiers");
    let spaces: Vec<_> = (10..20)
        .map(|id| PageTable::<User, _>::new(machine, id, Geometry::for_va_bits(39)))
        .map(|space| space.expect("a root"))
        .collect();
    let run = |cpu, space: &PageTable<User, ModelMachine>| {
        let switched = asids.switch_to(space.asid_cell(), cpu);
        machine.activate(cpu, space, Needs::new(switched, false));
    };
    // CPU 1 stays at EL0 in the first space over a change of generations.
    run(1, &spaces[0]);
    spaces[1..].iter().for_each(|space| run(0, space));
    assert!(asids.rollovers() > 0);
    machine.run(1, &[Step::Isb]);
    let broken = machine.take_violations();
    assert!(broken.is_empty(), "{}", broken[0]);
}
