//! `killers FAULTS`: for every state that two processes can be in towards each other, one of them is
//! killed, exits or closes its handle, and the other one has to be told so, by the right error and soon.
//! FAULTS is the name of the program of that name.

mod kernels;
mod peers;
mod roles;
mod short;
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use programs::check;
use servers::{Outcome, arguments, finish};

use stage::Stage;

/// Between the moment when a victim is ready and what happens to it, in microseconds: it is on its way,
/// or long there.
const DELAYS: [u64; 3] = [0, 40, 1500];

type Scene = (&'static str, fn(&Stage));

const SCENES: &[Scene] = &[
    ("senders and callers in the queue", peers::queued_senders),
    ("two in the queue", peers::queue_of_two),
    ("callers that wait for an answer", peers::awaiting_callers),
    ("callers whose time is over", peers::impatient_callers),
    ("receivers", peers::receivers),
    (
        "receivers while they are called",
        peers::receivers_while_called,
    ),
    ("servers that owe an answer", peers::owing_servers),
    ("answers that have moved", peers::moved_answers),
    (
        "answers that were moved and given",
        peers::moved_answers_given,
    ),
    ("callers that are answered at once", short::callers),
    ("servers that answer at once", short::servers),
    ("handles on their way", peers::handles_in_transit),
    ("handles without room", peers::gifts_without_room),
    ("the end of the right to receive", peers::closing),
    ("suspended threads", peers::suspended),
    ("threads that suspend themselves", peers::suspends_itself),
    ("processes below a process", peers::trees),
    ("exceptions", kernels::exceptions),
    ("calls of Linux", kernels::calls),
    ("pages", kernels::pages),
    ("those who wait for an end", kernels::waiters),
];

fn main() -> ExitCode {
    let words = arguments();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        [] | ["faults"] => kill_all(),
        [role, ..] => roles::play(role),
    };
    finish("killers", outcome)
}

fn kill_all() -> Outcome {
    check::start("killers");
    let mut stage = Stage::new()?;
    for delay in DELAYS {
        stage.delay = Duration::from_micros(delay);
        for (status, (about, scene)) in (10..).zip(SCENES) {
            check::section(status, about);
            scene(&stage);
        }
    }
    check::pass();
    Ok(0)
}
