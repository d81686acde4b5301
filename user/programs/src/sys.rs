//! Raw system calls of Linux and the constants that the programs use: arm64's, and x86_64's so
//! that most programs can be tried on the Linux they are built on.
//!
//! Results are as the kernel gives them: negative values from -4095 to -1 are error numbers.

use tessera::raw::{self, Frame};

/// System-call numbers: the generic table of Linux on arm64, its own table on x86_64.
pub mod nr {
    macro_rules! numbers {
        ($($name:ident = $arm64:literal, $x86_64:literal;)*) => {
            $(
                #[doc = concat!("`", stringify!($name), "`, ", $arm64, " on arm64.")]
                pub const $name: usize =
                    if cfg!(target_arch = "x86_64") { $x86_64 } else { $arm64 };
            )*
        };
    }

    numbers! {
        DUP = 23, 32;
        DUP3 = 24, 292;
        FCNTL = 25, 72;
        IOCTL = 29, 16;
        MOUNT = 40, 165;
        FTRUNCATE = 46, 77;
        FALLOCATE = 47, 285;
        OPENAT = 56, 257;
        CLOSE = 57, 3;
        LSEEK = 62, 8;
        READ = 63, 0;
        WRITE = 64, 1;
        READV = 65, 19;
        WRITEV = 66, 20;
        PREAD64 = 67, 17;
        PWRITE64 = 68, 18;
        PREADV = 69, 295;
        PWRITEV = 70, 296;
        PPOLL = 73, 271;
        FSTAT = 80, 5;
        CAPSET = 91, 126;
        EXIT = 93, 60;
        EXIT_GROUP = 94, 231;
        SET_TID_ADDRESS = 96, 218;
        FUTEX = 98, 202;
        SET_ROBUST_LIST = 99, 273;
        NANOSLEEP = 101, 35;
        CLOCK_GETTIME = 113, 228;
        CLOCK_NANOSLEEP = 115, 230;
        SCHED_SETPARAM = 118, 142;
        SCHED_SETSCHEDULER = 119, 144;
        SCHED_GETSCHEDULER = 120, 145;
        SCHED_GETPARAM = 121, 143;
        SCHED_SETAFFINITY = 122, 203;
        SCHED_GETAFFINITY = 123, 204;
        SCHED_YIELD = 124, 24;
        SCHED_GET_PRIORITY_MAX = 125, 146;
        SCHED_GET_PRIORITY_MIN = 126, 147;
        SCHED_RR_GET_INTERVAL = 127, 148;
        KILL = 129, 62;
        TKILL = 130, 200;
        TGKILL = 131, 234;
        SIGALTSTACK = 132, 131;
        RT_SIGACTION = 134, 13;
        RT_SIGPROCMASK = 135, 14;
        SETPRIORITY = 140, 141;
        GETPRIORITY = 141, 140;
        REBOOT = 142, 169;
        UNAME = 160, 63;
        GETRUSAGE = 165, 98;
        GETCPU = 168, 309;
        PRCTL = 167, 157;
        GETPID = 172, 39;
        GETPPID = 173, 110;
        GETTID = 178, 186;
        BRK = 214, 12;
        MUNMAP = 215, 11;
        MREMAP = 216, 25;
        CLONE = 220, 56;
        MMAP = 222, 9;
        MPROTECT = 226, 10;
        MINCORE = 232, 27;
        MADVISE = 233, 28;
        PROCESS_VM_READV = 270, 310;
        PROCESS_VM_WRITEV = 271, 311;
        GETRANDOM = 278, 318;
        MEMFD_CREATE = 279, 319;
    }
}

/// Error numbers, positive.
pub mod errno {
    #![expect(
        missing_docs,
        reason = "the names are Linux's; a sentence for each would repeat it"
    )]
    pub const EPERM: isize = 1;
    pub const ENOENT: isize = 2;
    pub const ESRCH: isize = 3;
    pub const EIO: isize = 5;
    pub const ENXIO: isize = 6;
    pub const EBADF: isize = 9;
    pub const EAGAIN: isize = 11;
    pub const ENOMEM: isize = 12;
    pub const EACCES: isize = 13;
    pub const EFAULT: isize = 14;
    pub const EBUSY: isize = 16;
    pub const EEXIST: isize = 17;
    pub const ENODEV: isize = 19;
    pub const EINVAL: isize = 22;
    pub const EMFILE: isize = 24;
    pub const ENOTTY: isize = 25;
    pub const EFBIG: isize = 27;
    pub const ENOSPC: isize = 28;
    pub const ESPIPE: isize = 29;
    pub const EPIPE: isize = 32;
    pub const ENOSYS: isize = 38;
    pub const EOPNOTSUPP: isize = 95;
    pub const ETIMEDOUT: isize = 110;
    pub const EDQUOT: isize = 122;
}

/// Protection and mapping flags.
pub mod map {
    #![expect(
        missing_docs,
        reason = "the names are Linux's; a sentence for each would repeat it"
    )]
    pub const PROT_NONE: usize = 0;
    pub const PROT_READ: usize = 1;
    pub const PROT_WRITE: usize = 2;
    pub const PROT_EXEC: usize = 4;
    pub const RW: usize = PROT_READ | PROT_WRITE;
    pub const RX: usize = PROT_READ | PROT_EXEC;
    pub const SHARED: usize = 0x01;
    pub const PRIVATE: usize = 0x02;
    pub const FIXED: usize = 0x10;
    pub const ANONYMOUS: usize = 0x20;
    pub const NORESERVE: usize = 0x4000;
    pub const POPULATE: usize = 0x8000;
    pub const FIXED_NOREPLACE: usize = 0x10_0000;
    pub const MREMAP_MAYMOVE: usize = 1;
    pub const MREMAP_FIXED: usize = 2;
    pub const MADV_NORMAL: usize = 0;
    pub const MADV_RANDOM: usize = 1;
    pub const MADV_DONTNEED: usize = 4;
    pub const MADV_REMOVE: usize = 9;
    pub const MADV_HUGEPAGE: usize = 14;
    pub const MADV_NOHUGEPAGE: usize = 15;
    pub const MADV_POPULATE_READ: usize = 22;
    pub const MADV_POPULATE_WRITE: usize = 23;
    pub const MADV_COLLAPSE: usize = 25;
}

/// The page size the programs count on (AT_PAGESZ of this machine).
pub const PAGE: usize = 4096;

/// Makes the system call `number` and returns what the kernel left in the result register. On a
/// machine this module does not know, nothing is called and the answer is -ENOSYS.
///
/// # Safety
/// A system call can change or take away any memory of the program. The caller answers for what
/// `number` does with `args`: only memory that no Rust object lives in may change under it.
#[inline]
pub unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    #[cfg(target_arch = "aarch64")]
    {
        let mut x0 = args[0];
        // SAFETY: the kernel preserves everything but x0; memory effects are the caller's promise.
        unsafe {
            core::arch::asm!("svc #0", in("x8") number, inlateout("x0") x0, in("x1") args[1],
                in("x2") args[2], in("x3") args[3], in("x4") args[4], in("x5") args[5],
                options(nostack));
        }
        x0 as isize
    }
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        let mut rax = number;
        // SAFETY: the kernel preserves all but rax, rcx, r11; memory is the caller's promise.
        unsafe {
            core::arch::asm!("syscall", inlateout("rax") rax, in("rdi") args[0],
                in("rsi") args[1], in("rdx") args[2], in("r10") args[3], in("r8") args[4],
                in("r9") args[5], out("rcx") _, out("r11") _, options(nostack));
        }
        rax as isize
    }
    #[cfg(not(any(
        target_arch = "aarch64",
        all(target_arch = "x86_64", target_os = "linux")
    )))]
    {
        let _ = (number, args);
        -errno::ENOSYS
    }
}

/// A Tessera call: `svc #1` with the number in x8. On Linux the same instruction is an ordinary
/// system call, so only numbers that are harmless there may be tried before
/// [`is_tessera`] has answered.
///
/// # Safety
/// As [`syscall`].
#[inline]
pub unsafe fn tessera_call(number: usize, args: [usize; 4]) -> isize {
    let mut frame = Frame::new(args.map(|arg| arg as u64));
    // SAFETY: passed on to the caller.
    unsafe { raw::enter(number as u64, &mut frame) };
    frame.x[0] as isize
}

/// What [`info`] can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Info {
    /// Counters as JSON text.
    Stats = 0,
    /// The maps of the calling program, as text.
    Maps = 1,
    /// RAM banks, image sections, tables by level, features, as text.
    Boot = 2,
    /// The first fault of the calling program with its walk, as text.
    FirstFault = 3,
    /// The kernel's page tables as merged ranges, as text.
    KernelTables = 4,
}

/// The handle of the machine that the first program has: some calls ask for it.
const MACHINE: usize = 65;
/// Size of the first buffer that [`info`] offers, in bytes.
const FIRST_BUFFER: usize = 64 * 1024;
/// Where [`info`] stops growing its buffer, in bytes.
const LAST_BUFFER: usize = 16 * 1024 * 1024;

/// The text of one kind of [`Info`]; the buffer grows while an answer fills it. The error is the
/// (negative) error number, or -ENOSYS where the kernel has no such call.
pub fn info(kind: Info) -> Result<String, isize> {
    let mut bytes = Vec::new();
    info_into(kind, &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// As [`info`], into a buffer that can be used again without allocating.
pub fn info_into(kind: Info, bytes: &mut Vec<u8>) -> Result<(), isize> {
    let mut size = bytes.capacity().max(FIRST_BUFFER);
    loop {
        bytes.resize(size, 0);
        let buffer = bytes.as_mut_ptr() as usize;
        // SAFETY: the call writes at most `size` bytes to `bytes`. Linux takes number 0 for
        // io_setup, which refuses kind 0 with EINVAL and touches nothing.
        let got = unsafe { tessera_call(0, [kind as usize, buffer, size, MACHINE]) };
        if got < 0 {
            bytes.clear();
            return Err(got);
        }
        let got = got as usize;
        if got >= size && size < LAST_BUFFER {
            size *= 4;
            continue;
        }
        bytes.truncate(got);
        return Ok(());
    }
}

/// Whether the kernel below is Tessera: it answers the statistics call with some text.
pub fn is_tessera() -> bool {
    matches!(info(Info::Stats), Ok(text) if !text.is_empty())
}

/// `getppid`: the cheapest call that does nothing.
#[inline]
pub fn getppid() -> isize {
    // SAFETY: takes no argument and touches no memory.
    unsafe { syscall(nr::GETPPID, [0; 6]) }
}

/// `gettid`.
pub fn gettid() -> u64 {
    // SAFETY: takes no argument and touches no memory.
    unsafe { syscall(nr::GETTID, [0; 6]) as u64 }
}

/// A number that no kernel of this decade gives a meaning to; answers -ENOSYS.
#[inline]
pub fn unknown_call(number: usize) -> isize {
    // SAFETY: with no meaning it has no effect; pointers are NULL in case it has one.
    unsafe { syscall(number, [0; 6]) }
}

/// `sched_yield`.
pub fn sched_yield() -> isize {
    // SAFETY: takes no argument and touches no memory.
    unsafe { syscall(nr::SCHED_YIELD, [0; 6]) }
}

/// `write(fd, address, length)`. The kernel only reads memory, whatever the address is.
pub fn write(fd: i32, address: usize, length: usize) -> isize {
    // SAFETY: the call changes no memory of this program.
    unsafe { syscall(nr::WRITE, [fd as usize, address, length, 0, 0, 0]) }
}

/// `futex(address, operation, value, timeout, second address, third value)`, all raw.
///
/// # Safety
/// As [`syscall`]; operations that write change the words at both addresses.
pub unsafe fn futex(args: [usize; 6]) -> isize {
    // SAFETY: passed on to the caller.
    unsafe { syscall(nr::FUTEX, args) }
}

/// Ends only the calling thread, as `pthread_exit` does at its very end.
pub fn exit_thread(status: i32) -> ! {
    loop {
        // SAFETY: the thread is gone afterwards; nothing of it is used again.
        unsafe { syscall(nr::EXIT, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// The name of an error number as the system-call result `result`, for messages.
pub fn describe(result: isize) -> String {
    let name = match -result {
        errno::EPERM => "EPERM",
        errno::ENOENT => "ENOENT",
        errno::ESRCH => "ESRCH",
        errno::ENXIO => "ENXIO",
        errno::EBADF => "EBADF",
        errno::EAGAIN => "EAGAIN",
        errno::ENOMEM => "ENOMEM",
        errno::EACCES => "EACCES",
        errno::EFAULT => "EFAULT",
        errno::EBUSY => "EBUSY",
        errno::EEXIST => "EEXIST",
        errno::ENODEV => "ENODEV",
        errno::EINVAL => "EINVAL",
        errno::ENOTTY => "ENOTTY",
        errno::EFBIG => "EFBIG",
        errno::ENOSPC => "ENOSPC",
        errno::ESPIPE => "ESPIPE",
        errno::ENOSYS => "ENOSYS",
        errno::EOPNOTSUPP => "EOPNOTSUPP",
        errno::ETIMEDOUT => "ETIMEDOUT",
        _ if (-4095..0).contains(&result) => "another error",
        _ => return format!("{result:#x}"),
    };
    format!("{result} ({name})")
}

/// How a range is watched without a userfaultfd ([`watch`]).
pub mod watched {
    /// Pages that are not there.
    pub const MISSING: usize = 1;
    /// Writes to marked pages.
    pub const WP: usize = 2;
    /// Pages that the object has and the program has not mapped.
    pub const MINOR: usize = 4;
}

/// Watches a range in `modes` (see [`watched`]): an access that a userfaultfd would be asked about is
/// a bus error, and EFAULT for the kernel. Only on Tessera.
pub fn watch(addr: usize, len: usize, modes: usize) -> isize {
    // SAFETY: only which accesses fault is changed. Linux takes number 2 for io_submit, which
    // refuses an unknown context.
    unsafe { tessera_call(2, [addr, len, modes, 0]) }
}

/// Marks the pages of a watched range against writing, or takes the marks away. Only on Tessera.
pub fn mark(addr: usize, len: usize, on: bool) -> isize {
    // SAFETY: as for `watch`; number 3 is io_cancel.
    unsafe { tessera_call(3, [addr, len, usize::from(on), 0]) }
}

/// Sets `fault_around_bytes` and returns what it was. Only on Tessera.
pub fn set_fault_around(bytes: usize) -> isize {
    // SAFETY: no memory is touched. Linux takes number 4 for io_getevents, which refuses an unknown
    // context.
    unsafe { tessera_call(4, [0, bytes, MACHINE, 0]) }
}
