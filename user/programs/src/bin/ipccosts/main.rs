//! What threads and messages cost a program, in instructions: rows as `mmcosts` prints them.

mod calls;
mod threads;

use programs::check;
use programs::measure::Choice;

fn main() {
    check::start("ipccosts");
    check::aarch64_only();
    let choice = Choice::from_arguments();
    threads::hand_over(&choice);
    threads::life(&choice);
    println!("ipccosts: done");
}
