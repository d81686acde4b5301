//! Which thread runs where: CPUs, policies, priorities; what the end of a thread leaves behind; and,
//! with `end`, the end of the program while threads wait in every way.

mod affinity;
mod end;
mod policies;
mod robust;

use programs::check;
use programs::sys;

fn main() {
    check::start("sched");
    if std::env::args().nth(1).as_deref() == Some("end") {
        end::end();
    }
    affinity::errors();
    affinity::honoured();
    affinity::inherited();
    policies::answers();
    policies::nice();
    if sys::is_tessera() {
        policies::preemption();
        policies::by_handle();
    }
    robust::owner_dies();
    robust::odd_word();
    check::pass();
}

/// A call on scheduling: numbers, and memory of the caller that outlives it.
fn call(number: usize, args: [usize; 3]) -> isize {
    // SAFETY: the calls made here write to the memory that they are given, which is of plain numbers,
    // or are refused.
    unsafe { sys::syscall(number, [args[0], args[1], args[2], 0, 0, 0]) }
}
