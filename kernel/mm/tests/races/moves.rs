//! Entries that move while an object visits its mappings (D14).

use mm::object::Resize;
use mm::{FaultOutcome, RemapFlags, Verb};

use crate::stage::*;

const LOW: u64 = BASE;
const HIGH: u64 = BASE + (4 << 20);
const PAGES: u64 = 4;

fn mapped(stage: &Stage) -> usize {
    let pages = (0..PAGES).flat_map(|page| [LOW + page * PAGE, HIGH + page * PAGE]);
    pages.filter(|&va| is_mapped(&stage.space, va)).count()
}

fn moving(old: u64, new: u64) -> Verb {
    let (old_len, new_len) = (PAGES * PAGE, PAGES * PAGE);
    let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
    Verb::Remap {
        old,
        old_len,
        new_len,
        flags,
        new,
    }
}

/// For every number of steps that a move has made when the object begins to become shorter, and
/// every number of steps of that before the move goes on: nothing is mapped in the end.
fn moved_while_truncated(from: u64, to: u64) {
    for first in 0..12 {
        for then in 0..4 {
            let stage = Stage::new();
            let (object, space) = (stage.object(PAGES), &stage.space);
            map_shared(space, from, PAGES, &object);
            assert_eq!(read(space, from), FaultOutcome::Done);
            assert_eq!(mapped(&stage), PAGES as usize);
            let mut change = Some(space.begin(moving(from, to)).unwrap());
            for _ in 0..first {
                if change.as_mut().is_some_and(|c| c.step(space, 1).is_some()) {
                    change = None;
                }
            }
            let mut shorter = Resize::begin(&object, 0).unwrap();
            for _ in 0..then {
                shorter.step(1);
            }
            if let Some(change) = change {
                assert_eq!(finish(space, change), Ok(to));
            }
            while !shorter.step(1) {}
            assert_eq!(mapped(&stage), 0, "after {first} and {then} steps");
            drop((shorter, object));
            stage.end();
        }
    }
}

#[test]
fn a_visit_sees_what_moves_to_where_it_has_been() {
    moved_while_truncated(HIGH, LOW);
}

#[test]
fn a_visit_sees_what_moves_to_where_it_has_yet_to_come() {
    moved_while_truncated(LOW, HIGH);
}
