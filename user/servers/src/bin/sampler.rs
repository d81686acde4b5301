//! `sampler PROGRAM ARGS…`: runs a program, stops its first thread every 100 microseconds to see where
//! it is, and tells the places that were seen most: a profiler that needs nothing of the program.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use servers::child::Answer;
use servers::{Outcome, arguments, child, finish, usage};
use tessera::{Child, Command, Endpoint, Error, Event, Process, Received};

/// The notification bit of the timer.
const TICK: u64 = 1;
/// Time between two looks.
const INTERVAL: Duration = Duration::from_micros(100);
/// Code is told apart by pieces of so many bytes.
const PIECE: u64 = 64;
/// Places that are told.
const TOLD: usize = 5;

fn main() -> ExitCode {
    finish("sampler", sample(&arguments()))
}

fn sample(words: &[String]) -> Outcome {
    let [program, args @ ..] = words else {
        return usage("sampler PROGRAM ARGS…");
    };
    let endpoint = Endpoint::create()?;
    let command = Command::find(program)?.args(args.iter().cloned()).console();
    let child = command.prepare(&Process::own()?)?;
    let mut samples = Samples {
        child: &child,
        endpoint: &endpoint,
        seen: HashMap::new(),
    };
    endpoint.notify_after(TICK, INTERVAL)?;
    let end = child::follow(&child, &endpoint, |received| samples.take(&received))?;
    samples.tell();
    println!("sampler: {program} {}", child::tell(end));
    Ok(end.status() as u8)
}

struct Samples<'a> {
    child: &'a Child,
    endpoint: &'a Endpoint,
    /// How often each piece of code was seen.
    seen: HashMap<u64, u64>,
}

impl Samples<'_> {
    fn take(&mut self, received: &Received) -> Result<Option<Answer>, Error> {
        if let Event::Notification(TICK) = received.event {
            match self.look() {
                Ok(pc) => *self.seen.entry(pc / PIECE).or_default() += 1,
                // It has ended, and the process is about to, or goes on without it.
                Err(Error::Gone | Error::Busy) => {}
                Err(error) => return Err(error),
            }
            self.endpoint.notify_after(TICK, INTERVAL)?;
        }
        Ok(None)
    }

    fn look(&self) -> Result<u64, Error> {
        let thread = &self.child.thread;
        thread.suspend()?;
        let registers = thread.registers();
        thread.resume()?;
        registers.map(|registers| registers.pc)
    }

    fn tell(&self) {
        let mut places: Vec<_> = self.seen.iter().map(|(at, count)| (*count, *at)).collect();
        places.sort_unstable_by(|one, other| other.cmp(one));
        let all: u64 = places.iter().map(|(count, _)| count).sum();
        println!("sampler: {all} samples");
        for (count, at) in places.into_iter().take(TOLD) {
            println!("{:5} %  {:#014x}", 100 * count / all, at * PIECE);
        }
    }
}
