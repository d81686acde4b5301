//! Threads that receive what is sent by the children and for them, and answer at random.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use programs::random::Random;
use tessera::{Endpoint, Error, Event, Message, Reason, Received, Reply};

/// How many there are.
const SERVERS: u64 = 2;
/// How often they look whether they are to stop.
const PATIENCE: Duration = Duration::from_millis(20);
/// SIGKILL.
const KILL: u32 = 9;

/// The threads.
pub struct Servers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    /// Starts them.
    pub fn start(endpoint: &Arc<Endpoint>, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..SERVERS).map(|server| {
            let (endpoint, stop) = (Arc::clone(endpoint), Arc::clone(&stop));
            let random = Random::new(!seed ^ server << 60);
            thread::spawn(move || serve(&endpoint, &stop, random))
        });
        let threads = threads.collect();
        Self { stop, threads }
    }

    /// Stops them, when the children have ended.
    pub fn stop(self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            thread.join().expect("a server that does not panic");
        }
    }
}

fn serve(endpoint: &Endpoint, stop: &AtomicBool, mut random: Random) {
    while !stop.load(Relaxed) {
        // What cannot be received or answered has ended meanwhile.
        if let Ok(received) = endpoint.receive_within(Some(PATIENCE)) {
            let _ = answer(received, &mut random);
        }
    }
}

fn answer(received: Received, random: &mut Random) -> Result<(), Error> {
    let saved = random.chance(16);
    match received.event {
        Event::Send(_) | Event::Notification(_) => Ok(()),
        // A reply that is dropped answers by itself.
        Event::LinuxCall(..) | Event::Exception(..) if random.chance(8) => Ok(()),
        Event::LinuxCall(_, reply) if random.chance(192) => reply.pass(),
        Event::LinuxCall(_, reply) => any(reply, random, saved),
        Event::Exception(_, reply) => fate(reply, random),
        Event::Fault(_, reply) => reply.done(0),
        Event::Page(_, reply) => reply.fail(Reason::ALL[random.index(Reason::ALL.len())]),
        Event::Call(mut message, reply) => {
            // Handles that came go back.
            let mut answer = Message::new(random.next_u64() as u32);
            for word in 0..6 {
                if let Some(handle) = message.take(word) {
                    answer = answer.give(word, handle);
                }
            }
            match saved {
                true => reply.save()?.answer(answer),
                false => reply.answer(answer),
            }
        }
    }
}

/// Any answer to a call of Linux's.
fn any(reply: Reply, random: &mut Random, saved: bool) -> Result<(), Error> {
    let label = random.below(6) as u32;
    let message = Message::new(label).number(0, random.below(64));
    match saved {
        true => reply.save()?.answer(message),
        false => reply.answer(message),
    }
}

/// What becomes of who has faulted: mostly what would become of it anyway. A fault that is tried again
/// comes again, which must not go on for ever.
fn fate(reply: Reply, random: &mut Random) -> Result<(), Error> {
    match random.below(8) {
        0 => reply.done(0),
        1 => {
            let mut registers = reply.registers()?;
            registers.pc += 4;
            reply.set_registers(&registers)?;
            reply.resume()
        }
        2 => reply.kill(KILL, 0),
        _ => reply.pass(),
    }
}
