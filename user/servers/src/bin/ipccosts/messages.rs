//! Messages: between threads of one process, between processes, and those of the kernel.

use std::thread;

use programs::measure::{Choice, Done, Failure, confirm, row, run};
use programs::sys;
use servers::FAILED;
use tessera::{
    Binding, Command, Endpoint, Error, Event, Handle, Message, PageSource, Pager, PagerOptions,
    Process, Prot, Reason, Received, Rights,
};

/// Where the other process finds its handle of this one's endpoint.
const SERVER: u64 = 70;
const PAGE: usize = 4096;
/// A number that no kernel gives a meaning to.
const UNKNOWN: usize = 700;
/// The label that ends a server.
const STOP: u32 = 1;

fn failed(what: impl ToString) -> Failure {
    Failure::Undone(what.to_string())
}

/// Answers calls with their own first word until one says [`STOP`].
pub fn serve(endpoint: &Endpoint) -> Result<(), Error> {
    let mut received = endpoint.receive()?;
    loop {
        let Received {
            event: Event::Call(message, reply),
            ..
        } = received
        else {
            received = endpoint.receive()?;
            continue;
        };
        let answer = Message::new(0).number(0, message.word(0));
        if message.label == STOP {
            return reply.answer(answer);
        }
        received = reply.answer_and_receive(answer, endpoint, None)?;
    }
}

fn call_many(server: &Endpoint, rounds: u64) -> Result<u64, Error> {
    let mut sum = 0;
    for round in 0..rounds {
        sum += server.call(Message::new(0).number(0, round))?.word(0);
    }
    Ok(sum)
}

/// Group `call`: a call and its answer, to a thread of the same process and to another process.
pub fn calls(choice: &Choice) {
    const ROUNDS: u64 = 2000;
    let rows = ["call_reply_within", "call_reply_processes"];
    let rows = rows.map(|name| row(name, "", "pair", ROUNDS));
    let expected = ROUNDS * (ROUNDS - 1) / 2;
    run(choice, "call", &rows, |meter| {
        let within = Endpoint::create().map_err(failed)?;
        let client = within.client(1).map_err(failed)?;
        let server = thread::spawn(move || serve(&within));
        call_many(&client, 8).map_err(failed)?;
        let mut sum = Ok(0);
        meter.time(0, || sum = call_many(&client, ROUNDS));
        confirm(sum == Ok(expected), || format!("the answers are {sum:?}"))?;
        client.call(Message::new(STOP)).map_err(failed)?;
        confirm(server.join().is_ok(), || "the server failed".to_owned())?;

        // The other process calls too, so it is this one that measures a server's side: as many
        // calls, as many answers.
        let endpoint = Endpoint::create().map_err(failed)?;
        let child = start(&endpoint, "calls", None)?;
        let mut received = endpoint.receive().map_err(failed)?;
        let mut answered = 0;
        meter.time(1, || {
            while let Event::Call(message, reply) = received.event {
                answered += 1;
                let answer = Message::new(0).number(0, message.word(0));
                match reply.answer_and_receive(answer, &endpoint, None) {
                    Ok(next) if answered < ROUNDS => received = next,
                    _ => break,
                }
            }
        });
        child.kill(9).map_err(failed)?;
        confirm(answered == ROUNDS, || format!("{answered} calls came"))
    });
}

/// Starts this program as another process, which finds `endpoint` as handle [`SERVER`].
fn start(endpoint: &Endpoint, what: &str, binding: Option<Binding>) -> Result<Process, Failure> {
    let own = Process::own().map_err(failed)?;
    let client = endpoint.client(2).map_err(failed)?;
    let command = Command::find("program").map_err(failed)?;
    let command = command.arg("other").arg(what).console();
    let mut command = command.handle(SERVER, &client);
    if let Some(binding) = binding {
        command = command.bind(binding, endpoint);
    }
    let child = command.spawn(&own).map_err(failed)?;
    Ok(child.process)
}

/// What the other process does, until it is ended.
pub fn other(what: &str) -> u8 {
    match what {
        "calls" => {
            let server = Handle::at(SERVER).map(Endpoint::from);
            let served = server.and_then(|server| call_many(&server, u64::MAX));
            u8::from(served.is_err())
        }
        "linux" => loop {
            sys::unknown_call(UNKNOWN);
        },
        _ => FAILED,
    }
}

/// Group `syscall`: a Linux call that the kernel does not own goes to a server in another process and
/// comes back.
pub fn linux_calls(choice: &Choice) {
    const ROUNDS: u64 = 2000;
    let rows = [row("syscall_forwarded", "", "call", ROUNDS)];
    run(choice, "syscall", &rows, |meter| {
        let endpoint = Endpoint::create().map_err(failed)?;
        let child = start(&endpoint, "linux", Some(Binding::Calls))?;
        // What the program's start asks for is the kernel's to answer.
        let mut received = endpoint.receive().map_err(failed)?;
        while let Event::LinuxCall(call, reply) = received.event {
            if call.number == UNKNOWN as u32 {
                received.event = Event::LinuxCall(call, reply);
                break;
            }
            reply.pass().map_err(failed)?;
            received = endpoint.receive().map_err(failed)?;
        }
        let mut answered = 0;
        meter.time(0, || {
            while let Event::LinuxCall(_, reply) = received.event {
                answered += 1;
                match reply.answer_and_receive(Message::new(0), &endpoint, None) {
                    Ok(next) if answered < ROUNDS => received = next,
                    _ => break,
                }
            }
        });
        child.kill(9).map_err(failed)?;
        confirm(answered == ROUNDS, || format!("{answered} calls came"))
    });
}

/// Pages with their number in front.
struct Numbers;

impl PageSource for Numbers {
    fn fill(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, Reason> {
        let pages = buffer.len() / PAGE;
        for page in 0..pages {
            let at = page * PAGE;
            let number = offset + at as u64;
            buffer[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        Ok(buffer.len())
    }
}

/// Group `pager`: pages that another thread supplies, one at a time and by windows of 64 KiB, with the
/// faults that ask for them and the pages that they are made of.
pub fn pages(choice: &Choice) {
    const PAGES: u64 = 1024;
    let rows = ["pager_page_4k", "pager_page_64k"].map(|name| row(name, "", "page", PAGES));
    run(choice, "pager", &rows, |meter| {
        for (index, window) in [(0, PAGE as u64), (1, 64 << 10)] {
            let mut result = Ok(());
            let paged = paged(PAGES * PAGE as u64, window).map_err(failed)?;
            let mapping = paged.0.map(0, PAGES as usize * PAGE, Prot::READ);
            let mapping = mapping.map_err(failed)?;
            meter.time(index, || {
                let mut seen = [0; 8];
                for page in 0..PAGES as usize {
                    mapping.read(page * PAGE, &mut seen);
                    if u64::from_le_bytes(seen) != (page * PAGE) as u64 {
                        result = confirm(false, || format!("page {page} is another"));
                    }
                }
            });
            result?;
            drop(mapping);
            paged.1.notify(1).map_err(failed)?;
        }
        Done::Ok(())
    });
}

/// An object whose pages come from a thread, which ends when it is notified through the endpoint.
fn paged(size: u64, window: u64) -> Result<(tessera::MemoryObject, Endpoint), Error> {
    let endpoint = Endpoint::create()?;
    let stop = endpoint.client(1)?;
    let options = PagerOptions {
        window,
        ..PagerOptions::default()
    };
    let mut pager = Pager::create(&endpoint, size, options, Numbers)?;
    let object = pager.object().as_ref().duplicate(Rights::READ)?.into();
    thread::spawn(move || {
        // Until it is told to stop.
        pager.serve(&endpoint).map(drop)
    });
    Ok((object, stop))
}
