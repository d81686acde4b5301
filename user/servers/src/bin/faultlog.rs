//! `faultlog PROGRAM ARGS…`: runs a program and logs every page fault of it with its cost, the faults by
//! kind at the end, and the one that nothing could resolve, if it ended by that.

use std::process::ExitCode;

use servers::cost::{Costs, unit};
use servers::{Outcome, arguments, child, finish, usage};
use tessera::ResolvedFault;
use tessera::{Access, Binding, Command, Endpoint, Error, Event, Exception, Process, Received};

const KINDS: [Access; 3] = [Access::Read, Access::Write, Access::Execute];

fn main() -> ExitCode {
    finish("faultlog", log(&arguments()))
}

fn log(words: &[String]) -> Outcome {
    let [program, args @ ..] = words else {
        return usage("faultlog PROGRAM ARGS…");
    };
    let endpoint = Endpoint::create()?;
    let command = Command::find(program)?.args(args.iter().cloned()).console();
    let command = command.bind(Binding::Faults, &endpoint);
    let command = command.bind(Binding::Exceptions, &endpoint);
    let child = command.prepare(&Process::own()?)?;
    let mut log = Log::default();
    let end = child::follow(&child, &endpoint, |received| {
        log.note(received).map(|()| None)
    })?;
    log.summarize();
    println!("faultlog: {program} {}", child::tell(end));
    Ok(end.status() as u8)
}

#[derive(Default)]
struct Log {
    costs: [Costs; KINDS.len()],
}

impl Log {
    fn note(&mut self, received: Received) -> Result<(), Error> {
        match received.event {
            Event::Fault(fault, reply) => {
                self.add(&fault);
                reply.done(0)
            }
            Event::Exception(exception, reply) => {
                unresolved(&exception);
                reply.pass()
            }
            _ => Ok(()),
        }
    }

    fn add(&mut self, fault: &ResolvedFault) {
        let ResolvedFault {
            address, pc, cost, ..
        } = fault;
        let verb = fault.access.verb();
        println!("{verb:8} {address:#014x}  pc {pc:#014x}  {cost:6}");
        if let Some(kind) = KINDS.iter().position(|kind| *kind == fault.access) {
            self.costs[kind].add(*cost);
        }
    }

    fn summarize(&self) {
        println!("\nkind      faults   least    mean    most  {}", unit());
        for (kind, costs) in KINDS.iter().zip(&self.costs) {
            let Costs {
                count, least, most, ..
            } = costs;
            let (verb, mean) = (kind.verb(), costs.mean());
            println!("{verb:8} {count:7} {least:7} {mean:7} {most:7}");
        }
    }
}

fn unresolved(exception: &Exception) {
    let Exception {
        signal,
        code,
        address,
        pc,
        ..
    } = exception;
    let verb = exception.access.verb();
    println!("unresolved: {verb} {address:#x}  pc {pc:#x}  signal {signal}, code {code}");
}
