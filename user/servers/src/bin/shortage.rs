//! `shortage MIB`: an object with a pager that is larger than the machine's memory, read twice from one
//! end to the other, with a few pages that are written in between. What is clean the kernel drops by
//! itself when memory is short, and asks for again; what was written stays.

use std::thread;

use servers::{Outcome, arguments, finish, usage};
use tessera::{Endpoint, Mapping, PAGE, PageSource, Pager, PagerOptions, Prot, Reason};

/// Ends the pager.
const STOP: u64 = 1;
/// One page of so many is written.
const STRIDE: usize = 1021;

/// Each page begins with its offset.
struct Offsets;

impl PageSource for Offsets {
    fn fill(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, Reason> {
        for (at, page) in (offset..).step_by(PAGE).zip(buffer.chunks_exact_mut(PAGE)) {
            page[..8].copy_from_slice(&at.to_le_bytes());
        }
        Ok(buffer.len())
    }
}

fn main() -> std::process::ExitCode {
    let words = arguments();
    let size = match &words[..] {
        [size] => size.parse::<usize>().ok(),
        _ => None,
    };
    match size {
        Some(size @ 1..=4096) => finish("shortage", run(size << 20)),
        _ => finish("shortage", usage("shortage MIB, at most 4096")),
    }
}

fn run(len: usize) -> Outcome {
    let endpoint = Endpoint::create()?;
    let stop = endpoint.client(1)?;
    let options = PagerOptions::default();
    let mut pager = Pager::create(&endpoint, len as u64, options, Offsets)?;
    let memory = pager.object().map(0, len, Prot::READ | Prot::WRITE)?;
    let server = thread::spawn(move || {
        let ended = pager.serve(&endpoint).map(drop);
        ended.map(|()| pager.counts())
    });
    let pages = len / PAGE;
    let wrong = read(&memory, pages, |page| page * PAGE);
    println!("first time: {wrong} of {pages} pages are wrong");
    for page in (0..pages).step_by(STRIDE) {
        memory.write(page * PAGE, &(page as u64).to_le_bytes());
    }
    let wrong = read(&memory, pages, |page| match page % STRIDE {
        0 => page,
        _ => page * PAGE,
    });
    println!("second time: {wrong} of {pages} pages are wrong");
    // What a pager has given outlives it, and nobody could drop it any more.
    drop(memory);
    stop.notify(STOP)?;
    let counts = server.join().map_err(|_| "the pager panicked")??;
    let again = counts.pages.saturating_sub(pages as u64);
    println!("{} pages came again", if again > 0 { "some" } else { "no" });
    Ok(u8::from(wrong != 0))
}

/// Reads the first word of each page; how many are not what they should be.
fn read(memory: &Mapping, pages: usize, expected: impl Fn(usize) -> usize) -> usize {
    let is_wrong = |page: &usize| {
        let mut word = [0; 8];
        memory.read(page * PAGE, &mut word);
        u64::from_le_bytes(word) != expected(*page) as u64
    };
    (0..pages).filter(is_wrong).count()
}
