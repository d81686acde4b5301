//! Mapping a planned program into a new process.
//!
//! Runs before the process has a thread, so nobody else changes its map: changes are stepped to
//! their end on the spot, and a refusal can only mean that memory is short.

use core::fmt;

use arm64::attrs::Prot;
use frame::slab::Ref;
use mm::object::Name;
use mm::{Backing, ImageObject, MapFlags, MapRequest, MemObject, Verb, layout};

use super::cpio::{Archive, CpioError};
use super::plan::{Plan, PlanError, Segment};
use super::stack::{self, Auxv, StackError};
use crate::arch::{self, idregs};
use crate::memory::{self, Space};
use crate::process::Process;
use crate::syscall::{random, user};
use crate::thread::Thread;
use crate::trap::idregs::hwcaps;

/// Pages of stack that are mapped before the program grows it: as on Linux, the strings and a
/// little room below them.
const STACK_FIRST: u64 = stack::LIMIT as u64 + (32 << 12);

/// Why there is no program to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecFail {
    /// The machine was started without an archive.
    NoInitrd,
    /// The archive is damaged.
    Archive(CpioError),
    /// The archive has no such file.
    NoProgram,
    /// The file is not a program for this kernel.
    Plan(PlanError),
    /// Arguments and environment do not fit.
    Stack(StackError),
    /// The image needs this many pages, of which so many are free.
    NoMemory {
        /// Needed.
        pages: u64,
        /// Free.
        free: u64,
    },
}

impl ExecFail {
    /// One word for the control line.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoInitrd => "no-initrd",
            Self::Archive(_) => "bad-archive",
            Self::NoProgram => "no-program",
            Self::Plan(error) => error.reason(),
            Self::Stack(StackError::TooLarge(_)) => "args-too-large",
            Self::Stack(StackError::NoMemory) | Self::NoMemory { .. } => "no-memory",
        }
    }
}

impl fmt::Display for ExecFail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInitrd => f.write_str(
                "no initial RAM disk: start the kernel with an archive that holds `program` \
                 (`cargo xtask qemu` makes one)",
            ),
            Self::Archive(error) => write!(f, "the initial RAM disk cannot be read: {error}"),
            Self::NoProgram => f.write_str("the initial RAM disk holds no such program"),
            Self::Plan(error) => write!(f, "{error}"),
            Self::Stack(error) => write!(f, "{error}"),
            Self::NoMemory { pages, free } => {
                write!(
                    f,
                    "no memory for the image: {pages} pages needed, {free} free"
                )
            }
        }
    }
}

impl From<CpioError> for ExecFail {
    fn from(error: CpioError) -> Self {
        Self::Archive(error)
    }
}

impl From<PlanError> for ExecFail {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}

impl From<StackError> for ExecFail {
    fn from(error: StackError) -> Self {
        Self::Stack(error)
    }
}

/// A program in the archive.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    file: &'static [u8],
    args: &'static [u8],
    env: &'static [u8],
}

impl Program {
    /// The file `name` of the boot archive with the arguments and the environment in it.
    ///
    /// # Errors
    /// [`ExecFail`] if there is no readable archive, or no such file in it.
    pub fn find(name: &[u8]) -> Result<Self, ExecFail> {
        let archive = Archive::new(arch::initrd::bytes().ok_or(ExecFail::NoInitrd)?);
        let file = archive.find(name)?.ok_or(ExecFail::NoProgram)?;
        let list = |name| Ok::<_, CpioError>(archive.find(name)?.unwrap_or(b""));
        Ok(Self {
            file,
            args: list(b"args")?,
            env: list(b"env")?,
        })
    }
}

/// Names of the files in the boot archive that are text.
pub fn names() -> impl Iterator<Item = &'static str> {
    let archive = Archive::new(arch::initrd::bytes().unwrap_or(b""));
    archive
        .entries()
        .map_while(Result::ok)
        .filter_map(|entry| str::from_utf8(entry.name).ok())
}

/// Loads `program`; `args`, if given, instead of the archive's. The process has one thread, which
/// has not been made runnable.
///
/// # Errors
/// See [`ExecFail`]; nothing is left behind.
pub fn load(program: &Program, args: Option<&[u8]>) -> Result<Ref<Thread>, ExecFail> {
    let plan = Plan::new(program.file)?;
    let free = memory::frames().stats().free;
    let no_memory = ExecFail::NoMemory {
        pages: plan.pages(),
        free,
    };
    if plan.pages() > free {
        return Err(no_memory);
    }
    let process = Process::new().map_err(|_| no_memory)?;
    process.add_console().map_err(|_| no_memory)?;
    let space = process.space();
    let image = ImageObject::new(program.file);
    let objects = memory::context().objects();
    let object = objects.create_image(image, Name::PROGRAM);
    let object = object.map_err(|_| no_memory)?;
    for segment in plan.segments() {
        map_segment(space, segment, &object).map_err(|()| no_memory)?;
    }
    space.set_brk(plan.brk);
    let sp = make_stack(
        space,
        &plan,
        program,
        args.unwrap_or(program.args),
        no_memory,
    )?;
    let thread = Thread::new(&process).map_err(|_| no_memory)?;
    thread.context().reset(plan.entry, sp);
    process.add_thread(&thread).map_err(|_| no_memory)?;
    Ok(thread)
}

fn map_segment(space: &Space, segment: &Segment, object: &Ref<MemObject>) -> Result<(), ()> {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, segment.read || segment.write || segment.exec);
    prot.set(Prot::WRITE, segment.write);
    prot.set(Prot::EXEC, segment.exec);
    if let Some((start, end, offset)) = segment.file_pages() {
        map(
            space,
            start,
            end,
            prot,
            Backing::object(object.clone(), offset),
        )?;
    }
    if let Some((start, end)) = segment.zero_pages() {
        map(space, start, end, prot, Backing::ANON)?;
    }
    match segment.partial_zero().filter(|_| segment.write) {
        Some((start, end)) => {
            user::write(space, start.into(), &[0; 4096][..(end - start) as usize]).map_err(|_| ())
        }
        None => Ok(()),
    }
}

fn map(space: &Space, addr: u64, end: u64, prot: Prot, backing: Backing) -> Result<(), ()> {
    let flags = MapFlags::FIXED;
    change(
        space,
        Verb::Map(MapRequest {
            addr,
            len: end - addr,
            prot,
            flags,
            backing,
            refusal: None,
        }),
    )
}

/// Carries a change to its end.
fn change(space: &Space, verb: Verb) -> Result<(), ()> {
    let mut change = space.begin(verb).map_err(|_| ())?;
    loop {
        if let Some(result) = change.step(space, u32::MAX) {
            return result.map(drop).map_err(|_| ());
        }
    }
}

fn make_stack(
    space: &Space,
    plan: &Plan,
    program: &Program,
    args: &[u8],
    no_memory: ExecFail,
) -> Result<u64, ExecFail> {
    let (hwcap, hwcap2) = hwcaps(idregs::read());
    let mut aux = Auxv {
        headers: plan.headers,
        header_count: u64::from(plan.header_count),
        entry: plan.entry,
        hwcap,
        hwcap2,
        ..Auxv::default()
    };
    random::fill(&mut aux.random);
    let name = stack::strings(args).next().unwrap_or(b"program");
    let image = stack::build(layout::STACK_TOP, name, args, program.env, &aux)?;
    let request = MapRequest {
        addr: layout::STACK_TOP - STACK_FIRST,
        len: STACK_FIRST,
        prot: Prot::READ | Prot::WRITE,
        flags: MapFlags::FIXED | MapFlags::GROWSDOWN | MapFlags::STACK,
        backing: Backing::ANON,
        refusal: None,
    };
    change(space, Verb::Map(request)).map_err(|()| no_memory)?;
    user::write(space, image.sp.into(), &image.bytes).map_err(|_| no_memory)?;
    Ok(image.sp)
}
