//! Random calls at Linux's door, most of them of those that the kernel has.

use programs::sys;

use crate::child::go_away;
use crate::tally::{Door, Tally};
use crate::world::{MAPPINGS, World};

/// What an argument is.
#[derive(Clone, Copy, Debug)]
enum Arg {
    /// Nothing.
    No,
    /// One of these.
    Of(&'static [u64]),
    /// Less than this.
    Below(u64),
    /// Start and length of a range whose mapping is changed.
    Range,
    Length,
    /// A mapping somewhere else.
    Mapping,
    /// Memory to be read or written, and how much.
    Address,
    Size,
    /// A word that threads wait for.
    Word,
    /// A time; ranges; a path.
    Time,
    Vector,
    Other,
    Path,
    /// A descriptor, a thread.
    File,
    Thread,
    /// The end of the heap.
    Heap,
    /// Anything.
    Any,
}

use Arg::{
    Address, Any, Below, File, Heap, Length, Mapping, No, Of, Other, Path, Range, Size, Thread,
    Time, Vector, Word,
};

/// A call: its name, its number on arm64, its arguments.
type Known = (&'static str, u64, &'static [Arg]);

const PROT: Arg = Of(&[0, 1, 2, 3, 3, 3, 4, 5, 7, 0x23, 8]);
/// Fixed where the playground is, or small and anywhere.
const MAP: Arg = Of(&[
    0x32, 0x31, 0x32, 0x10_0022, 0x11, 0x12, 0x13, 0x8032, 0x8031, 0x4032, 0x22, 0x21, 0x1, 0x2,
]);
const ADVICE: Arg = Of(&[0, 1, 2, 3, 4, 8, 9, 10, 14, 15, 20, 21, 22, 23, 25, 100]);
const FUTEX: Arg = Of(&[
    0,
    1,
    3,
    4,
    5,
    9,
    10,
    128,
    129,
    131,
    132,
    133,
    137,
    138,
    137 + 256,
    6,
    7,
    8,
    11,
    12,
    13,
]);
const PRCTL: Arg = Of(&[
    1,
    2,
    3,
    4,
    8,
    15,
    16,
    22,
    38,
    39,
    41,
    42,
    55,
    56,
    0x5356_4d41,
]);
/// `FALLOC_FL_*`.
const FALLOC: Arg = Of(&[0, 1, 3, 3, 2, 8, 16]);

/// Calls that Tessera has, and a few that it leaves to a personality.
const KNOWN: &[Known] = &[
    ("getxattr", 8, &[Path, Any, Any]),
    ("dup", 23, &[File]),
    ("dup3", 24, &[File, Below(72), Of(&[0, 0x8_0000, 1])]),
    (
        "fcntl",
        25,
        &[File, Of(&[0, 1, 2, 3, 4, 1030, 1033, 1034]), Below(72)],
    ),
    ("ioctl", 29, &[File, Any, Address]),
    ("ftruncate", 46, &[File, Size]),
    ("fallocate", 47, &[File, FALLOC, Size, Size]),
    ("faccessat", 48, &[Any, Path, Below(8)]),
    ("openat", 56, &[Any, Path, Of(&[0, 2, 0x8_0000])]),
    ("close", 57, &[File]),
    ("lseek", 62, &[File, Size, Below(6)]),
    ("read", 63, &[File, Address, Size]),
    ("write", 64, &[File, Address, Size]),
    ("readv", 65, &[File, Vector, Below(9)]),
    ("writev", 66, &[File, Vector, Below(9)]),
    ("pread64", 67, &[File, Address, Size, Size]),
    ("pwrite64", 68, &[File, Address, Size, Size]),
    ("preadv", 69, &[File, Vector, Below(9), Size]),
    ("pwritev", 70, &[File, Vector, Below(9), Size]),
    ("ppoll", 73, &[Address, Below(9), Time]),
    ("readlinkat", 78, &[Any, Path, Address, Size]),
    ("newfstatat", 79, &[Any, Path, Address, Below(2)]),
    ("fstat", 80, &[File, Address]),
    ("set_tid_address", 96, &[Word]),
    (
        "futex",
        98,
        &[
            Word,
            FUTEX,
            Below(3),
            Time,
            Word,
            Of(&[1, 3, u32::MAX as u64]),
        ],
    ),
    ("futex", 98, &[Word, FUTEX, Below(3), Time, Word, Any]),
    ("set_robust_list", 99, &[Address, Of(&[24, 24, 16])]),
    ("get_robust_list", 100, &[Thread, Address, Address]),
    ("nanosleep", 101, &[Time, Address]),
    ("clock_gettime", 113, &[Below(12), Address]),
    ("clock_getres", 114, &[Below(12), Address]),
    ("clock_nanosleep", 115, &[Below(3), Below(2), Time, Address]),
    ("sched_setparam", 118, &[Thread, Address]),
    ("sched_setscheduler", 119, &[Thread, Below(7), Address]),
    ("sched_getscheduler", 120, &[Thread]),
    ("sched_getparam", 121, &[Thread, Address]),
    ("sched_setaffinity", 122, &[Thread, Size, Address]),
    ("sched_getaffinity", 123, &[Thread, Size, Address]),
    ("sched_yield", 124, &[]),
    ("sched_get_priority_max", 125, &[Below(7)]),
    ("sched_get_priority_min", 126, &[Below(7)]),
    ("sched_rr_get_interval", 127, &[Thread, Address]),
    ("sigaltstack", 132, &[Address, Address]),
    (
        "rt_sigaction",
        134,
        &[Below(66), Address, Address, Of(&[8])],
    ),
    (
        "rt_sigprocmask",
        135,
        &[Below(4), Address, Address, Of(&[8])],
    ),
    ("rt_sigpending", 136, &[Address, Of(&[8])]),
    ("setpriority", 140, &[Below(3), Thread, Below(20)]),
    ("getpriority", 141, &[Below(3), Thread]),
    ("times", 153, &[Address]),
    ("uname", 160, &[Address]),
    ("getrlimit", 163, &[Below(17), Address]),
    ("getrusage", 165, &[Of(&[0, 1, u64::MAX]), Address]),
    ("prctl", 167, &[PRCTL, Address, Size, Any, Any]),
    ("getcpu", 168, &[Address, Address]),
    ("gettimeofday", 169, &[Address, Address]),
    ("getpid", 172, &[]),
    ("getppid", 173, &[]),
    ("getuid", 174, &[]),
    ("gettid", 178, &[]),
    ("brk", 214, &[Heap]),
    ("munmap", 215, &[Range, Length]),
    ("munmap", 215, &[Mapping, Of(&[4096])]),
    (
        "mremap",
        216,
        &[Range, Length, Length, Of(&[0, 1, 3, 3, 5, 7]), Range],
    ),
    ("mmap", 222, &[Range, Length, PROT, MAP, File, Size]),
    ("mmap", 222, &[Range, Length, PROT, MAP, File, Size]),
    ("mmap", 222, &[Range, Length, PROT, MAP, File, No]),
    ("mprotect", 226, &[Range, Length, PROT]),
    ("mincore", 232, &[Range, Length, Address]),
    ("madvise", 233, &[Range, Length, ADVICE]),
    ("madvise", 233, &[Range, Length, ADVICE]),
    ("prlimit64", 261, &[Thread, Below(17), Address, Address]),
    (
        "process_vm_readv",
        270,
        &[Thread, Vector, Below(9), Other, Below(9), No],
    ),
    (
        "process_vm_writev",
        271,
        &[Thread, Vector, Below(9), Other, Below(9), No],
    ),
    ("getrandom", 278, &[Address, Size, Below(5)]),
    ("memfd_create", 279, &[Path, Below(4)]),
    (
        "membarrier",
        283,
        &[Of(&[0, 1, 2, 4, 8, 16, 32, 64]), Below(2)],
    ),
    ("rseq", 293, &[Address, Of(&[32]), Below(2), Any]),
    ("faccessat2", 439, &[Any, Path, Below(8), Below(2)]),
];

/// Calls that end something: seldom made.
const FATAL: &[Known] = &[
    ("exit", 93, &[Any]),
    ("exit_group", 94, &[Below(90)]),
    ("kill", 129, &[Thread, Below(66)]),
    ("tkill", 130, &[Thread, Below(66)]),
    ("tgkill", 131, &[Thread, Thread, Below(66)]),
];

/// Of numbers at random: what waits without a limit, and what is above.
const LEFT_OUT: &[u64] = &[
    63, 64, 65, 66, 73, 93, 94, 98, 101, 115, 129, 130, 131, 214, 215, 216, 220, 222, 226, 233,
];

/// What gives a descriptor or a mapping.
const FILES: &[u64] = &[23, 24, 56, 279];
const MAPS: &[u64] = &[216, 222];
const CLONE: u64 = 220;

/// Names and numbers of the calls that are known here, each once.
pub fn names() -> Vec<(&'static str, u64)> {
    let known = KNOWN.iter().chain(FATAL);
    let mut names: Vec<_> = known.map(|&(name, number, _)| (name, number)).collect();
    names.push(("clone", CLONE));
    names.dedup();
    names
}

/// Makes a random call.
pub fn call(world: &mut World, tally: Tally) {
    let (number, args) = match world.below(256) {
        0 if world.below(16) == 0 => with(world, &FATAL[0]),
        0 if world.below(32) == 0 => {
            let known = world.below(FATAL.len() as u64) as usize;
            with(world, &FATAL[known])
        }
        1..4 => return clone(world, tally),
        4..16 => unknown(world),
        _ => {
            let known = world.below(KNOWN.len() as u64) as usize;
            with(world, &KNOWN[known])
        }
    };
    tally.call(Door::Linux, number);
    let got = make(number, args);
    if !(-4095..0).contains(&got) {
        tally.worked(Door::Linux, number);
        if FILES.contains(&number) {
            world.learn(abi::Kind::Memory as usize, got as u64);
        } else if MAPS.contains(&number) {
            world.learn(MAPPINGS, got as u64);
        }
    } else if got == -sys::errno::EBADF {
        world.forget(args[0]);
    }
}

fn with(world: &mut World, &(_, number, kinds): &Known) -> (u64, [u64; 6]) {
    let mut args = [0; 6];
    for (arg, kind) in args.iter_mut().zip(kinds) {
        *arg = world.argument(*kind);
    }
    (number, args)
}

fn unknown(world: &mut World) -> (u64, [u64; 6]) {
    let number = match world.below(16) {
        0 => world.odd(),
        _ => world.below(512),
    };
    if LEFT_OUT.contains(&(number & 0xffff_ffff)) {
        return (512, [0; 6]);
    }
    let args = std::array::from_fn(|at| match world.below(3) {
        // The first may be the console.
        0 if at > 0 => world.odd(),
        1 => world.address(),
        _ => world.file(),
    });
    (number, args)
}

impl World {
    fn argument(&mut self, arg: Arg) -> u64 {
        match arg {
            No => 0,
            File => self.file(),
            Time => self.time(),
            Heap => self.heap(),
            Vector => self.vector(0),
            Other => self.vector(1),
            Path => self.path(),
            Range => self.range(),
            Mapping => self.known(MAPPINGS),
            _ if self.random.chance(8) => self.odd(),
            Of(these) => self.one(these),
            Below(bound) => self.below(bound),
            Length => self.length(),
            Address => self.address(),
            Size => self.size(),
            Word => self.word(),
            Thread => match self.below(8) {
                0 => self.any_handle(),
                _ => self.tid(),
            },
            Any => self.odd(),
        }
    }
}

fn make(number: u64, args: [u64; 6]) -> isize {
    // SAFETY: calls are given memory that nobody relies on; one that hits other memory ends the
    // process, or makes it fail, which is all that whoever started it expects.
    unsafe { sys::syscall(number as usize, args.map(|arg| arg as usize)) }
}

/// `CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM`.
const THREAD: u64 = 0x5_0f00;

/// A thread that ends at once.
fn clone(world: &mut World, tally: Tally) {
    let flags = match world.below(8) {
        0 => world.odd() | 0x100,
        _ => THREAD | world.one(&[0, 0x30_0000, 0x100_0000, 0x8_0000, 0x139_0000]),
    };
    let args = [
        flags,
        world.address(),
        world.word(),
        world.odd(),
        world.word(),
    ];
    tally.call(Door::Linux, CLONE);
    if spawn(args) > 0 {
        tally.worked(Door::Linux, CLONE);
    }
}

#[cfg(target_arch = "aarch64")]
fn spawn(args: [u64; 5]) -> isize {
    let mut x0 = args[0];
    // SAFETY: the new thread executes nothing but the jump to its end, and touches no memory; the
    // kernel writes its number to memory that nobody relies on.
    unsafe {
        core::arch::asm!("svc #0", "cbnz x0, 2f", "b {end}", "2:", end = sym go_away,
            inlateout("x0") x0, in("x1") args[1], in("x2") args[2], in("x3") args[3],
            in("x4") args[4], inlateout("x8") CLONE => _, options(nostack));
    }
    x0 as isize
}

#[cfg(not(target_arch = "aarch64"))]
fn spawn(_args: [u64; 5]) -> isize {
    let _ = go_away as *const ();
    -sys::errno::ENOSYS
}
