//! The memory calls: mmap, munmap, mprotect, mremap, brk, madvise, and what goes with them.

use arm64::attrs::Prot;
use linux_raw_sys::general as linux;
use mm::{Backing, MapFlags, MapRequest, RemapFlags, Verb};

use super::{Answer, Call, Handler, done};
use crate::errno::Errno;
use crate::thread::Resume;
use crate::thread::resume::step_change;

/// The family.
pub const CALLS: &[(u32, Handler)] = &[
    (linux::__NR_brk, brk),
    (linux::__NR_munmap, munmap),
    (linux::__NR_mremap, mremap),
    (linux::__NR_mmap, mmap),
    (linux::__NR_mprotect, mprotect),
    (linux::__NR_madvise, madvise),
];

const PAGE: u64 = 4096;

/// Begins a change and does its first steps on the way out.
fn change(call: &Call<'_>, verb: Verb, populate: u64) -> Answer {
    match call.thread.process().space().begin(verb) {
        Ok(change) => Ok(step_change(call.thread, change, populate)),
        Err(mm::MmError::Busy) => Ok(call.thread.busy(Resume::Call)),
        Err(error) => Err(Errno::from(error).into()),
    }
}

fn prot_of(bits: u32) -> Result<Prot, Errno> {
    // PROT_BTI and PROT_MTE are refused like any other bit whose feature is not offered.
    if bits & !(linux::PROT_READ | linux::PROT_WRITE | linux::PROT_EXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut prot = Prot::empty();
    prot.set(Prot::READ, bits & linux::PROT_READ != 0);
    prot.set(Prot::WRITE, bits & linux::PROT_WRITE != 0);
    prot.set(Prot::EXEC, bits & linux::PROT_EXEC != 0);
    // What can be written or executed can be read: entries know no other way.
    if !prot.is_empty() {
        prot |= Prot::READ;
    }
    Ok(prot)
}

fn mmap(call: &Call<'_>) -> Answer {
    let (addr, len, flags, offset) = (call.arg(0), call.arg(1), call.uint(3), call.arg(5));
    if !offset.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL.into());
    }
    if flags & linux::MAP_ANONYMOUS == 0 {
        call.thread.process().handles().get(call.arg(4))?;
        // The console cannot be mapped.
        return Err(Errno::ENODEV.into());
    }
    let kind = flags & linux::MAP_TYPE;
    if kind != linux::MAP_PRIVATE && kind != linux::MAP_SHARED {
        return Err(Errno::EINVAL.into());
    }
    if flags & linux::MAP_HUGETLB != 0 {
        // No huge pages are set aside, which Linux answers like this.
        return Err(Errno::ENOMEM.into());
    }
    // Unknown bits of `prot` are ignored by mmap, not by mprotect.
    let known = linux::PROT_READ | linux::PROT_WRITE | linux::PROT_EXEC;
    let prot = prot_of(call.uint(2) & known)?;
    let request = MapRequest {
        addr,
        len,
        prot,
        flags: map_flags(flags),
        backing: Backing::Anon,
    };
    let populate =
        flags & (linux::MAP_POPULATE | linux::MAP_LOCKED) != 0 && flags & linux::MAP_NONBLOCK == 0;
    change(call, Verb::Map(request), if populate { len } else { 0 })
}

fn map_flags(flags: u32) -> MapFlags {
    let pairs = [
        (linux::MAP_FIXED, MapFlags::FIXED),
        (
            linux::MAP_FIXED_NOREPLACE,
            MapFlags::FIXED | MapFlags::NOREPLACE,
        ),
        (linux::MAP_GROWSDOWN, MapFlags::GROWSDOWN),
        (linux::MAP_NORESERVE, MapFlags::NORESERVE),
    ];
    let set = pairs.into_iter().filter(|&(bit, _)| flags & bit != 0);
    let shared = match flags & linux::MAP_TYPE == linux::MAP_SHARED {
        true => MapFlags::SHARED,
        false => MapFlags::empty(),
    };
    set.fold(shared, |all, (_, flag)| all | flag)
}

fn munmap(call: &Call<'_>) -> Answer {
    change(
        call,
        Verb::Unmap {
            addr: call.arg(0),
            len: call.arg(1),
        },
        0,
    )
}

fn mprotect(call: &Call<'_>) -> Answer {
    let (addr, len) = (call.arg(0), call.arg(1));
    // PROT_GROWSDOWN and PROT_GROWSUP belong to stacks made by hand: not offered.
    let prot = prot_of(call.uint(2))?;
    change(call, Verb::Protect { addr, len, prot }, 0)
}

fn mremap(call: &Call<'_>) -> Answer {
    let flags = RemapFlags::from_bits(call.uint(3)).ok_or(Errno::EINVAL)?;
    let verb = Verb::Remap {
        old: call.arg(0),
        old_len: call.arg(1),
        new_len: call.arg(2),
        flags,
        new: call.arg(4),
    };
    change(call, verb, 0)
}

/// `brk` answers with the break, never with an error.
fn brk(call: &Call<'_>) -> Answer {
    change(call, Verb::Brk { new: call.arg(0) }, 0)
}

fn madvise(call: &Call<'_>) -> Answer {
    let (addr, len, advice) = (call.arg(0), call.arg(1), call.uint(2));
    match advice {
        linux::MADV_DONTNEED => return change(call, Verb::DontNeed { addr, len }, 0),
        // Hints without an effect that a program could see. MADV_FREE may keep the contents.
        linux::MADV_NORMAL
        | linux::MADV_RANDOM
        | linux::MADV_SEQUENTIAL
        | linux::MADV_WILLNEED
        | linux::MADV_FREE
        | linux::MADV_COLD
        | linux::MADV_DONTDUMP
        | linux::MADV_DODUMP
        | linux::MADV_DONTFORK
        | linux::MADV_DOFORK
        | linux::MADV_HUGEPAGE
        | linux::MADV_NOHUGEPAGE
        | linux::MADV_MERGEABLE
        | linux::MADV_UNMERGEABLE => {}
        _ => return Err(Errno::EINVAL.into()),
    }
    check_range(call, addr, len)
}

/// What `madvise` finds wrong with a range, whatever the advice.
fn check_range(call: &Call<'_>, addr: u64, len: u64) -> Answer {
    let rounded = len.checked_next_multiple_of(PAGE).ok_or(Errno::EINVAL)?;
    let end = addr.checked_add(rounded).ok_or(Errno::EINVAL)?;
    if !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL.into());
    }
    match call.thread.process().space().is_covered(addr, end) {
        true => done(0),
        false => Err(Errno::ENOMEM.into()),
    }
}
