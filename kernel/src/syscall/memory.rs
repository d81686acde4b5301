//! The memory calls: mmap, munmap, mprotect, mremap, brk, madvise, mincore, and what goes with them.

use abi::Rights;
use arm64::UserAddr;
use arm64::attrs::Prot;
use frame::slab::Ref;
use linux_raw_sys::general as linux;
use mm::object::{MAX_SIZE, MemObject};
use mm::{
    Access, Advice, Backing, Change, Changed, CopyStop, Grows, MapFlags, MapRequest, MmError, Only,
    RemapFlags, Verb, VmaFlags,
};

use super::{Answer, Call, Handler};
use crate::arch::cpu;
use crate::errno::Errno;
use crate::handle::Object;
use crate::handle::remove::Remove;
use crate::machine::device::Device;
use crate::memory;
use crate::process::Process;
use crate::thread::resume::{CHANGE_BUDGET, Populate, Stop, changed};
use crate::thread::{Resume, Step, Thread};
use crate::work;

/// The family.
pub const CALLS: &[(u32, Handler)] = &[
    (linux::__NR_brk, brk),
    (linux::__NR_munmap, munmap),
    (linux::__NR_mremap, mremap),
    (linux::__NR_mmap, mmap),
    (linux::__NR_mprotect, mprotect),
    (linux::__NR_madvise, madvise),
    (linux::__NR_mincore, mincore),
];

const PAGE: u64 = 4096;

/// Begins a change of the caller's map and does its first step; the rest, if there is any, on the way
/// out.
#[inline(always)]
fn change_own(call: &Call<'_>, verb: Verb, populate: u64) -> Answer {
    match begin(call, call.thread.process(), verb, populate)? {
        Begun::Over(step) => Ok(step),
        Begun::Left(change) => Ok(call.thread.more(Resume::Change {
            change,
            populate,
            of: None,
        })),
        Begun::Busy => Ok(call.thread.busy(Resume::Call)),
    }
}

/// The same with the map of another process, for a call of the kernel's own.
pub fn change(call: &Call<'_>, verb: Verb, populate: u64, of: Option<Ref<Process>>) -> Answer {
    let Some(process) = of else {
        return change_own(call, verb, populate);
    };
    // Nothing changes under the feet of its end.
    if process.is_dying() {
        return Err(Errno::ESRCH.into());
    }
    match begin(call, &process, verb, 0)? {
        Begun::Over(step) => Ok(step),
        Begun::Left(change) => Ok(call.thread.more(Resume::Change {
            change,
            populate: 0,
            of: Some(process),
        })),
        Begun::Busy => Ok(call.thread.busy(Resume::NativeCall)),
    }
}

/// What became of a change at its beginning.
enum Begun {
    Over(Step),
    Left(Change),
    Busy,
}

#[inline(always)]
fn begin(
    call: &Call<'_>,
    process: &Ref<Process>,
    verb: Verb,
    populate: u64,
) -> Result<Begun, Stop> {
    let thread = call.thread;
    match process.space().change(verb, CHANGE_BUDGET) {
        Ok(Changed::AtOnce(result)) => Ok(Begun::Over(changed(thread, result, populate))),
        Ok(Changed::Over(result)) => {
            Process::wake_parked(process);
            work::attend_to_pending();
            Ok(Begun::Over(changed(thread, result, populate)))
        }
        Ok(Changed::Left(change)) => Ok(Begun::Left(change)),
        Err(MmError::Busy) => Ok(Begun::Busy),
        Err(error) => {
            Process::wake_parked(process);
            Err(Errno::from(error).into())
        }
    }
}

/// The rights among these bits. `mmap` ignores others.
fn prot_of(bits: u32) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, bits & linux::PROT_READ != 0);
    prot.set(Prot::WRITE, bits & linux::PROT_WRITE != 0);
    prot.set(Prot::EXEC, bits & linux::PROT_EXEC != 0);
    prot
}

/// An address without the tag in its top byte, which these calls ignore: `mmap`, `mremap` and `brk`
/// do not.
pub const fn untagged(addr: u64) -> u64 {
    ((addr << 8) as i64 >> 8) as u64
}

/// Arguments of `mmap`.
#[derive(Clone, Copy, Debug)]
pub struct MapArguments {
    /// Where.
    pub addr: u64,
    /// Bytes.
    pub len: u64,
    /// `PROT_` bits.
    pub prot: u32,
    /// `MAP_` bits.
    pub flags: u32,
    /// The caller's handle of an object.
    pub fd: u64,
    /// Where in the object.
    pub offset: u64,
}

fn mmap(call: &Call<'_>) -> Answer {
    let arguments = MapArguments {
        addr: call.arg(0),
        len: call.arg(1),
        prot: call.uint(2),
        flags: call.uint(3),
        fd: call.arg(4),
        offset: call.arg(5),
    };
    map(call, &arguments, None)
}

/// Maps memory, or an object of the caller's, into the caller's space or another. Checked in Linux's
/// order: what is wrong with the kind of mapping or with the object is said after what is wrong with
/// the place.
#[inline]
pub fn map(call: &Call<'_>, arguments: &MapArguments, of: Option<Ref<Process>>) -> Answer {
    let MapArguments {
        addr,
        len,
        flags,
        offset,
        ..
    } = *arguments;
    if !offset.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL.into());
    }
    let prot = prot_of(arguments.prot);
    let found = match flags & linux::MAP_ANONYMOUS != 0 {
        true => anonymous(flags, len, of.as_ref().unwrap_or(call.thread.process())),
        false => {
            let source = source_of(call.thread.process(), arguments.fd);
            if let Err(Errno::EBADF) = source {
                return Err(Errno::EBADF.into());
            }
            if flags & linux::MAP_HUGETLB != 0 {
                return Err(Errno::EINVAL.into());
            }
            match source {
                Ok(Source::Device(device, rights)) => {
                    of_device(flags, &device, rights, (offset, len), prot)
                }
                Ok(Source::Object(object, rights)) => {
                    of_file(flags, Ok((object, rights)), (offset, len), prot)
                }
                Err(errno) => of_file(flags, Err(errno), (offset, len), prot),
            }
        }
    };
    let ((backing, never), refusal) = match found {
        Ok(filling) => (filling, None),
        Err(refusal) => ((Backing::ANON, MapFlags::empty()), Some(refusal)),
    };
    let mut flags_of_map = map_flags(flags) | never;
    flags_of_map.set(MapFlags::MTE, arguments.prot & offered_tags() != 0);
    let request = MapRequest {
        addr,
        len,
        prot,
        flags: flags_of_map,
        backing,
        refusal,
    };
    let populate =
        flags & (linux::MAP_POPULATE | linux::MAP_LOCKED) != 0 && flags & linux::MAP_NONBLOCK == 0;
    change(call, Verb::Map(request), if populate { len } else { 0 }, of)
}

/// What fills a mapping, and the flag of one that must not be written.
type Filling = (Backing, MapFlags);

/// What fills anonymous memory of `process`: shared, it is an object of its own.
fn anonymous(flags: u32, len: u64, process: &Process) -> Result<Filling, MmError> {
    let size = len.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
    let limit = match flags & linux::MAP_NORESERVE {
        0 => memory::context().promise_limit(),
        _ => u64::MAX,
    };
    let backing = match flags & linux::MAP_TYPE {
        // No huge pages are set aside, which Linux answers like this.
        linux::MAP_PRIVATE | linux::MAP_SHARED if flags & linux::MAP_HUGETLB != 0 => {
            return Err(MmError::NoMemory);
        }
        linux::MAP_PRIVATE => Backing::ANON,
        linux::MAP_SHARED if flags & linux::MAP_GROWSDOWN != 0 => return Err(MmError::Invalid),
        linux::MAP_SHARED if size > MAX_SIZE || size / PAGE > limit => {
            return Err(MmError::NoMemory);
        }
        linux::MAP_SHARED => {
            let object = memory::context().objects().create(size);
            let mut object = object.map_err(|_| MmError::NoMemory)?;
            process.charge(&mut object);
            Backing::object(object, 0)
        }
        _ => return Err(MmError::Invalid),
    };
    Ok((backing, MapFlags::empty()))
}

/// Largest offset of a byte in a file.
const MAX_OFFSET: u64 = i64::MAX as u64;

/// Flags that `MAP_SHARED_VALIDATE` knows, for memory files.
const VALIDATED: u32 = linux::MAP_TYPE
    | linux::MAP_FIXED
    | linux::MAP_FIXED_NOREPLACE
    | linux::MAP_GROWSDOWN
    | linux::MAP_DENYWRITE
    | linux::MAP_EXECUTABLE
    | linux::MAP_LOCKED
    | linux::MAP_NORESERVE
    | linux::MAP_POPULATE
    | linux::MAP_NONBLOCK
    | linux::MAP_STACK;

/// What fills a mapping of an open file.
fn of_file(
    flags: u32,
    object: Result<(Ref<MemObject>, Rights), Errno>,
    (offset, len): (u64, u64),
    prot: Prot,
) -> Result<Filling, MmError> {
    let whole = len.checked_next_multiple_of(PAGE);
    let end = whole.and_then(|len| offset.checked_add(len));
    if end.is_none_or(|end| end > MAX_OFFSET) {
        return Err(MmError::Overflow);
    }
    let kind = flags & linux::MAP_TYPE;
    match kind {
        linux::MAP_SHARED_VALIDATE if flags & !VALIDATED != 0 => {
            return Err(MmError::NotSupported);
        }
        linux::MAP_SHARED | linux::MAP_PRIVATE | linux::MAP_SHARED_VALIDATE => {}
        _ => return Err(MmError::Invalid),
    }
    let (object, rights) = object.map_err(|_| MmError::NoDevice)?;
    if flags & linux::MAP_GROWSDOWN != 0 {
        return Err(MmError::Invalid);
    }
    let shared = kind != linux::MAP_PRIVATE;
    let mut never = allowed(rights, prot, shared)?;
    if shared && object.is_write_sealed() {
        if prot.contains(Prot::WRITE) {
            return Err(MmError::NotPermitted);
        }
        never |= MapFlags::NEVER_WRITE;
    }
    Ok((Backing::object(object, offset), never))
}

/// What a handle to be mapped is of.
enum Source {
    Object(Ref<MemObject>, Rights),
    Device(Ref<Device>, Rights),
}

fn source_of(process: &Process, fd: u64) -> Result<Source, Errno> {
    let handles = process.handles();
    let handle = handles.look(fd)?;
    match &handle.object {
        Object::Device(device) => Ok(Source::Device(device.clone(), handle.rights)),
        _ => handles
            .memory(fd)
            .map(|(object, rights)| Source::Object(object, rights)),
    }
}

/// What fills a mapping of registers.
fn of_device(
    flags: u32,
    device: &Device,
    rights: Rights,
    (offset, len): (u64, u64),
    prot: Prot,
) -> Result<Filling, MmError> {
    let whole = len
        .checked_next_multiple_of(PAGE)
        .ok_or(MmError::Overflow)?;
    let base = device.part(offset, whole).map_err(|_| MmError::Invalid)?;
    if flags & linux::MAP_TYPE == linux::MAP_PRIVATE {
        return Err(MmError::Invalid);
    }
    let never = allowed(rights, prot, true)?;
    Ok((Backing::Device { base }, never))
}

/// What a mapping through a handle with `rights` can never become.
fn allowed(rights: Rights, prot: Prot, shared: bool) -> Result<MapFlags, MmError> {
    let mut never = MapFlags::empty();
    let may_write = !shared || rights.contains(Rights::WRITE);
    let may_exec = rights.contains(Rights::EXEC);
    if !rights.contains(Rights::READ)
        || prot.contains(Prot::WRITE) && !may_write
        || prot.contains(Prot::EXEC) && !may_exec
    {
        return Err(MmError::Access);
    }
    never.set(MapFlags::NEVER_WRITE, !may_write);
    never.set(MapFlags::NEVER_EXEC, !may_exec);
    Ok(never)
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
    let shared = match flags & linux::MAP_TYPE == linux::MAP_PRIVATE {
        true => MapFlags::empty(),
        false => MapFlags::SHARED,
    };
    set.fold(shared, |all, (_, flag)| all | flag)
}

fn munmap(call: &Call<'_>) -> Answer {
    let (addr, len) = (untagged(call.arg(0)), call.arg(1));
    change_own(call, Verb::Unmap { addr, len }, 0)
}

fn mprotect(call: &Call<'_>) -> Answer {
    let verb = protection(untagged(call.arg(0)), call.arg(1), call.uint(2))?;
    change_own(call, verb, 0)
}

/// `mprotect` as a verb.
///
/// # Errors
/// `EINVAL`.
#[inline(always)]
pub fn protection(addr: u64, len: u64, bits: u32) -> Result<Verb, Errno> {
    let growing = linux::PROT_GROWSDOWN | linux::PROT_GROWSUP;
    if bits & growing == growing {
        return Err(Errno::EINVAL);
    }
    // PROT_BTI is refused like any other bit whose feature is not offered, and so is PROT_MTE where there
    // are no tags: after what is wrong with the range, before what is wrong with its areas. PROT_SEM
    // means nothing.
    let rights = linux::PROT_READ | linux::PROT_WRITE | linux::PROT_EXEC;
    let known = rights | linux::PROT_SEM | growing | offered_tags();
    let whole = len.checked_next_multiple_of(PAGE);
    let possible = whole.and_then(|len| addr.checked_add(len)).is_some();
    if bits & !known != 0 && (!addr.is_multiple_of(PAGE) || len != 0 && possible) {
        return Err(Errno::EINVAL);
    }
    let prot = prot_of(bits);
    let grows = match bits & growing {
        0 => None,
        linux::PROT_GROWSDOWN => Some(Grows::Down),
        _ => Some(Grows::Up),
    };
    Ok(match grows {
        _ if bits & linux::PROT_MTE != 0 => Verb::Tag {
            addr,
            len,
            prot,
            grows,
        },
        None => Verb::Protect { addr, len, prot },
        Some(grows) => Verb::ProtectGrowing {
            addr,
            len,
            prot,
            grows,
        },
    })
}

/// `PROT_MTE` where memory can carry tags. `mmap` ignores it elsewhere, as on Linux.
fn offered_tags() -> u32 {
    match cpu::features().has_tags() {
        true => linux::PROT_MTE,
        false => 0,
    }
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
    change_own(call, verb, 0)
}

/// `brk` answers with the break, never with an error.
fn brk(call: &Call<'_>) -> Answer {
    change_own(call, Verb::Brk { new: call.arg(0) }, 0)
}

fn madvise(call: &Call<'_>) -> Answer {
    let (addr, len, advice) = (untagged(call.arg(0)), call.arg(1), call.uint(2));
    match advice {
        linux::MADV_DONTNEED | linux::MADV_DONTNEED_LOCKED => {
            return change_own(call, Verb::DontNeed { addr, len }, 0);
        }
        linux::MADV_COLLAPSE => return change_own(call, Verb::Collapse { addr, len }, 0),
        linux::MADV_REMOVE => return remove(call),
        linux::MADV_POPULATE_READ => return populate(call, Access::Read),
        linux::MADV_POPULATE_WRITE => return populate(call, Access::Write),
        _ => {}
    }
    let advice = remembered(advice).ok_or(Errno::EINVAL)?;
    change_own(call, Verb::Advise { addr, len, advice }, 0)
}

/// Advice of the kinds that are remembered with the areas, and of those that nothing comes of: there
/// is no swap and no reclaim, and the contents of what `MADV_FREE` gives up may stay.
fn remembered(advice: u32) -> Option<Advice> {
    let set = |flags| Advice::new(flags, VmaFlags::empty());
    let clear = |flags| Advice::new(VmaFlags::empty(), flags);
    let reads = VmaFlags::RAND_READ.union(VmaFlags::SEQ_READ);
    Some(match advice {
        linux::MADV_NORMAL => clear(reads),
        linux::MADV_RANDOM => Advice::new(VmaFlags::RAND_READ, reads),
        linux::MADV_SEQUENTIAL => Advice::new(VmaFlags::SEQ_READ, reads),
        linux::MADV_HUGEPAGE => Advice::new(VmaFlags::HUGEPAGE, VmaFlags::NOHUGEPAGE),
        linux::MADV_NOHUGEPAGE => Advice::new(VmaFlags::NOHUGEPAGE, VmaFlags::HUGEPAGE),
        linux::MADV_DONTFORK => set(VmaFlags::DONTCOPY),
        linux::MADV_DOFORK => clear(VmaFlags::DONTCOPY),
        linux::MADV_DONTDUMP => set(VmaFlags::DONTDUMP),
        linux::MADV_DODUMP => clear(VmaFlags::DONTDUMP),
        linux::MADV_WIPEONFORK => set(VmaFlags::WIPEONFORK).only(Only::Anonymous),
        linux::MADV_KEEPONFORK => clear(VmaFlags::WIPEONFORK),
        linux::MADV_MERGEABLE => set(VmaFlags::MERGEABLE).only(Only::Private),
        linux::MADV_UNMERGEABLE => clear(VmaFlags::MERGEABLE),
        linux::MADV_FREE => Advice::NOTHING.only(Only::Anonymous),
        linux::MADV_WILLNEED | linux::MADV_COLD | linux::MADV_PAGEOUT => Advice::NOTHING,
        _ => return None,
    })
}

fn populate(call: &Call<'_>, access: Access) -> Answer {
    let (addr, len) = (untagged(call.arg(0)), call.arg(1));
    let rounded = len.checked_next_multiple_of(PAGE).ok_or(Errno::EINVAL)?;
    let end = addr.checked_add(rounded).ok_or(Errno::EINVAL)?;
    if !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL.into());
    }
    Ok(Populate::advised(addr, end, access).step(call.thread))
}

fn remove(call: &Call<'_>) -> Answer {
    let (addr, len) = (untagged(call.arg(0)), call.arg(1));
    let rounded = len.checked_next_multiple_of(PAGE).ok_or(Errno::EINVAL)?;
    let end = addr.checked_add(rounded).ok_or(Errno::EINVAL)?;
    if !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL.into());
    }
    Ok(Remove::new(addr, end).step(call.thread))
}

fn mincore(call: &Call<'_>) -> Answer {
    let (addr, len, vec) = (untagged(call.arg(0)), call.arg(1), call.user(2));
    if !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL.into());
    }
    let end = addr.checked_add(len);
    let end = end.filter(|&end| end <= call.thread.process().space().task_size());
    if end.is_none() {
        return Err(Errno::ENOMEM.into());
    }
    let pages = len.div_ceil(PAGE);
    Ok(Mincore { addr, pages, vec }.step(call.thread))
}

/// What is left of a `mincore`.
#[derive(Clone, Copy, Debug)]
pub struct Mincore {
    addr: u64,
    pages: u64,
    vec: UserAddr,
}

impl Mincore {
    /// Looks at some pages.
    pub fn step(mut self, thread: &Ref<Thread>) -> Step {
        let mut bytes = [0; 256];
        let count = self.pages.min(bytes.len() as u64) as usize;
        if count == 0 {
            return Step::Done(Ok(0));
        }
        let space = thread.process().space();
        let count = match space.mincore(self.addr, &mut bytes[..count]) {
            Ok(count) => count,
            Err(MmError::Busy) => return thread.busy(Resume::Mincore(self)),
            Err(error) => return Step::Done(Err(error.into())),
        };
        match space.copy_out(self.vec, &bytes[..count]) {
            Ok(count) => {
                self.addr += count as u64 * PAGE;
                self.vec = self.vec.further(count as u64);
                self.pages -= count as u64;
                thread.more(Resume::Mincore(self))
            }
            Err(CopyStop::Busy) => thread.busy(Resume::Mincore(self)),
            Err(CopyStop::OutOfMemory) => Step::Done(Err(Errno::ENOMEM)),
            Err(_) => Step::Done(Err(Errno::EFAULT)),
        }
    }
}
