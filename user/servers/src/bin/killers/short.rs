//! Calls and answers one after the other, with no time-out, so that the CPU goes from thread to thread
//! past the scheduler; and one of the two is killed somewhere in the middle.

use std::thread;

use programs::require;
use tessera::{Endpoint, Error, Event, Message};

use crate::roles::PEER;
use crate::stage::{Stage, fails, kill, must, pair};

/// Tells a server to end.
const STOP: u64 = 1;

/// Answers calls with the number after theirs, until it is told to stop. How many they were.
pub fn answer_all(endpoint: &Endpoint) -> Result<u64, Error> {
    let mut received = endpoint.receive()?;
    for answered in 0.. {
        received = match received.event {
            Event::Call(message, reply) => {
                let next = Message::new(0).number(0, message.word(0) + 1);
                reply.answer_and_receive(next, endpoint, None)?
            }
            _ => return Ok(answered),
        };
    }
    Ok(0)
}

/// Calls until there is nobody any more. How often it was answered, and why it has ended.
pub fn call_all(server: &Endpoint) -> (u64, Error) {
    let mut number = 0;
    loop {
        match server.call(Message::new(0).number(0, number)) {
            Ok(answer) if answer.word(0) == number + 1 => number += 1,
            Ok(_) => return (number, Error::Invalid),
            Err(error) => return (number, error),
        }
    }
}

/// The caller is killed: the server waits on, and serves others.
pub fn callers(stage: &Stage) {
    let (endpoint, client) = pair();
    let served = thread::scope(|scope| {
        let server = scope.spawn(|| answer_all(&endpoint));
        let child = stage.start("call-all", &[(PEER, client.as_ref())]);
        stage.ready();
        kill(&child);
        let answer = must("another call", client.call(Message::new(0).number(0, 7)));
        require!(answer.word(0) == 8, "answered with {}", answer.word(0));
        must("it is told", client.notify(STOP));
        must("the server ends", server.join().map_err(|_| "panic"))
    });
    require!(must("calls are served", served) > 0, "no call came");
}

/// The server is killed: whoever waits for it is told, and whoever calls next.
pub fn servers(stage: &Stage) {
    let (endpoint, client) = pair();
    let child = stage.start("answer-all", &[(PEER, endpoint.as_ref())]);
    drop(endpoint);
    let (_answered, why) = thread::scope(|scope| {
        let caller = scope.spawn(|| call_all(&client));
        stage.ready();
        kill(&child);
        must("the caller ends", caller.join().map_err(|_| "panic"))
    });
    require!(why == Error::Closed, "the caller was told {why:?}");
    fails("a call", client.call(Message::new(0)), Error::Closed);
}
