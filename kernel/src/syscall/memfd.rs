//! Memory objects by descriptor: `memfd_create`, `ftruncate`, `fallocate`, seals, and the map list as
//! a file.

use arm64::UserAddr;
use core::fmt;

use frame::slab::Ref;
use linux_raw_sys::general as linux;
use mm::object::{Allocate, MemObject, Name, ObjectError, Punch, Resize, Seals};

use super::{Answer, Call, Handler, done};
use crate::errno::{Errno, SysResult};
use crate::handle::changes::{self, ObjectChange};
use crate::handle::memory::{Kind, MemoryFile};
use crate::handle::{Handle, Object};
use crate::memory;
use crate::sched::{self, stay::What};
use crate::thread::Resume;
use crate::thread::resume::Stop;

/// The family.
pub const CALLS: &[(u32, Handler)] = &[
    (linux::__NR_ftruncate, ftruncate),
    (linux::__NR_fallocate, fallocate),
    (linux::__NR_memfd_create, memfd_create),
];

/// Longest name, without its NUL.
const NAME_MAX: usize = 249;

fn memfd_create(call: &Call<'_>) -> Answer {
    /// What is known but for huge pages.
    const KNOWN: u32 =
        linux::MFD_CLOEXEC | linux::MFD_ALLOW_SEALING | linux::MFD_NOEXEC_SEAL | linux::MFD_EXEC;
    const EXEC: u32 = linux::MFD_NOEXEC_SEAL | linux::MFD_EXEC;
    let flags = call.uint(1);
    if flags & linux::MFD_HUGETLB != 0 {
        // A Linux without huge pages answers like this.
        return Err(Errno::ENOSYS.into());
    }
    if flags & !KNOWN != 0 || flags & EXEC == EXEC {
        return Err(Errno::EINVAL.into());
    }
    let mut name = [0; NAME_MAX + 1];
    let length = read_name(call, call.user(0), &mut name)?;
    let name = Name::memfd(&name[..length]);
    let object = memory::context().objects().create_named(0, name);
    let mut object = object.map_err(|_| Errno::ENOMEM)?;
    call.thread.process().charge(&mut object);
    let mode = match flags & linux::MFD_NOEXEC_SEAL {
        0 => 0o777,
        _ => 0o666,
    };
    if flags & linux::MFD_NOEXEC_SEAL != 0 {
        object.allow_sealing(Seals::EXEC);
    } else if flags & linux::MFD_ALLOW_SEALING != 0 {
        object.allow_sealing(Seals::empty());
    }
    let close_on_exec = flags & linux::MFD_CLOEXEC != 0;
    open(call, object, Kind::Memory { mode }, close_on_exec)
}

/// Reads a name, which may have any bytes; its length.
fn read_name(call: &Call<'_>, at: UserAddr, name: &mut [u8]) -> Result<usize, Stop> {
    let mut seen = 0;
    while seen < name.len() {
        let space = call.thread.process().space();
        let count = space.copy_in(at.further(seen as u64), &mut name[seen..])?;
        let piece = name[seen..seen + count].iter();
        if let Some(end) = piece.copied().position(|byte| byte == 0) {
            return Ok(seen + end);
        }
        seen += count;
    }
    Err(Errno::EINVAL.into())
}

fn open(call: &Call<'_>, object: Ref<MemObject>, kind: Kind, close_on_exec: bool) -> Answer {
    let object = Object::Memory(MemoryFile::open(object, kind)?);
    let handle = Handle::descriptor(object, close_on_exec);
    done(call.thread.process().insert_descriptor(handle, 0)?)
}

fn handle(call: &Call<'_>) -> Result<Handle, Errno> {
    call.thread.process().handles().get(call.arg(0))
}

fn ftruncate(call: &Call<'_>) -> Answer {
    let length = u64::try_from(call.arg(1) as i64).map_err(|_| Errno::EINVAL)?;
    let handle = handle(call)?;
    let file = handle.file(Errno::EINVAL)?;
    if !handle.may_write(file) {
        return Err(Errno::EINVAL.into());
    }
    let resize = Resize::begin(file.object(), length);
    changes::begin(
        call.thread,
        file.object(),
        resize.map(ObjectChange::Resize),
        Resume::Call,
    )
}

fn fallocate(call: &Call<'_>) -> Answer {
    let (mode, start, len) = (call.uint(1), call.arg(2) as i64, call.arg(3) as i64);
    let handle = handle(call)?;
    if start < 0 || len <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let punch = match mode {
        0 | linux::FALLOC_FL_KEEP_SIZE => false,
        _ if mode == linux::FALLOC_FL_PUNCH_HOLE | linux::FALLOC_FL_KEEP_SIZE => true,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    let file = handle.file(Errno::ENODEV)?;
    if !handle.may_write(file) {
        return Err(Errno::EBADF.into());
    }
    if start.checked_add(len).is_none() {
        return Err(Errno::EFBIG.into());
    }
    let (object, start, len) = (file.object(), start as u64, len as u64);
    let change = match punch {
        true => Punch::begin(object, start, len).map(ObjectChange::Punch),
        false => Allocate::begin(object, start, len, mode != 0).map(ObjectChange::Allocate),
    };
    changes::begin(call.thread, object, change, Resume::Call)
}

/// `F_GET_SEALS`.
///
/// # Errors
/// `EINVAL` for what has none.
pub fn seals(handle: &Handle) -> SysResult {
    Ok(u64::from(sealable(handle)?.object().seals().bits()))
}

/// `F_ADD_SEALS`.
///
/// # Errors
/// `EINVAL`, `EPERM`, `EBUSY`.
pub fn add_seals(handle: &Handle, seals: u32) -> SysResult {
    let file = sealable(handle)?;
    let mut seals = Seals::from_bits(seals).ok_or(Errno::EINVAL)?;
    if seals.contains(Seals::EXEC)
        && matches!(file.kind(), Kind::Memory { mode } if mode & 0o111 != 0)
    {
        // What stays executable may not change either.
        seals |= Seals::SHRINK | Seals::GROW | Seals::WRITE | Seals::FUTURE_WRITE;
    }
    match file.object().add_seals(seals) {
        Ok(()) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn sealable(handle: &Handle) -> Result<&MemoryFile, Errno> {
    let file = handle.file(Errno::EINVAL)?;
    match file.is_mappable() {
        true => Ok(file),
        false => Err(Errno::EINVAL),
    }
}

/// Opens the map list of the process: a text that is as the maps were at this moment.
///
/// # Errors
/// `EACCES` to write it; `ENOMEM`, `EMFILE`.
pub fn open_maps(call: &Call<'_>, flags: u32) -> Answer {
    if flags & linux::O_ACCMODE != linux::O_RDONLY {
        return Err(Errno::EACCES.into());
    }
    // A text for people, like that of the kernel's own call.
    sched::this().stay.rename(What::EXEMPT);
    let object = memory::context().objects().create(0);
    let mut object = object.map_err(|_| Errno::ENOMEM)?;
    call.thread.process().charge(&mut object);
    let mut text = Text {
        object: &object,
        error: None,
    };
    let written = call.thread.process().space().maps(&mut text);
    if written.is_err() {
        return Err(text.error.map_or(Errno::ENOMEM, Errno::from).into());
    }
    let close_on_exec = flags & linux::O_CLOEXEC != 0;
    open(call, object, Kind::Text, close_on_exec)
}

/// Whether a path is that of the map list of process `pid`.
pub fn is_maps(path: &[u8], pid: u32) -> bool {
    let Some(rest) = path.strip_prefix(b"/proc/") else {
        return false;
    };
    match rest.strip_suffix(b"/maps") {
        Some(b"self" | b"thread-self") => true,
        Some(number) => core::str::from_utf8(number).is_ok_and(|n| n.parse() == Ok(pid)),
        None => false,
    }
}

/// Writes text to the end of an object.
struct Text<'a> {
    object: &'a MemObject,
    error: Option<ObjectError>,
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let at = self.object.size();
            let room = (4096 - at % 4096) as usize;
            let (now, later) = rest.split_at(rest.len().min(room));
            let written = self.object.write(at, now, at + now.len() as u64);
            written.map_err(|error| {
                self.error = Some(error);
                fmt::Error
            })?;
            rest = later;
        }
        Ok(())
    }
}
