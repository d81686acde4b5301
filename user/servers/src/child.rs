//! Following a program that was started, until it ends.

use std::thread;

use tessera::{Child, End, Endpoint, Error, Event, Received};

/// The notification bit that tells a server that its child has ended.
const ENDED: u64 = 1 << 63;

/// Lets a prepared child run, and calls `serve` for everything that the endpoint receives until the
/// child has ended.
///
/// # Errors
/// Those of receiving, and of `serve`; the child is ended then.
pub fn follow(
    child: &Child,
    endpoint: &Endpoint,
    mut serve: impl FnMut(Received) -> Result<(), Error>,
) -> Result<End, Error> {
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let end = child.process.wait();
            endpoint.notify(ENDED).and(end)
        });
        child.thread.resume()?;
        let served = loop {
            match endpoint.receive() {
                Ok(Received {
                    event: Event::Notification(ENDED),
                    ..
                }) => break Ok(()),
                Ok(received) => {
                    if let Err(error) = serve(received) {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        if served.is_err() {
            // It may have ended by itself meanwhile.
            let _ = child.process.kill(SIGKILL);
        }
        let end = waiter.join().unwrap_or(Err(Error::Gone));
        served.and(end)
    })
}

/// Signal numbers, for [`tessera::Process::kill`].
pub const SIGKILL: u32 = 9;

/// How a program ended, for people.
pub fn tell(end: End) -> String {
    match end {
        End::Exited(status) => format!("exited with status {status}"),
        End::Killed {
            signal,
            address,
            pc,
        } => format!("was ended by signal {signal}, address {address:#x}, pc {pc:#x}"),
    }
}
