//! `persona PROGRAM ARGS…`: a personality server. It runs an unmodified Linux program and answers the
//! calls that are neither about memory nor about threads: the name of the system, files (those of the
//! initial RAM disk, read only), and signals, which it delivers itself. All others it passes back.

mod files;
mod frame;
mod signals;

use std::process::ExitCode;

use servers::{Outcome, arguments, child, finish, usage};
use tessera::{Binding, Command, Endpoint, Error, Event, LinuxCall, Process, Received, Reply};

use signals::Signals;

/// Numbers of Linux's calls on arm64.
mod number {
    pub const OPENAT: u32 = 56;
    pub const SIGALTSTACK: u32 = 132;
    pub const RT_SIGACTION: u32 = 134;
    pub const RT_SIGPROCMASK: u32 = 135;
    pub const RT_SIGRETURN: u32 = 139;
    pub const UNAME: u32 = 160;
}

fn main() -> ExitCode {
    finish("persona", run(&arguments()))
}

fn run(words: &[String]) -> Outcome {
    let [program, args @ ..] = words else {
        return usage("persona PROGRAM ARGS…");
    };
    let endpoint = Endpoint::create()?;
    let command = Command::find(program)?.args(args.iter().cloned()).console();
    let command = command.bind(Binding::Calls, &endpoint);
    let command = command.bind(Binding::Exceptions, &endpoint);
    let child = command.prepare(&Process::own()?)?;
    let mut persona = Persona {
        process: &child.process,
        signals: Signals::new(&child.process)?,
    };
    let end = child::follow(&child, &endpoint, |received| {
        persona.serve(received).map(|()| None)
    })?;
    println!("persona: {program} {}", child::tell(end));
    Ok(end.status() as u8)
}

struct Persona<'a> {
    process: &'a Process,
    signals: Signals<'a>,
}

impl Persona<'_> {
    fn serve(&mut self, received: Received) -> Result<(), Error> {
        let answered = match received.event {
            Event::LinuxCall(call, reply) => self.call(received.sender, &call, reply),
            Event::Exception(exception, reply) => {
                self.signals.deliver(received.sender, &exception, reply)
            }
            _ => Ok(()),
        };
        match answered {
            // The program was ended meanwhile.
            Err(Error::Gone) => Ok(()),
            answered => answered,
        }
    }

    fn call(&mut self, thread: u64, call: &LinuxCall, reply: Reply) -> Result<(), Error> {
        let result = match call.number {
            number::UNAME => files::uname(self.process, call.arguments[0]),
            number::OPENAT => match files::open(self.process, call.arguments) {
                Some(result) => result,
                None => return reply.pass(),
            },
            number::RT_SIGACTION => self.signals.action(call.arguments),
            number::RT_SIGPROCMASK => self.signals.mask(thread, call.arguments),
            number::SIGALTSTACK => {
                self.signals.note_stack(thread, call.arguments[0]);
                return reply.pass();
            }
            number::RT_SIGRETURN => return self.signals.go_back(thread, reply),
            _ => return reply.pass(),
        };
        match result {
            Ok(value) => reply.done(value),
            Err(error) => reply.failed(error),
        }
    }
}

/// A word of a program's memory.
fn word(process: &Process, address: u64) -> Result<u64, Error> {
    words::<1>(process, address).map(|[word]| word)
}

/// Words of a program's memory.
fn words<const N: usize>(process: &Process, address: u64) -> Result<[u64; N], Error> {
    let mut bytes = vec![0; 8 * N];
    if process.read_memory(address, &mut bytes)? < bytes.len() {
        return Err(Error::BadAddress);
    }
    Ok(std::array::from_fn(|n| frame::word(&bytes, 8 * n)))
}
