//! Calls on handles themselves, and those that open interrupts and devices.

use abi::{Kind, Rights, slot};
use frame::slab::Ref;
use mm::ImageObject;
use mm::object::Name;

use super::{Answer, Call, add, done, handle_of, port_of, process_of};
use crate::arch;
use crate::errno::Errno;
use crate::handle::grant::Grant;
use crate::handle::memory::{Kind as FileKind, MemoryFile};
use crate::handle::{Handle, Object};
use crate::machine::device::Device;
use crate::machine::interrupt::Interrupt;
use crate::memory;
use crate::process::Process;
use crate::thread::{Step, resume};

/// Flag of [`duplicate`]: it can be revoked.
const REVOCABLE: u64 = 1;

/// The rights that `word` asks for, of `handle`.
fn rights_of(word: u64, handle: &Handle) -> Result<Rights, Errno> {
    match word as u32 {
        Rights::SAME => Ok(handle.rights),
        bits => Rights::from_bits(bits).ok_or(Errno::EINVAL),
    }
}

/// `HANDLE_DUPLICATE`.
pub fn duplicate(call: &Call<'_>) -> Answer {
    let (badge, flags) = (call.arg(2), call.arg(3));
    if flags & !REVOCABLE != 0 {
        return Err(Errno::EINVAL.into());
    }
    let original = handle_of(call, call.arg(0), Rights::DUPLICATE)?;
    let mut rights = rights_of(call.arg(1), &original)?;
    let revocable = flags & REVOCABLE != 0;
    if revocable {
        // Whoever makes it may end it.
        rights.remove(Rights::REVOKE);
    }
    let mut copy = original.limited(rights)?;
    match (&mut copy.object, badge) {
        (Object::Reply(_), _) => return Err(Errno::EACCES.into()),
        (_, 0) => {}
        (Object::Endpoint(port), badge) => port.set_badge(badge)?,
        _ => return Err(Errno::EINVAL.into()),
    }
    if revocable {
        let grant = Grant::below(copy.grant.clone())?;
        copy.put_under(grant);
        copy.rights |= Rights::REVOKE;
    }
    done(call.thread.process().insert_native(copy)?)
}

/// `HANDLE_CLOSE`.
pub fn close(call: &Call<'_>) -> Answer {
    let closed = call.thread.process().close_handle(call.arg(0))?;
    drop(closed);
    Ok(resume::reap(call.thread))
}

/// `HANDLE_INFO`.
pub fn info(call: &Call<'_>) -> Answer {
    let (kind, rights, badge) = {
        let handles = call.thread.process().handles();
        let handle = handles.look(call.arg(0))?;
        let badge = match &handle.object {
            Object::Endpoint(port) => port.badge(),
            _ => 0,
        };
        (handle.object.kind(), handle.rights, badge)
    };
    let context = call.thread.context();
    let words = [0, kind as u64, rights.bits().into(), badge];
    for (n, word) in words.into_iter().enumerate() {
        context.set(n, word);
    }
    Ok(Step::Keep)
}

/// `HANDLE_REVOKE`.
pub fn revoke(call: &Call<'_>) -> Answer {
    let handle = handle_of(call, call.arg(0), Rights::REVOKE)?;
    let grant = handle.grant.as_ref().ok_or(Errno::EINVAL)?;
    match &handle.object {
        Object::Endpoint(port) => port.revoke(grant),
        _ => grant.end(),
    }
    done(0)
}

/// `HANDLE_GIVE`.
pub fn give(call: &Call<'_>) -> Answer {
    let process = process_of(call, Rights::CONTROL)?;
    let handle = handle_of(call, call.arg(2), Rights::TRANSFER)?;
    if let Object::Reply(_) = handle.object {
        return Err(Errno::EACCES.into());
    }
    let rights = rights_of(call.arg(3), &handle)?;
    let copy = handle.limited(rights)?;
    if process.is_dying() {
        return Err(Errno::ESRCH.into());
    }
    match call.arg(1) {
        abi::NONE => done(process.insert_native(copy)?),
        fd if fd >= slot::COUNT => Err(Errno::EBADF.into()),
        fd => match process.put_handle(copy, fd) {
            Ok(()) => done(fd),
            Err((errno, copy)) => {
                drop(copy);
                Err(errno.into())
            }
        },
    }
}

/// `INTERRUPT_OPEN`.
pub fn open_interrupt(call: &Call<'_>) -> Answer {
    let machine = handle_of(call, call.arg(0), Rights::CONTROL)?;
    if machine.object.kind() != Kind::Machine {
        return Err(Errno::EACCES.into());
    }
    let number = u32::try_from(call.arg(1)).map_err(|_| Errno::EINVAL)?;
    let bits = call.arg(3);
    if bits == 0 {
        return Err(Errno::EINVAL.into());
    }
    let port = port_of(call, call.arg(2), Rights::NOTIFY)?;
    let interrupt = Interrupt::open(number, port, bits)?;
    add(
        call,
        Object::Interrupt(interrupt),
        Rights::CONTROL | Rights::TRANSFER,
    )
}

/// `INTERRUPT_ACK`.
pub fn acknowledge_interrupt(call: &Call<'_>) -> Answer {
    let handle = handle_of(call, call.arg(0), Rights::CONTROL)?;
    match &handle.object {
        Object::Interrupt(interrupt) => interrupt.acknowledge(),
        _ => return Err(Errno::EACCES.into()),
    }
    done(0)
}

/// `DEVICE_OPEN`.
pub fn open_device(call: &Call<'_>) -> Answer {
    let machine = handle_of(call, call.arg(0), Rights::CONTROL)?;
    if machine.object.kind() != Kind::Machine {
        return Err(Errno::EACCES.into());
    }
    let device = Device::open(call.arg(1), call.arg(2))?;
    let rights = Rights::DUPLICATE | Rights::TRANSFER | Rights::READ | Rights::WRITE;
    add(call, Object::Device(device), rights)
}

/// Gives the first program the handles that it starts with.
///
/// # Errors
/// `ENOMEM`.
pub fn endow(process: &Ref<Process>) -> Result<(), Errno> {
    let all = Rights::DUPLICATE | Rights::TRANSFER | Rights::READ | Rights::WRITE | Rights::CONTROL;
    let own = Handle::new(Object::Process(process.clone()), all);
    let machine = Rights::DUPLICATE | Rights::TRANSFER | Rights::CONTROL;
    let machine = Handle::new(Object::Machine, machine);
    give_at(process, slot::PROCESS, own)?;
    give_at(process, slot::MACHINE, machine)?;
    let Some(archive) = arch::initrd::bytes() else {
        return Ok(());
    };
    let objects = memory::context().objects();
    let object = objects.create_image(ImageObject::new(archive), Name::INITRD);
    let object = object.map_err(|_| Errno::ENOMEM)?;
    let file = MemoryFile::open(object, FileKind::Memory { mode: 0o444 })?;
    let readable = Rights::DUPLICATE | Rights::TRANSFER | Rights::READ | Rights::EXEC;
    give_at(
        process,
        slot::INITRD,
        Handle::new(Object::Memory(file), readable),
    )
}

fn give_at(process: &Process, fd: u64, handle: Handle) -> Result<(), Errno> {
    process.put_handle(handle, fd).map_err(|(errno, handle)| {
        drop(handle);
        errno
    })
}
