//! `echo`: a server and its clients, each a process of its own. The clients send, call, lend memory,
//! run into a time-out, wait for an answer that comes late, and ring a bell; at last one of them
//! measures a round trip. A process that never ends is
//! ended.

use std::process::ExitCode;
use std::time::Duration;

use servers::child::Answer;
use servers::cost::{Costs, unit};
use servers::{Outcome, arguments, child, finish, usage};
use tessera::{Command, Endpoint, Error, Event, Handle, MemoryObject, Message, Process, Prot};
use tessera::{Received, Reply, SavedReply, SpawnError};

/// Where a client finds its handle of the server's endpoint.
const SERVER: u64 = 70;
/// Notification bits: the client's bell, and the server's own timer.
const BELL: u64 = 1;
const TIMER: u64 = 2;
/// SIGKILL.
const KILL: u32 = 9;
/// Calls that are measured.
const ROUNDS: u64 = 1000;

/// What a message is about.
mod label {
    /// Sent: a number.
    pub const HELLO: u32 = 1;
    /// The words come back, the badge with them.
    pub const ECHO: u32 = 2;
    /// Word 0 is a memory object; its text comes back in capitals.
    pub const CAPITALS: u32 = 3;
    /// The answer comes after five milliseconds.
    pub const LATER: u32 = 4;
    /// There is no answer.
    pub const NEVER: u32 = 5;
}

fn main() -> ExitCode {
    let words = arguments();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    finish(
        "echo",
        match words[..] {
            [] => server(),
            ["client"] => client(),
            ["spin"] => loop {
                std::hint::spin_loop();
            },
            _ => usage("echo"),
        },
    )
}

fn server() -> Outcome {
    let own = Process::own()?;
    let endpoint = Endpoint::create()?;
    for badge in 1..=2 {
        let handle = endpoint.client(badge)?;
        let command = Command::find("program")?.arg("client").console();
        let child = command.handle(SERVER, &handle).prepare(&own)?;
        let mut server = Server::new(&endpoint);
        let end = child::follow(&child, &endpoint, |received| server.serve(received))?;
        let calls = server.calls;
        println!("server: client {badge} {}, {calls} calls", child::tell(end));
    }
    stop(&own)?;
    Ok(0)
}

/// Starts a process that would never end, and ends it.
fn stop(own: &Process) -> Result<(), SpawnError> {
    let command = Command::find("program")?.arg("spin").console();
    let spinner = command.spawn(own)?;
    let patience = Some(Duration::from_millis(20));
    let waited = spinner.process.wait_within(patience);
    println!("server: waiting for a process that spins: {waited:?}");
    spinner.process.kill(KILL)?;
    let end = spinner.process.wait()?;
    println!("server: it {}", child::tell(end));
    Ok(())
}

struct Server<'a> {
    endpoint: &'a Endpoint,
    calls: u64,
    late: Option<SavedReply>,
    never: Option<SavedReply>,
}

impl<'a> Server<'a> {
    const fn new(endpoint: &'a Endpoint) -> Self {
        Self {
            endpoint,
            calls: 0,
            late: None,
            never: None,
        }
    }

    fn serve(&mut self, received: Received) -> Result<Option<Answer>, Error> {
        match received.event {
            Event::Send(message) => {
                println!("server: {} from client {}", message.word(0), received.badge);
            }
            Event::Call(message, reply) if message.label == label::ECHO => {
                self.calls += 1;
                let answer = Message::new(label::ECHO).number(0, message.word(0));
                return Ok(Some((reply, answer.number(1, received.badge))));
            }
            Event::Call(message, reply) => {
                self.calls += 1;
                self.call(message, reply)?;
            }
            Event::Notification(bits) => self.notified(bits)?,
            other => println!("server: unexpected {other:?}"),
        }
        Ok(None)
    }

    fn call(&mut self, mut message: Message<'_>, reply: Reply) -> Result<(), Error> {
        match message.label {
            label::CAPITALS => {
                let memory = message.take(0).ok_or(Error::Invalid)?;
                capitals(&memory.into(), message.word(1) as usize)?;
                reply.answer(Message::new(0))
            }
            label::LATER => {
                self.late = Some(reply.save()?);
                self.endpoint.notify_after(TIMER, Duration::from_millis(5))
            }
            label::NEVER => {
                self.never = Some(reply.save()?);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn notified(&mut self, bits: u64) -> Result<(), Error> {
        if bits & BELL != 0 {
            println!("server: the bell rang");
        }
        match self.late.take().filter(|_| bits & TIMER != 0) {
            Some(late) => late.answer(Message::new(label::LATER).number(0, 5)),
            None => Ok(()),
        }
    }
}

/// Changes the text in a client's memory.
fn capitals(memory: &MemoryObject, len: usize) -> Result<(), Error> {
    let mapping = memory.map(0, len, Prot::READ | Prot::WRITE)?;
    let mut text = vec![0; len];
    mapping.read(0, &mut text);
    println!("server: lent `{}`", String::from_utf8_lossy(&text));
    text.make_ascii_uppercase();
    mapping.write(0, &text);
    Ok(())
}

fn client() -> Outcome {
    let server = Endpoint::from(Handle::at(SERVER)?);
    server.send(Message::new(label::HELLO).number(0, 42))?;
    let answer = server.call(Message::new(label::ECHO).number(0, 7))?;
    let (word, badge) = (answer.word(0), answer.word(1));
    println!("client: {word} came back, I am client {badge}");
    lend(&server)?;
    let late = server.call(Message::new(label::LATER))?;
    println!("client: an answer after {} ms", late.word(0));
    let limit = Some(Duration::from_millis(2));
    let never = server.call_within(Message::new(label::NEVER), limit);
    println!("client: {}", never.err().ok_or("an answer to `never`")?);
    server.notify(BELL)?;
    let mut costs = Costs::default();
    for round in 0..ROUNDS {
        let message = Message::new(label::ECHO).number(0, round);
        let answer = costs.measure(|| server.call(message))?;
        if answer.word(0) != round {
            return Err(format!("{round} came back as {}", answer.word(0)).into());
        }
    }
    let (least, mean, unit) = (costs.least, costs.mean(), unit());
    println!("client: a call and its answer: {least} {unit} at least, {mean} on average");
    Ok(0)
}

fn lend(server: &Endpoint) -> Result<(), Error> {
    let text = b"what the client wrote";
    let memory = MemoryObject::with_contents("letter", text)?;
    let message = Message::new(label::CAPITALS).lend(0, &memory);
    server.call(message.number(1, text.len() as u64))?;
    let mut seen = vec![0; text.len()];
    memory.read_at(0, &mut seen)?;
    println!("client: now it says `{}`", String::from_utf8_lossy(&seen));
    Ok(())
}
