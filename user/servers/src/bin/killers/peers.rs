//! Senders, callers, receivers and those who owe answers.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;

use programs::{require, sys};
use tessera::{Child, Endpoint, Error, Event, Handle, Message, Process, Reply, Thread};

use crate::roles::{OTHER, PEER, call_of};
use crate::stage::{BADGE, BOUND, Stage, WHILE, end_of, exits, fails, is_empty, kill, must, pair};

fn receive_call(endpoint: &Endpoint) -> Reply {
    let received = must("a call", endpoint.receive_within(BOUND));
    require!(received.badge == BADGE, "badge {}", received.badge);
    let reply = call_of(received).ok_or(Error::Invalid);
    must("a call", reply)
}

/// A message in the queue goes with its sender.
pub fn queued_senders(stage: &Stage) {
    for role in ["send", "call"] {
        let (endpoint, client) = pair();
        let child = stage.start(role, &[(PEER, client.as_ref())]);
        stage.ready();
        kill(&child);
        is_empty(&endpoint);
    }
}

/// Of two in the queue the other one's is received.
pub fn queue_of_two(stage: &Stage) {
    let (endpoint, client) = pair();
    let children = [0, 1].map(|_| {
        let child = stage.start("send", &[(PEER, client.as_ref())]);
        stage.ready();
        child
    });
    kill(&children[0]);
    let received = must("a message", endpoint.receive_within(BOUND));
    let sent = matches!(received.event, Event::Send(_));
    require!(sent && received.badge == BADGE, "{received:?}");
    exits(&children[1], 0);
    is_empty(&endpoint);
}

/// An answer for a caller that has been killed finds nobody.
pub fn awaiting_callers(stage: &Stage) {
    let (endpoint, client) = pair();
    for saves in [false, true] {
        let child = stage.start("call", &[(PEER, client.as_ref())]);
        stage.ready();
        let reply = receive_call(&endpoint);
        let answered = match saves {
            true => {
                let saved = must("it is saved", reply.save());
                kill(&child);
                saved.answer(Message::new(0))
            }
            false => {
                kill(&child);
                reply.answer(Message::new(0))
            }
        };
        fails("an answer", answered, Error::Gone);
        is_empty(&endpoint);
    }
}

/// A caller whose time is over takes its message along, and an answer is too late.
pub fn impatient_callers(stage: &Stage) {
    let (endpoint, client) = pair();
    let child = stage.start("call-short", &[(PEER, client.as_ref())]);
    stage.ready();
    exits(&child, Error::TimedOut.number());
    is_empty(&endpoint);
    let child = stage.start("call-short", &[(PEER, client.as_ref())]);
    stage.ready();
    if let Ok(received) = endpoint.receive_within(WHILE) {
        let reply = must("a call", call_of(received).ok_or(Error::Invalid));
        exits(&child, Error::TimedOut.number());
        fails("an answer", reply.answer(Message::new(0)), Error::Gone);
    }
    end_of(&child);
}

/// The only receiver is killed: whoever sends is told.
pub fn receivers(stage: &Stage) {
    let (endpoint, client) = pair();
    let child = stage.start("receive", &[(PEER, endpoint.as_ref())]);
    drop(endpoint);
    stage.ready();
    kill(&child);
    let late = client.call_within(Message::new(1), BOUND);
    fails("a call", late, Error::Closed);
    let late = client.send_within(Message::new(1), BOUND);
    fails("a message", late, Error::Closed);
    fails("a notification", client.notify(1), Error::Closed);
}

/// The same while it is being called.
pub fn receivers_while_called(stage: &Stage) {
    let (endpoint, client) = pair();
    let child = stage.start("receive", &[(PEER, endpoint.as_ref())]);
    drop(endpoint);
    thread::scope(|scope| {
        let caller = scope.spawn(|| client.call_within(Message::new(1), BOUND));
        stage.ready();
        must("it is killed", child.process.kill(9));
        let called = must("the caller ends", caller.join().map_err(|_| "panic"));
        fails("a call", called, Error::Closed);
    });
    // It may have received the call, and have exited.
    end_of(&child);
}

/// Who owes an answer is killed, or goes.
pub fn owing_servers(stage: &Stage) {
    for role in ["owe", "owe-exit", "save"] {
        let (endpoint, client) = pair();
        let child = stage.start(role, &[(PEER, endpoint.as_ref())]);
        drop(endpoint);
        let called = thread::scope(|scope| {
            let caller = scope.spawn(|| client.call_within(Message::new(1), BOUND));
            match role {
                "owe-exit" => exits(&child, 0),
                _ => {
                    stage.ready();
                    kill(&child);
                }
            }
            must("the caller ends", caller.join().map_err(|_| "panic"))
        });
        fails(role, called, Error::Closed);
    }
}

/// A server that hands its answer to a third process.
fn with_third(stage: &Stage, role: &str) -> ([Child; 2], [Endpoint; 2]) {
    let (endpoint, client) = pair();
    let (for_third, to_third) = pair();
    let third = stage.start(role, &[(PEER, for_third.as_ref())]);
    let handles: [(u64, &Handle); 2] = [(PEER, endpoint.as_ref()), (OTHER, to_third.as_ref())];
    let server = stage.start("save-move", &handles);
    ([server, third], [client, to_third])
}

/// An answer that has moved outlives who was asked, and ends with who has it.
pub fn moved_answers(stage: &Stage) {
    let ([server, third], [client, _]) = with_third(stage, "keep");
    thread::scope(|scope| {
        let caller = scope.spawn(|| client.call_within(Message::new(1), BOUND));
        stage.ready();
        stage.ready();
        kill(&server);
        let waits = third.process.wait_within(WHILE);
        fails("the third one", waits, Error::TimedOut);
        require!(!caller.is_finished(), "the caller waits no longer");
        kill(&third);
        let called = must("the caller ends", caller.join().map_err(|_| "panic"));
        fails("a call", called, Error::Closed);
    });
}

/// The same when it is given after all.
pub fn moved_answers_given(stage: &Stage) {
    let ([server, third], [client, to_third]) = with_third(stage, "keep-answer");
    thread::scope(|scope| {
        let caller = scope.spawn(|| client.call_within(Message::new(1), BOUND));
        stage.ready();
        stage.ready();
        kill(&server);
        must("it is told", to_third.send_within(Message::new(1), BOUND));
        let called = must("the caller ends", caller.join().map_err(|_| "panic"));
        let word = must("an answer", called).word(0);
        require!(word == 9, "the answer is {word}");
    });
    exits(&third, 0);
}

/// A handle that nobody has received ends with its sender; one that was received stays.
pub fn handles_in_transit(stage: &Stage) {
    let (endpoint, client) = pair();
    let give = || {
        let child = stage.start("give", &[(PEER, client.as_ref())]);
        let given = stage.ready().take(0).ok_or(Error::NoHandle);
        (child, Endpoint::from(must("its client", given)))
    };
    let (child, to_given) = give();
    kill(&child);
    is_empty(&endpoint);
    let late = to_given.call_within(Message::new(1), BOUND);
    fails("a call", late, Error::Closed);

    let (child, to_given) = give();
    let received = must("a message", endpoint.receive_within(BOUND));
    let Event::Send(mut message) = received.event else {
        return require!(false, "{received:?}");
    };
    let given = must("a handle", message.take(0).ok_or(Error::NoHandle));
    exits(&child, 0);
    must("a notification", to_given.notify(1));
    let got = Endpoint::from(given).receive_within(BOUND);
    let rung = matches!(&got, Ok(got) if matches!(got.event, Event::Notification(1)));
    require!(rung, "{got:?}");
}

/// A handle in an answer to who has no room for it: the server has it no more, and must not be filled
/// with such handles.
pub fn gifts_without_room(stage: &Stage) {
    let (endpoint, client) = pair();
    let child = stage.start("full", &[(PEER, client.as_ref())]);
    let reply = receive_call(&endpoint);
    let (given, to_given) = pair();
    must("an answer", reply.answer(Message::new(1).give(0, given)));
    exits(&child, 0);
    let late = to_given.call_within(Message::new(1), BOUND);
    fails("a call", late, Error::Closed);
}

/// The last right to receive is closed while others wait in the queue.
pub fn closing(stage: &Stage) {
    for role in ["send", "call"] {
        let (endpoint, client) = pair();
        let child = stage.start(role, &[(PEER, client.as_ref())]);
        stage.ready();
        drop(endpoint);
        exits(&child, Error::Closed.number());
    }
}

/// What is received from a suspended thread, answered to it, and killed.
pub fn suspended(stage: &Stage) {
    let (endpoint, client) = pair();
    let call = || {
        let child = stage.start("call", &[(PEER, client.as_ref())]);
        stage.ready();
        must("it stops", child.thread.suspend());
        child
    };
    let child = call();
    must("it goes on", child.thread.resume());
    let reply = receive_call(&endpoint);
    must("it stops", child.thread.suspend());
    must("an answer", reply.answer(Message::new(0)));
    let ended = child.process.wait_within(WHILE);
    fails("a suspended thread", ended, Error::TimedOut);
    must("it goes on", child.thread.resume());
    exits(&child, 0);

    let child = call();
    kill(&child);
    fails("a thread that is gone", child.thread.resume(), Error::Gone);
    is_empty(&endpoint);
}

/// A thread that suspends itself stops there.
pub fn suspends_itself(_stage: &Stage) {
    let steps = AtomicU32::new(0);
    let own = must("the own process", Process::own());
    thread::scope(|scope| {
        let (number, told) = mpsc::channel();
        let (own, steps) = (&own, &steps);
        scope.spawn(move || {
            let tid = sys::gettid();
            let itself = must("the own thread", Thread::open(own, tid));
            steps.store(1, SeqCst);
            number.send(tid).ok();
            must("it stops", itself.suspend());
            steps.store(2, SeqCst);
        });
        let tid = must("its number", told.recv());
        thread::sleep(WHILE.unwrap_or_default());
        let seen = steps.load(SeqCst);
        require!(seen == 1, "step {seen}");
        let other = must("the thread", Thread::open(own, tid));
        must("it goes on", other.resume());
    });
    require!(steps.load(SeqCst) == 2, "it did not go on");
}

/// The end of a process is that of those below it, whatever they wait for.
pub fn trees(stage: &Stage) {
    let (endpoint, client) = pair();
    let child = stage.start_above("tree", &client);
    stage.ready();
    let reply = receive_call(&endpoint);
    kill(&child);
    fails("an answer", reply.answer(Message::new(0)), Error::Gone);
    is_empty(&endpoint);
}
