//! What memory management costs a program, in instructions: one line for each row.
//!
//!     row NAME UNIT COUNT INSTRUCTIONS FAULTS
//!     skip NAME ERRNO WHERE
//!     undone NAME WHAT
//!
//! A row is the median of `reps=N` repetitions (5), and INSTRUCTIONS those of all COUNT operations
//! of that one. Every group looks after its operations whether they did their work; a row whose
//! work was not done, or not with folios of the size it is named after, is `undone`. `only=A,B`
//! chooses groups (with their suffix) by the beginnings of their names; `row=NAME` measures one row
//! alone, between calls of `profile_begin` and `profile_end`, for a profiler that watches for them.

mod anonymous;
mod calls;
mod folios;
mod pages;
mod shared;

use folios::Size;
use programs::check;
use programs::measure::Choice;

fn main() {
    check::start("mmcosts");
    check::aarch64_only();
    let choice = Choice::from_arguments();
    calls::calibration(&choice);
    calls::null(&choice);
    for size in Size::ALL {
        anonymous::writes(&choice, size);
        anonymous::populate(&choice, size);
    }
    anonymous::reads(&choice);
    shared::memfd(&choice);
    for size in [Size::Small, Size::Medium] {
        shared::anonymous(&choice, size);
    }
    calls::one_page(&choice);
    for size in Size::ALL {
        calls::protect(&choice, size);
    }
    calls::protect_one_page(&choice);
    println!("mmcosts: done");
}
