//! `squares`: memory whose contents are computed when they are looked at. Word n of a mapping of 1 GiB
//! is n², and of its 262144 pages only those exist that somebody has touched.

use std::thread;

use tessera::{Endpoint, Error, Event, PageSource, Pager, PagerOptions, Prot, Reason};

struct Squares;

impl PageSource for Squares {
    fn fill(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, Reason> {
        for (n, word) in (offset / 8..).zip(buffer.chunks_exact_mut(8)) {
            word.copy_from_slice(&(n * n).to_le_bytes());
        }
        Ok(buffer.len())
    }
}

fn main() -> Result<(), Error> {
    let endpoint = Endpoint::create()?;
    let mut pager = Pager::create(&endpoint, 1 << 30, PagerOptions::default(), Squares)?;
    let memory = pager.object().map(0, 1 << 30, Prot::READ)?;
    // The pager answers in a thread of its own: who touches a page waits.
    thread::spawn(move || -> Result<(), Error> {
        loop {
            if let Event::Page(request, reply) = endpoint.receive()?.event {
                println!("asked for the page at {:#x}", request.offset);
                pager.answer(&request, reply)?;
            }
        }
    });
    for n in [3, 1000, 100_000_000] {
        let mut word = [0; 8];
        memory.read(8 * n, &mut word);
        println!("{n} squared is {}", u64::from_le_bytes(word));
    }
    Ok(())
}
