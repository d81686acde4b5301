//! What the kernel says for a thread, and what it waits for: exceptions, calls, pages, ends.

use std::time::Duration;

use programs::require;
use tessera::{Binding, Child, Command, Endpoint, Error, Event, Handle, MemoryObject, PAGE};
use tessera::{Pager, PagerOptions, Reply, Rights};

use crate::roles::{OTHER, WAITED};
use crate::stage::{BOUND, Stage, WHILE, dies, end_of, exits, fails, kill, must, pair};

const SIGBUS: u32 = 7;
const SIGSEGV: u32 = 11;

/// Starts a program that reads address 0, with its exceptions bound.
fn faulting(stage: &Stage) -> (Child, Endpoint) {
    let (endpoint, client) = pair();
    let command = must("a program that faults", Command::find("faults"));
    let command = command.arg("null-read").console();
    let child = stage.start_bound(command.bind(Binding::Exceptions, &client));
    stage.pause();
    (child, endpoint)
}

fn exception(endpoint: &Endpoint) -> Reply {
    let received = must("an exception", endpoint.receive_within(BOUND));
    match received.event {
        Event::Exception(exception, reply) => {
            require!(exception.signal == SIGSEGV, "{exception:?}");
            reply
        }
        other => must("an exception", Err(format!("{other:?}"))),
    }
}

/// A thread that waits for what becomes of its exception is killed; or is told in time that nobody
/// will say.
pub fn exceptions(stage: &Stage) {
    let (child, endpoint) = faulting(stage);
    let reply = exception(&endpoint);
    kill(&child);
    fails("an answer", reply.pass(), Error::Gone);

    let (child, endpoint) = faulting(stage);
    drop(endpoint);
    dies(&child, SIGSEGV);

    let (child, endpoint) = faulting(stage);
    let _not_answered = exception(&endpoint);
    fails(
        "nothing more",
        endpoint.receive_within(WHILE),
        Error::TimedOut,
    );
    dies(&child, SIGSEGV);

    let (child, endpoint) = faulting(stage);
    drop(must("it is saved", exception(&endpoint).save()));
    dies(&child, SIGSEGV);
}

/// A Linux call that nobody serves any more is one that nobody serves.
pub fn calls(stage: &Stage) {
    let start = || {
        let (endpoint, client) = pair();
        let command = stage.role("exit").bind(Binding::Calls, &client);
        (stage.start_bound(command), endpoint)
    };
    let (child, endpoint) = start();
    stage.pause();
    drop(endpoint);
    exits(&child, 0);

    let (child, endpoint) = start();
    match endpoint
        .receive_within(BOUND)
        .map(|received| received.event)
    {
        Ok(Event::LinuxCall(_, reply)) => {
            kill(&child);
            fails("an answer", reply.done(0), Error::Gone);
        }
        other => require!(false, "not a call: {other:?}"),
    }
}

/// Starts a process that needs a page.
fn paged(stage: &Stage, limit: Option<Duration>) -> (Child, Endpoint) {
    let (endpoint, _) = pair();
    let options = PagerOptions {
        limit,
        ..PagerOptions::default()
    };
    let pager = Pager::create(&endpoint, PAGE as u64, options, &[][..]);
    let pager: Pager<&[u8]> = must("a pager", pager);
    let object: &Handle = pager.object().as_ref();
    let shared = object.duplicate(Rights::READ | Rights::TRANSFER);
    let shared = MemoryObject::from(must("a handle for it", shared));
    let child = stage.start("page", &[(OTHER, shared.as_ref())]);
    stage.ready();
    (child, endpoint)
}

fn request(endpoint: &Endpoint) -> Reply {
    let received = must("a request", endpoint.receive_within(BOUND));
    match received.event {
        Event::Page(_, reply) => reply,
        other => must("a request", Err(format!("{other:?}"))),
    }
}

/// A thread that waits for a page is killed, or has a bus error when none is coming.
pub fn pages(stage: &Stage) {
    let (child, endpoint) = paged(stage, None);
    let reply = request(&endpoint);
    kill(&child);
    fails("an answer", reply.done(0), Error::Gone);

    let (child, endpoint) = paged(stage, None);
    drop(endpoint);
    dies(&child, SIGBUS);

    let (child, endpoint) = paged(stage, None);
    drop(must("it is saved", request(&endpoint).save()));
    dies(&child, SIGBUS);

    let (child, endpoint) = paged(stage, WHILE);
    dies(&child, SIGBUS);
    fails(
        "nobody asks",
        endpoint.receive_within(WHILE),
        Error::TimedOut,
    );

    // One that says that it is there, when it is not, over and over.
    let (child, endpoint) = paged(stage, None);
    while let Ok(received) = endpoint.receive_within(WHILE) {
        if let Event::Page(_, reply) = received.event {
            // It may have given up.
            let _ = reply.done(0);
        }
    }
    dies(&child, SIGBUS);
}

/// Who waits for an end is killed, or told.
pub fn waiters(stage: &Stage) {
    let start = || {
        let sleeper = stage.start("sleep", &[]);
        stage.ready();
        let waiter = stage.start("wait", &[(OTHER, sleeper.process.as_ref())]);
        stage.ready();
        (sleeper, waiter)
    };
    let (sleeper, waiter) = start();
    fails(
        "a wait",
        sleeper.process.wait_within(WHILE),
        Error::TimedOut,
    );
    kill(&waiter);
    kill(&sleeper);

    let (sleeper, waiter) = start();
    kill(&sleeper);
    exits(&waiter, WAITED + (128 + 9) % 64);
    require!(end_of(&sleeper).status() == 128 + 9, "it is told again");
    let late = sleeper.process.give(None, &sleeper.process, None);
    fails("a handle for a dead process", late, Error::Gone);
}
