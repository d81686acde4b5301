//! What every scene needs: the program's file, an endpoint for those who are ready, and bounds.

use std::mem::ManuallyDrop;
use std::time::Duration;

use programs::require;
use tessera::{Child, Command, End, Endpoint, Error, Event, Handle, MemoryObject, Message};
use tessera::{Process, SpawnError, find, slot};

use crate::roles::HOME;

/// Nothing that has to happen takes longer.
pub const BOUND: Option<Duration> = Some(Duration::from_secs(5));
/// What must not happen has not happened by then.
pub const WHILE: Option<Duration> = Some(Duration::from_millis(2));
/// The badge of clients.
pub const BADGE: u64 = 5;
const SIGKILL: u32 = 9;

/// Where the scenes are played.
pub struct Stage {
    own: Process,
    image: &'static [u8],
    object: MemoryObject,
    home: Endpoint,
    client: Endpoint,
    initrd: ManuallyDrop<Handle>,
    /// Between the moment when a victim is ready and what happens to it.
    pub delay: Duration,
}

impl Stage {
    pub fn new() -> Result<Self, SpawnError> {
        let image = find("program")?;
        let home = Endpoint::create()?;
        Ok(Self {
            own: Process::own()?,
            image,
            object: MemoryObject::with_contents("program", image)?,
            client: home.client(1)?,
            home,
            initrd: ManuallyDrop::new(Handle::at(slot::INITRD)?),
            delay: Duration::ZERO,
        })
    }

    fn command(&self, role: &str) -> Command<'_> {
        let command = Command::new("program", self.image).object(&self.object);
        // The standard library ends a program that has no descriptors 0 to 2.
        command.arg(role).handle(HOME, &self.client).console()
    }

    /// A process in a role, with these handles.
    pub fn start(&self, role: &str, handles: &[(u64, &Handle)]) -> Child {
        let add = |command: Command<'_>| {
            let child = handles
                .iter()
                .fold(command, |command, (slot, handle)| {
                    command.handle(*slot, handle)
                })
                .spawn(&self.own);
            must("a process is started", child)
        };
        add(self.command(role))
    }

    /// One that may start others below it.
    pub fn start_above(&self, role: &str, peer: &Endpoint) -> Child {
        let command = self.command(role).handle(crate::roles::PEER, peer);
        let command = command.handle(slot::INITRD, &*self.initrd);
        let child = must("a process is made", command.prepare(&self.own));
        let own = child
            .process
            .give(Some(slot::PROCESS), &child.process, None);
        must("its own handle", own);
        must("it runs", child.thread.resume());
        child
    }

    /// Starts another program, bound to an endpoint.
    pub fn start_bound(&self, command: Command<'_>) -> Child {
        must("a program is started", command.spawn(&self.own))
    }

    /// The program itself in a role, to be bound.
    pub fn role(&self, role: &str) -> Command<'_> {
        self.command(role)
    }

    /// Waits until a victim says that it is ready, and a little longer. Returns what it said.
    pub fn ready(&self) -> Message<'static> {
        let received = must("a victim is ready", self.home.receive_within(BOUND));
        let Event::Send(message) = received.event else {
            programs::check::fail(file!(), line!(), "a victim says something else");
        };
        self.pause();
        message
    }

    pub fn pause(&self) {
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
    }
}

/// What cannot fail here.
pub fn must<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| {
        programs::check::fail(file!(), line!(), &format!("{what}: {error}"))
    })
}

/// How a process ends, soon.
pub fn end_of(child: &Child) -> End {
    must("a process ends", child.process.wait_within(BOUND))
}

/// Kills a process and waits for its end.
pub fn kill(child: &Child) {
    must("a process is killed", child.process.kill(SIGKILL));
    let end = end_of(child);
    let killed = matches!(
        end,
        End::Killed {
            signal: SIGKILL,
            ..
        }
    );
    require!(killed, "it ended as {end:?}");
}

/// A process must exit with this status.
pub fn exits(child: &Child, status: i32) {
    let end = end_of(child);
    require!(end == End::Exited(status), "{end:?}, not {status}");
}

/// A process must be ended by this signal.
pub fn dies(child: &Child, expected: u32) {
    let end = end_of(child);
    let dead = matches!(end, End::Killed { signal, .. } if signal == expected);
    require!(dead, "{end:?}, not signal {expected}");
}

/// An endpoint, and a client's handle of it.
pub fn pair() -> (Endpoint, Endpoint) {
    let endpoint = must("an endpoint", Endpoint::create());
    let client = must("a client", endpoint.client(BADGE));
    (endpoint, client)
}

/// Nothing must have been left at an endpoint.
pub fn is_empty(endpoint: &Endpoint) {
    let got = endpoint.receive_within(WHILE);
    let empty = matches!(got, Err(Error::TimedOut));
    require!(empty, "something is left: {got:?}");
}

/// Something must have failed with this.
pub fn fails<T: std::fmt::Debug>(what: &str, got: Result<T, Error>, expected: Error) {
    let as_expected = matches!(&got, Err(error) if *error == expected);
    require!(as_expected, "{what}: {got:?}, not {expected:?}");
}
