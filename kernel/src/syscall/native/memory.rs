//! Calls on another process's memory.

use abi::Rights;
use mm::{Access, Verb};

use super::{Answer, Call, done, process_of};
use crate::errno::Errno;
use crate::syscall::file::check_buffer;
use crate::syscall::memory::{self, MapArguments};
use crate::syscall::vm_copy::VmCopy;

/// `MEMORY_MAP`.
pub fn map(call: &Call<'_>) -> Answer {
    let process = process_of(call, Rights::CONTROL)?;
    let arguments = MapArguments {
        addr: call.arg(1),
        len: call.arg(2),
        prot: call.uint(3),
        flags: call.uint(4),
        fd: call.arg(5),
        offset: call.arg(6),
    };
    memory::map(call, &arguments, Some(process))
}

/// `MEMORY_UNMAP`.
pub fn unmap(call: &Call<'_>) -> Answer {
    let process = process_of(call, Rights::CONTROL)?;
    let verb = Verb::Unmap {
        addr: call.arg(1),
        len: call.arg(2),
    };
    memory::change(call, verb, 0, Some(process))
}

/// `MEMORY_PROTECT`.
pub fn protect(call: &Call<'_>) -> Answer {
    let process = process_of(call, Rights::CONTROL)?;
    let verb = memory::protection(call.arg(1), call.arg(2), call.uint(3))?;
    memory::change(call, verb, 0, Some(process))
}

/// `MEMORY_BRK`.
pub fn brk(call: &Call<'_>) -> Answer {
    let process = process_of(call, Rights::CONTROL)?;
    let addr = call.arg(1);
    if addr >= process.space().task_size() {
        return Err(Errno::EINVAL.into());
    }
    // Once it runs the heap is its own affair.
    if process.thread_count() != 0 {
        return Err(Errno::EBUSY.into());
    }
    process.space().set_brk(addr);
    done(0)
}

fn copy(call: &Call<'_>, rights: Rights, access: Access) -> Answer {
    let process = process_of(call, rights)?;
    let (there, here, len) = (call.arg(1), call.user(2), call.arg(3));
    check_buffer(call, here, len)?;
    match len {
        0 => done(0),
        len => Ok(VmCopy::of(process, there, here, len, access).step(call.thread)),
    }
}

/// `MEMORY_READ`.
pub fn read(call: &Call<'_>) -> Answer {
    copy(call, Rights::READ, Access::Read)
}

/// `MEMORY_WRITE`.
pub fn write(call: &Call<'_>) -> Answer {
    copy(call, Rights::WRITE, Access::Write)
}
