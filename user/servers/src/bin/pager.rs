//! `pager FILE PROGRAM ARGS…`: runs an unmodified Linux program every page of which comes from this
//! server, when it is touched for the first time. FILE, paged in the same way, is the program's
//! descriptor 3; `-` for none.
//!
//! `--dies N` and `--hangs N` show what becomes of a program whose pager goes away, or says nothing
//! any more, after N requests.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use servers::cost::{Costs, unit};
use servers::{Outcome, arguments, child, finish, usage};
use tessera::{
    Command, Endpoint, Error, Event, Handle, MemoryObject, Pager, PagerOptions, Process,
};
use tessera::{Rights, find};

/// The notification bit that stops the pager.
const STOP: u64 = 1;
/// How long the program waits for a page.
const PATIENCE: Duration = Duration::from_secs(1);
/// The program's descriptor of the file.
const DESCRIPTOR: u64 = 3;

/// What the pager does after so many requests.
#[derive(Clone, Copy, PartialEq)]
enum Failing {
    Never,
    Dies(u64),
    Hangs(u64),
}

fn main() -> ExitCode {
    let words = arguments();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse().ok();
    finish(
        "pager",
        match words[..] {
            ["--dies", n, file, program, ref args @ ..] if number(n).is_some() => {
                let failing = Failing::Dies(number(n).unwrap_or(0));
                run(failing, file, program, args)
            }
            ["--hangs", n, file, program, ref args @ ..] if number(n).is_some() => {
                let failing = Failing::Hangs(number(n).unwrap_or(0));
                run(failing, file, program, args)
            }
            [file, program, ref args @ ..] if !file.starts_with("--") => {
                run(Failing::Never, file, program, args)
            }
            _ => usage("pager [--dies N | --hangs N] FILE PROGRAM ARGS…"),
        },
    )
}

fn run(failing: Failing, file: &str, program: &str, args: &[&str]) -> Outcome {
    let endpoint = Endpoint::create()?;
    let stop = endpoint.client(1)?;
    let image = find(program)?;
    let contents = match file {
        "-" => &[],
        name => find(name)?,
    };
    let pager = |key, contents: &'static [u8]| {
        let options = PagerOptions {
            key,
            limit: Some(PATIENCE),
            ..PagerOptions::default()
        };
        Pager::create(&endpoint, contents.len() as u64, options, contents)
    };
    let pagers = [pager(0, image)?, pager(1, contents)?];
    // The server's thread owns the pagers; these are for the program.
    let [text, data] = [0, 1].map(|n: usize| share(&pagers[n]));
    let (text, data) = (text?, data?);
    let server = thread::spawn(move || serve(endpoint, pagers, failing));
    let command = Command::new(program, image).object(&text);
    let command = command.args(args.iter().copied()).console();
    let command = match file {
        "-" => command,
        _ => command.handle(DESCRIPTOR, &data),
    };
    let end = command.spawn(&Process::own()?)?.process.wait()?;
    // It may have died, as it was told to.
    let _ = stop.notify(STOP);
    let served = server.join().map_err(|_| "the pager panicked")??;
    served.tell(image.len() + contents.len());
    println!("pager: {program} {}", child::tell(end));
    Ok(end.status() as u8)
}

/// Another handle of a pager's object, for whoever is to map it, not to supply it.
fn share(pager: &Pager<&'static [u8]>) -> Result<MemoryObject, Error> {
    let rights = Rights::READ | Rights::EXEC | Rights::TRANSFER;
    let handle: &Handle = pager.object().as_ref();
    handle.duplicate(rights).map(Into::into)
}

/// What was served.
struct Served {
    requests: u64,
    pages: u64,
    costs: Costs,
}

impl Served {
    fn tell(&self, bytes: usize) {
        let Self {
            requests,
            pages,
            costs,
        } = self;
        let all = bytes.div_ceil(tessera::PAGE);
        println!("pager: {requests} requests, {pages} of {all} pages supplied");
        if let Some(cost) = costs.sum.checked_div(*pages) {
            println!("pager: {cost} {} a page", unit());
        }
    }
}

/// Answers requests until it is stopped, or fails. Dying is letting go of the endpoint.
fn serve(
    endpoint: Endpoint,
    mut pagers: [Pager<&'static [u8]>; 2],
    failing: Failing,
) -> Result<Served, Error> {
    let mut costs = Costs::default();
    // Answers that are never given.
    let mut kept = Vec::new();
    loop {
        let requests = costs.count;
        if failing == Failing::Dies(requests) {
            break;
        }
        match endpoint.receive()?.event {
            Event::Page(request, reply) if failing == Failing::Hangs(requests) => {
                println!("pager: no answer for offset {:#x}", request.offset);
                kept.push(reply.save()?);
            }
            Event::Page(request, reply) => {
                let pager = pagers.get_mut(request.key as usize);
                let pager = pager.ok_or(Error::Invalid)?;
                costs.measure(|| pager.answer(&request, reply))?;
            }
            Event::Notification(_) => break,
            _ => {}
        }
    }
    let counts = pagers.each_ref().map(|pager| pager.counts());
    Ok(Served {
        requests: counts.iter().map(|counts| counts.requests).sum(),
        pages: counts.iter().map(|counts| counts.pages).sum(),
        costs,
    })
}
