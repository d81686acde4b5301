//! The other side: what a process does that is killed, or whose peer is. Its status is the number of
//! the error that it got.

use std::thread;
use std::time::Duration;

use servers::Outcome;
use tessera::{Command, Endpoint, Error, Event, Handle, MemoryObject, Message, Process, Prot};
use tessera::{Received, Reply, SavedReply};

use crate::short;

/// Where a victim finds its peer, the one that it tells that it is ready, and something else.
pub const PEER: u64 = 70;
pub const HOME: u64 = 71;
pub const OTHER: u64 = 72;
/// The status of a waiter is this and the status of whom it waited for.
pub const WAITED: i32 = 50;

/// Plays a role to its end.
pub fn play(role: &str) -> Outcome {
    let done = match role {
        "exit" => Ok(()),
        "sleep" => ready().and_then(|()| sleep()),
        "send" => ready().and_then(|()| peer()?.send(Message::new(1))),
        "call" => ready().and_then(|()| peer()?.call(Message::new(1)).map(drop)),
        "call-short" => ready().and_then(|()| call_short()),
        "call-all" => ready().and_then(|()| Err(short::call_all(&peer()?).1)),
        "answer-all" => ready().and_then(|()| short::answer_all(&peer()?).map(drop)),
        "receive" => ready().and_then(|()| peer()?.receive().map(drop)),
        "owe" => owed().and_then(|(_peer, _reply)| ready().and_then(|()| sleep())),
        "owe-exit" => owed().map(drop),
        "save" => save(),
        "save-move" => save_and_move(),
        "keep" => kept().and_then(|_saved| ready().and_then(|()| sleep())),
        "keep-answer" => keep_and_answer(),
        "give" => give(),
        "full" => full(),
        "page" => page(),
        "wait" => return wait(),
        "tree" => return tree(),
        _ => return servers::usage("killers PROGRAM"),
    };
    Ok(done.err().map_or(0, |error| error.number() as u8))
}

fn peer() -> Result<Endpoint, Error> {
    Handle::at(PEER).map(Endpoint::from)
}

fn other() -> Result<Handle, Error> {
    Handle::at(OTHER)
}

/// Says that what comes next is what this process is about.
fn ready() -> Result<(), Error> {
    Endpoint::from(Handle::at(HOME)?).send(Message::new(0))
}

fn sleep() -> Result<(), Error> {
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

fn call_short() -> Result<(), Error> {
    let limit = Some(Duration::from_millis(3));
    peer()?.call_within(Message::new(1), limit).map(drop)
}

/// Receives a call.
fn owed() -> Result<(Endpoint, Reply), Error> {
    let peer = peer()?;
    match peer.receive()?.event {
        Event::Call(_, reply) => Ok((peer, reply)),
        _ => Err(Error::Invalid),
    }
}

fn save() -> Result<(), Error> {
    let (_peer, reply) = owed()?;
    let _saved = reply.save()?;
    ready()?;
    sleep()
}

/// Saves an answer and has somebody else give it.
fn save_and_move() -> Result<(), Error> {
    let (_peer, reply) = owed()?;
    let other = Endpoint::from(other()?);
    other.send(Message::new(1).give(0, reply.save()?))?;
    ready()?;
    sleep()
}

fn kept() -> Result<(Endpoint, SavedReply), Error> {
    let peer = peer()?;
    match peer.receive()?.event {
        Event::Send(mut message) => {
            let saved = message.take(0).ok_or(Error::NoHandle)?;
            Ok((peer, saved.into()))
        }
        _ => Err(Error::Invalid),
    }
}

/// Gives an answer that another process was asked for, when it is told to.
fn keep_and_answer() -> Result<(), Error> {
    let (peer, saved) = kept()?;
    ready()?;
    peer.receive()?;
    saved.answer(Message::new(2).number(0, 9))
}

/// Sends the one right to receive from an endpoint.
fn give() -> Result<(), Error> {
    let given = Endpoint::create()?;
    let client = given.client(3)?;
    let home = Endpoint::from(Handle::at(HOME)?);
    home.send(Message::new(0).give(0, client))?;
    peer()?.send(Message::new(1).give(0, given))
}

/// Calls when there is no room for another handle: none must arrive.
fn full() -> Result<(), Error> {
    let peer = peer()?;
    let mut all = Vec::new();
    let refused = loop {
        match Endpoint::create() {
            Ok(endpoint) => all.push(endpoint),
            Err(error) => break error,
        }
    };
    if !matches!(refused, Error::TooManyHandles | Error::Quota) {
        return Err(refused);
    }
    match peer.call(Message::new(1))?.take(0) {
        None => Ok(()),
        Some(_) => Err(Error::Exists),
    }
}

fn page() -> Result<(), Error> {
    let memory = MemoryObject::from(other()?);
    let mapping = memory.map(0, tessera::PAGE, Prot::READ)?;
    ready()?;
    let mut word = [0; 8];
    mapping.read(0, &mut word);
    match word {
        [0, ..] => Ok(()),
        _ => Err(Error::Invalid),
    }
}

fn wait() -> Outcome {
    let process = Process::from(other()?);
    ready()?;
    Ok((WAITED + process.wait()?.status() % 64) as u8)
}

/// Starts a process below this one, which calls.
fn tree() -> Outcome {
    let own = Process::own()?;
    let (peer, home) = (Handle::at(PEER)?, Handle::at(HOME)?);
    let command = Command::find("program")?.arg("call").console();
    let command = command.handle(PEER, &peer).handle(HOME, &home);
    let below = command.spawn(&own)?;
    Ok(below.process.wait()?.status() as u8)
}

/// The call in a message, if it is one.
pub fn call_of(received: Received) -> Option<Reply> {
    match received.event {
        Event::Call(_, reply) => Some(reply),
        _ => None,
    }
}
