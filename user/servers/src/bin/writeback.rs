//! `writeback`: a pager that writes back. It asks which pages of its object have been written, keeps
//! their contents, drops all that are clean, and gives them again when they are wanted.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use servers::{Outcome, finish};
use tessera::{
    Endpoint, Error, Event, Mapping, PAGE, PageSource, Pager, PagerOptions, Prot, Reason,
};

/// Pages of the object, and those that are written.
const PAGES: usize = 32;
const WRITTEN: [usize; 3] = [1, 5, 30];

/// What the pages are kept in.
#[derive(Clone)]
struct Store(Arc<Mutex<Vec<u8>>>);

impl Store {
    fn with<T>(&self, act: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PageSource for Store {
    fn fill(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, Reason> {
        self.with(|bytes| PageSource::fill(&mut bytes.as_slice(), offset, buffer))
    }
}

fn main() -> std::process::ExitCode {
    finish("writeback", run())
}

fn run() -> Outcome {
    let len = PAGES * PAGE;
    let store = Store(Arc::new(Mutex::new(vec![b'.'; len])));
    let endpoint = Endpoint::create()?;
    // Page by page: the pages of a larger window may become a folio, which is written as a whole.
    let options = PagerOptions {
        window: PAGE as u64,
        ..PagerOptions::default()
    };
    let pager = Pager::create(&endpoint, len as u64, options, store.clone())?;
    let memory = pager.object().map(0, len, Prot::READ | Prot::WRITE)?;
    let pager = Arc::new(Mutex::new(pager));
    let answering = Arc::clone(&pager);
    thread::spawn(move || serve(&endpoint, &answering));
    for page in WRITTEN {
        memory.write(page * PAGE, &[page as u8]);
    }
    {
        let pager = pager.lock().unwrap_or_else(PoisonError::into_inner);
        write_back(&pager, &store)?;
        let dropped = pager.drop_clean(0, len as u64)?;
        println!("dropped {dropped} clean pages");
    }
    println!(
        "{} of {} pages say what they said",
        same(&memory),
        WRITTEN.len()
    );
    let pager = pager.lock().unwrap_or_else(PoisonError::into_inner);
    println!("asked {} times", pager.counts().requests);
    Ok(0)
}

fn serve(endpoint: &Endpoint, pager: &Mutex<Pager<Store>>) -> Result<(), Error> {
    loop {
        if let Event::Page(request, reply) = endpoint.receive()?.event {
            let mut pager = pager.lock().unwrap_or_else(PoisonError::into_inner);
            pager.answer(&request, reply)?;
        }
    }
}

/// Keeps what has been written since the last time.
fn write_back(pager: &Pager<Store>, store: &Store) -> Result<(), Error> {
    let dirty = pager.take_dirty(0, (PAGES * PAGE) as u64)?;
    for page in (0..PAGES).filter(|page| dirty[page / 64] >> (page % 64) & 1 != 0) {
        let at = page * PAGE;
        let mut bytes = vec![0; PAGE];
        pager.object().read_at(at as u64, &mut bytes)?;
        store.with(|kept| kept[at..at + PAGE].copy_from_slice(&bytes));
        println!("page {page} was written");
    }
    Ok(())
}

/// How many of the written pages hold what was written.
fn same(memory: &Mapping) -> usize {
    let holds = |page: &&usize| {
        let mut byte = [0];
        memory.read(**page * PAGE, &mut byte);
        usize::from(byte[0]) == **page
    };
    WRITTEN.iter().filter(holds).count()
}
