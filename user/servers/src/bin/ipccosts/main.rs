//! What threads and messages cost a program, in instructions: rows as `mmcosts` prints them.

mod calls;
mod messages;
mod threads;

use std::process::ExitCode;

use programs::check;
use programs::measure::Choice;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if let [first, what] = &words[..]
        && first == "other"
    {
        return ExitCode::from(messages::other(what));
    }
    check::start("ipccosts");
    check::aarch64_only();
    let choice = Choice::from_arguments();
    threads::hand_over(&choice);
    threads::life(&choice);
    messages::calls(&choice);
    messages::linux_calls(&choice);
    messages::pages(&choice);
    println!("ipccosts: done");
    ExitCode::SUCCESS
}
