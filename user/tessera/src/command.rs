//! Starting programs: a loader at EL0. It does from outside what the kernel does for the first
//! program only: an empty process, the file's segments mapped into it, a stack, a thread.

use std::fmt;

use abi::Binding;

use crate::archive::{BadArchive, initrd};
use crate::elf::{BadElf, Program, Segment};
use crate::endpoint::Endpoint;
use crate::memory::MemoryObject;
use crate::process::{Area, Limits, Process};
use crate::stack::{self, Stack};
use crate::thread::Thread;
use crate::{Error, Handle, MapFlags, Prot};

/// Why a program was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// The initial RAM disk is damaged.
    Archive(BadArchive),
    /// There is no such file.
    NotFound,
    /// The file is no program.
    Elf(BadElf),
    /// Arguments and environment are too large.
    TooLarge,
    /// The kernel refused.
    Kernel(Error),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(why) => write!(f, "{why}"),
            Self::NotFound => f.write_str("there is no such file in the initial RAM disk"),
            Self::Elf(why) => write!(f, "{why}"),
            Self::TooLarge => f.write_str("arguments and environment are too large"),
            Self::Kernel(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for SpawnError {}

macro_rules! from {
    ($($error:ident => $variant:ident)*) => {$(
        impl From<$error> for SpawnError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

from!(BadArchive => Archive BadElf => Elf Error => Kernel);

/// A file of the initial RAM disk: `bin/NAME`, or else the one that is called so.
///
/// # Errors
/// There is no archive, it is damaged, or has no such file.
pub fn find(name: &str) -> Result<&'static [u8], SpawnError> {
    let archive = initrd()?;
    let found = match archive.find(&format!("bin/{name}"))? {
        Some(file) => Some(file),
        None => archive.find(name)?,
    };
    found.ok_or(SpawnError::NotFound)
}

/// A program to be started.
///
/// ```no_run
/// # fn example() -> Result<(), tessera::SpawnError> {
/// use tessera::{Command, Process};
/// let own = Process::own()?;
/// let child = Command::find("hello")?.arg("two words").console().spawn(&own)?;
/// println!("{:?}", child.process.wait()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Command<'a> {
    file: &'a [u8],
    object: Option<&'a MemoryObject>,
    name: String,
    args: Vec<String>,
    env: Vec<String>,
    handles: Vec<(u64, &'a Handle)>,
    bindings: Vec<(Binding, &'a Endpoint)>,
    console: bool,
    limits: Limits,
}

/// A program that was started.
#[derive(Debug)]
pub struct Child {
    /// The process.
    pub process: Process,
    /// Its first thread.
    pub thread: Thread,
}

impl<'a> Command<'a> {
    /// The program of this name in the initial RAM disk ([`find`]).
    ///
    /// # Errors
    /// There is no such file.
    pub fn find(name: &str) -> Result<Self, SpawnError> {
        Ok(Self::new(name, find(name)?))
    }

    /// A program whose file is in memory; its name is the first argument.
    pub fn new(name: &str, file: &'a [u8]) -> Self {
        Self {
            file,
            object: None,
            name: name.into(),
            args: vec![name.into()],
            env: Vec::new(),
            handles: Vec::new(),
            bindings: Vec::new(),
            console: false,
            limits: Limits::default(),
        }
    }

    /// Maps the program from this object, which has, or will have, the file's contents. Without it, a
    /// new object gets them.
    #[must_use]
    pub const fn object(mut self, object: &'a MemoryObject) -> Self {
        self.object = Some(object);
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(self, arg: impl Into<String>) -> Self {
        self.args([arg])
    }

    /// More arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// One more variable of the environment, which is empty at first.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// Gives it a copy of a handle, in this slot and with all its rights.
    #[must_use]
    pub fn handle(mut self, slot: u64, handle: &'a impl AsRef<Handle>) -> Self {
        self.handles.push((slot, handle.as_ref()));
        self
    }

    /// Gives it this process's standard input, output and error.
    #[must_use]
    pub const fn console(mut self) -> Self {
        self.console = true;
        self
    }

    /// Sends what happens to it to an endpoint.
    #[must_use]
    pub fn bind(mut self, binding: Binding, endpoint: &'a Endpoint) -> Self {
        self.bindings.push((binding, endpoint));
        self
    }

    /// What it may use.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Starts it, below the process `parent`.
    ///
    /// # Errors
    /// See [`SpawnError`]; nothing is left behind.
    pub fn spawn(&self, parent: &Process) -> Result<Child, SpawnError> {
        let child = self.prepare(parent)?;
        child.thread.resume()?;
        Ok(child)
    }

    /// [`Command::spawn`] without letting it run: its thread is suspended.
    ///
    /// # Errors
    /// See [`SpawnError`]; nothing is left behind.
    pub fn prepare(&self, parent: &Process) -> Result<Child, SpawnError> {
        let program = Program::parse(self.file)?;
        let stack = stack::build(&self.name, &self.args, &self.env, &program);
        let stack = stack.ok_or(SpawnError::TooLarge)?;
        let process = parent.create(self.limits)?;
        let prepared = self.fill(&process, &program, &stack);
        match prepared {
            Ok(thread) => Ok(Child { process, thread }),
            Err(error) => {
                // It has nothing that could go wrong at its end.
                let _ = process.kill(libc::SIGKILL as u32);
                Err(error.into())
            }
        }
    }

    fn fill(&self, process: &Process, program: &Program, stack: &Stack) -> Result<Thread, Error> {
        let copy;
        let object = match self.object {
            Some(object) => object,
            None => {
                copy = MemoryObject::with_contents(&self.name, self.file)?;
                &copy
            }
        };
        for segment in &program.segments {
            map_segment(process, segment, object)?;
        }
        process.set_break(program.heap)?;
        map_stack(process, stack)?;
        if self.console {
            for slot in 0..3 {
                process.give_number(Some(slot), slot, None)?;
            }
        }
        for (slot, handle) in &self.handles {
            process.give_number(Some(*slot), handle.number(), None)?;
        }
        for (binding, endpoint) in &self.bindings {
            process.bind(*binding, Some(endpoint))?;
        }
        Thread::create(process, program.entry, stack.sp, 0)
    }
}

fn map_segment(process: &Process, part: &Segment, object: &MemoryObject) -> Result<(), Error> {
    let area = |address, len, offset: Option<u64>| Area {
        address,
        len,
        prot: part.prot,
        flags: MapFlags::PRIVATE | MapFlags::FIXED,
        object: offset.map(|offset| (object.as_ref(), offset)),
    };
    if let Some((start, len, offset)) = part.file_pages() {
        process.map(&area(start, len, Some(offset)))?;
    }
    if let Some((start, len)) = part.zero_pages() {
        process.map(&area(start, len, None))?;
    }
    match part.rest_of_page() {
        // What cannot be written is not looked at behind its end either.
        Some((start, len)) if part.prot.contains(Prot::WRITE) => {
            process.write_memory(start, &[0; crate::PAGE][..len as usize])
        }
        _ => Ok(()),
    }
}

fn map_stack(process: &Process, stack: &Stack) -> Result<(), Error> {
    process.map(&Area {
        address: stack::TOP - stack::SIZE,
        len: stack::SIZE,
        prot: Prot::READ | Prot::WRITE,
        flags: MapFlags::PRIVATE | MapFlags::FIXED,
        object: None,
    })?;
    process.write_memory(stack.sp, &stack.bytes)
}
