//! Following a program that was started, until it ends.

use tessera::{Binding, Child, End, Endpoint, Error, Event, Message, Received, Reply};

/// SIGKILL.
const KILL: u32 = 9;

/// An answer that is to be given on the way to the next message, which spares a call.
pub type Answer = (Reply, Message<'static>);

/// Lets a prepared child run, and calls `serve` for everything that the endpoint receives until the
/// child has ended.
///
/// # Errors
/// Those of receiving, and of `serve`; the child is ended then.
pub fn follow(
    child: &Child,
    endpoint: &Endpoint,
    serve: impl FnMut(Received) -> Result<Option<Answer>, Error>,
) -> Result<End, Error> {
    child.process.bind(Binding::End, Some(endpoint))?;
    child.thread.resume()?;
    if let Err(error) = until_end(endpoint, serve) {
        child.process.kill(KILL)?;
        return Err(error);
    }
    child.process.wait()
}

fn until_end(
    endpoint: &Endpoint,
    mut serve: impl FnMut(Received) -> Result<Option<Answer>, Error>,
) -> Result<(), Error> {
    let mut answer = None;
    loop {
        let mut received = match answer.take() {
            Some((reply, message)) => Reply::answer_and_receive(reply, message, endpoint, None)?,
            None => endpoint.receive()?,
        };
        let mut ended = false;
        if let Event::Notification(bits) = &mut received.event {
            ended = *bits & Binding::ENDED != 0;
            *bits &= !Binding::ENDED;
        }
        answer = serve(received)?;
        if ended {
            return Ok(());
        }
    }
}

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
