//! `storm PROGRAM [ROUNDS] [SEED]`: runs a program again and again with different seeds as its argument,
//! within limits and for a short time, and sees that nothing of it is left afterwards. It is made for
//! `nativecalls`, which makes random calls of the kernel's own.

use std::process::ExitCode;
use std::time::Duration;

use servers::{Outcome, arguments, child, finish, usage};
use tessera::{Child, Command, End, Endpoint, Error, Limits, Process, slot};

/// What a program may use: a stack takes 2048 pages of it, touched or not.
const LIMITS: Limits = Limits {
    pages: 8192,
    handles: 256,
    threads: 16,
};
/// Calls of each of its threads.
const CALLS: u64 = 2000;
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where it finds an endpoint that nobody receives from.
const ENDPOINT: u64 = 70;
/// SIGKILL.
const KILL: u32 = 9;

fn main() -> ExitCode {
    finish("storm", run(&arguments()))
}

fn run(words: &[String]) -> Outcome {
    let [program, numbers @ ..] = words else {
        return usage("storm PROGRAM [ROUNDS] [SEED]");
    };
    let numbers: Result<Vec<u64>, _> = numbers.iter().map(|word| word.parse()).collect();
    match numbers?[..] {
        [] => storm(program, 10, 1),
        [rounds] => storm(program, rounds, 1),
        [rounds, seed, ..] => storm(program, rounds, seed),
    }
}

fn storm(program: &str, rounds: u64, first: u64) -> Outcome {
    let own = Process::own()?;
    let endpoint = Endpoint::create()?;
    let before = own.usage()?;
    for seed in first..first + rounds {
        let end = round(&own, &endpoint, program, seed)?;
        println!("storm: seed {seed} {}", child::tell(end));
        let after = own.usage()?;
        if (after.handles, after.threads) != (before.handles, before.threads) {
            return Err(format!("{before:?} before, {after:?} after seed {seed}").into());
        }
    }
    println!("storm: pass ({rounds} rounds)");
    Ok(0)
}

fn round(
    own: &Process,
    endpoint: &Endpoint,
    program: &str,
    seed: u64,
) -> Result<End, Box<dyn std::error::Error>> {
    let client = endpoint.client(seed)?;
    let command = Command::find(program)?.arg(seed.to_string());
    let command = command.arg(CALLS.to_string()).console().limits(LIMITS);
    let command = command.handle(ENDPOINT, &client);
    let Child { process, thread } = command.prepare(own)?;
    process.give(Some(slot::PROCESS), &process, None)?;
    thread.resume()?;
    match process.wait_within(Some(PATIENCE)) {
        Err(Error::TimedOut) => {
            process.kill(KILL)?;
            Ok(process.wait()?)
        }
        ended => Ok(ended?),
    }
}
