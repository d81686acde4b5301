//! What operations cost, measured in the booted kernel as it is optimised to be shipped
//! (`cargo xtask bench`). Part of images with the feature `bench` only.

mod pager;
mod pgtable;

use crate::arch::{events, time};
use crate::control;

/// Why a group could not be measured.
type Failure = &'static str;

/// What some work has cost.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    instructions: u64,
    /// TLB invalidations, data barriers, instruction barriers.
    events: [u64; 3],
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.instructions += other.instructions;
        for (sum, more) in self.events.iter_mut().zip(other.events) {
            *sum += more;
        }
    }
}

/// Runs the group that `tessera.bench=` names; the status to end with.
pub fn run(group: &str) -> u32 {
    let measured = match group {
        "pager" => pager::run(),
        "pgtable" => pgtable::run(),
        _ => Err("no such group"),
    };
    match measured {
        Ok(()) => {
            control::line(format_args!("bench-done group={group}"));
            0
        }
        Err(why) => {
            log::error!("benchmark {group}: {why}");
            control::line(format_args!("bench-failed group={group} text={why}"));
            1
        }
    }
}

/// Runs `work` and returns what it cost, without what measuring costs.
fn measure<R>(work: impl FnOnce() -> R) -> (R, Cost) {
    let (_, nothing) = raw(|| ());
    let (result, mut cost) = raw(work);
    cost.instructions = cost.instructions.saturating_sub(nothing.instructions);
    (result, cost)
}

#[inline(always)]
fn raw<R>(work: impl FnOnce() -> R) -> (R, Cost) {
    let before = events::counts();
    let start = time::cycles();
    let result = core::hint::black_box(work());
    let end = time::cycles();
    let after = events::counts();
    let mut events = [0; 3];
    for (count, (after, before)) in events.iter_mut().zip(after.into_iter().zip(before)) {
        *count = after - before;
    }
    let counting = events::COST * events.iter().sum::<u64>();
    let cost = Cost {
        instructions: (end - start).saturating_sub(counting),
        events,
    };
    (result, cost)
}

/// Says what `count` of `unit` have cost.
fn row(name: &str, unit: &str, count: u64, cost: Cost) {
    let Cost {
        instructions,
        events: [tlbi, dsb, isb],
    } = cost;
    control::line(format_args!(
        "bench-row name={name} unit={unit} count={count} instructions={instructions} tlbi={tlbi} \
         dsb={dsb} isb={isb}"
    ));
}
