//! Random system calls with random arguments: `fuzz [SEED] [COUNT]` (1, 20000).
//!
//! The program must survive, its own memory unharmed, and end with status 0. Calls that would
//! rightly end it, stop it or take its memory away are shaped or left out. It makes calls that no
//! sane program makes, so it refuses to run on anything but Tessera, except as
//! `fuzz SEED COUNT dry`, which prints the calls instead.

use programs::memory::Area;
use programs::random::Random;
use programs::sys::{self, PAGE, errno, map, nr};
use programs::{check, require};

/// Numbers (arm64's) that are never called: those that end, stop, replace or copy the program or
/// its threads, send or wait for signals, set timers or limits, wait without a time-out, seal
/// memory, or rename descriptors.
const LEFT_OUT: &[u64] = &[
    21, 22, 23, 24, 72, 93, 94, 95, 96, 103, 107, 110, 129, 130, 131, 133, 137, 138, 139, 142, 164,
    214, 220, 221, 234, 240, 260, 261, 277, 281, 424, 426, 435, 436, 441, 449, 455, 462,
];
/// Pages of the scratch memory.
const PAGES: usize = 64;
const ADVICES: [usize; 6] = [0, 1, 2, 3, 4, 8];

struct Fuzz {
    random: Random,
    scratch: Area,
    /// Readable text, so that a `write` to the console stays harmless.
    text: Area,
}

fn main() {
    check::start("fuzz");
    check::aarch64_only();
    let seed = check::number_argument(1, 1);
    let count = check::number_argument(2, 20_000);
    let dry = std::env::args().any(|word| word == "dry");
    if !dry && !sys::is_tessera() {
        check::usage("runs on Tessera only (or `fuzz SEED COUNT dry`)");
    }
    check::section(10, "random system calls");
    println!("fuzz: seed {seed}, {count} calls");
    let canary: Vec<u64> = (0..8192).map(|at| at * 0x0101_0101).collect();
    let mut fuzz = Fuzz::new(seed);
    let mut unknown = 0;
    for done in 0..count {
        let (number, args) = fuzz.call();
        if dry {
            println!("{number} {args:x?}");
            continue;
        }
        let got = fuzz.make(number, args);
        unknown += u64::from(got == -errno::ENOSYS);
        if done % 256 == 0 {
            fuzz.refresh();
            let intact = canary
                .iter()
                .zip(0u64..)
                .all(|(word, at)| *word == at * 0x0101_0101);
            require!(
                intact,
                "own memory changed within 256 calls before call {done}"
            );
        }
    }
    println!("fuzz: {count} calls, {unknown} of them unknown to the kernel");
    check::pass();
}

impl Fuzz {
    fn new(seed: u64) -> Self {
        let text = Area::new(2 * PAGE, map::RW);
        text.fill(0, 2 * PAGE, b'~');
        let scratch = Area::new(PAGES * PAGE, map::RW);
        Self {
            random: Random::new(seed),
            scratch,
            text,
        }
    }

    /// Makes the whole scratch memory accessible again: calls have unmapped parts of it.
    fn refresh(&mut self) {
        let got = self.scratch.map_over(0, PAGES * PAGE, map::RW);
        require!(
            got > 0,
            "scratch memory cannot be mapped again: {}",
            sys::describe(got)
        );
    }

    /// A number that may be a pointer, a length, a descriptor or a flag.
    fn argument(&mut self) -> usize {
        let word = self.random.next_u64() as usize;
        match self.random.below(12) {
            0 => 0,
            1 => word % 16,
            2 => word % (4 * PAGE),
            3..=6 => self.pointer(),
            7 => 1 << (word % 64),
            8 => (1usize << (word % 64)).wrapping_sub(1),
            9 => usize::MAX - word % 4096,
            10 => 0xffff_0000_0000_0000 | word >> 16,
            // Far from every mapping of the program.
            _ => word | 1 << 60,
        }
    }

    /// An address in the scratch memory, often close to the end of a page or of all.
    fn pointer(&mut self) -> usize {
        let page = self.random.index(PAGES) * PAGE;
        let within = match self.random.below(3) {
            0 => 0,
            1 => PAGE - 1 - self.random.index(64),
            _ => self.random.index(PAGE),
        };
        self.scratch.addr(page + within)
    }

    /// A range inside the scratch memory, in whole pages unless `odd` chance says otherwise.
    fn range(&mut self) -> (usize, usize) {
        let start = self.random.index(PAGES);
        let len = (1 + self.random.index(PAGES - start)) * PAGE;
        let odd = if self.random.chance(32) {
            self.random.index(PAGE)
        } else {
            0
        };
        let len = if self.random.chance(16) {
            usize::MAX - len
        } else {
            len - odd
        };
        (
            self.scratch.addr(start * PAGE) + if self.random.chance(16) { 1 } else { 0 },
            len,
        )
    }

    /// The next call.
    fn call(&mut self) -> (usize, [usize; 6]) {
        loop {
            let number = match self.random.below(4) {
                0 => self.random.below(500),
                // The calls that exist are worth more tries.
                _ => KNOWN[self.random.index(KNOWN.len())] as u64,
            };
            if LEFT_OUT.contains(&number) {
                continue;
            }
            let args = std::array::from_fn(|_| self.argument());
            let number = number as usize;
            return (number, self.shape(number, args));
        }
    }

    /// Keeps a call from blocking for ever, from harming memory outside of the scratch memory,
    /// and from closing the console.
    fn shape(&mut self, number: usize, mut args: [usize; 6]) -> [usize; 6] {
        match number {
            nr::MUNMAP | nr::MPROTECT | nr::MADVISE => {
                (args[0], args[1]) = self.range();
                if number == nr::MADVISE {
                    args[2] = ADVICES[self.random.index(ADVICES.len())];
                }
            }
            nr::MREMAP => self.shape_mremap(&mut args),
            nr::MMAP => self.shape_mmap(&mut args),
            nr::PPOLL => (args[1], args[2]) = (args[1] % 64, self.short_time()),
            // Operations without a time-out are the wakes and requeues: 1, 3, 4, 5, 10.
            nr::FUTEX if ![1, 3, 4, 5, 10].contains(&(args[1] & 127)) => {
                args[1] &= !0x100;
                args[3] = self.short_time();
            }
            nr::NANOSLEEP => args[0] = self.short_time(),
            nr::CLOCK_NANOSLEEP => (args[1], args[2]) = (0, self.short_time()),
            nr::WRITE if (args[0] as u32) < 3 => {
                (args[1], args[2]) = (self.text.addr(0), args[2] % 16);
            }
            nr::CLOSE | nr::FCNTL | nr::READ | nr::READV | nr::WRITEV if (args[0] as u32) < 3 => {
                args[0] = 3;
            }
            _ => {}
        }
        args
    }

    fn shape_mremap(&mut self, args: &mut [usize; 6]) {
        let ((from, old), (to, new)) = (self.range(), self.range());
        *args = [
            from,
            old.min(PAGES * PAGE),
            new.min(PAGES * PAGE),
            args[3],
            to,
            0,
        ];
        // A move must stay in the scratch memory; elsewhere a mapping would be left behind.
        args[3] = [0, map::MREMAP_FIXED | map::MREMAP_MAYMOVE, 64][self.random.index(3)];
        let end = self.scratch.addr(PAGES * PAGE);
        if args[0] + args[2] > end || args[4] + args[2] > end {
            args[2] = PAGE;
        }
    }

    fn shape_mmap(&mut self, args: &mut [usize; 6]) {
        (args[0], args[1]) = self.range();
        // Never POPULATE a huge range, never GROWSDOWN; FIXED only with a range that is whole.
        args[3] = (args[3] & 0x3 | map::ANONYMOUS)
            | [map::FIXED, map::FIXED_NOREPLACE][self.random.index(2)];
        args[5] %= 4 * PAGE;
    }

    /// The address of a time of at most a microsecond (or of nonsense that is refused).
    fn short_time(&mut self) -> usize {
        let at = self.text.addr(PAGE);
        self.text
            .set_u64(PAGE, if self.random.chance(16) { u64::MAX } else { 0 });
        self.text.set_u64(PAGE + 8, self.random.below(1000));
        at
    }

    fn make(&mut self, number: usize, args: [usize; 6]) -> isize {
        // SAFETY: `shape` and the left-out numbers keep calls to the scratch memory; everything
        // that writes through a pointer finds scratch memory, no memory, or refuses.
        unsafe { sys::syscall(number, args) }
    }
}

/// Calls that Tessera implements.
const KNOWN: &[usize] = &[
    nr::FCNTL,
    nr::IOCTL,
    nr::OPENAT,
    nr::CLOSE,
    nr::LSEEK,
    nr::READ,
    nr::WRITE,
    nr::WRITEV,
    nr::PPOLL,
    nr::FSTAT,
    nr::FUTEX,
    nr::FUTEX,
    nr::NANOSLEEP,
    nr::CLOCK_GETTIME,
    nr::CLOCK_NANOSLEEP,
    nr::SCHED_GETAFFINITY,
    nr::SCHED_YIELD,
    nr::SIGALTSTACK,
    nr::RT_SIGACTION,
    nr::RT_SIGPROCMASK,
    nr::UNAME,
    nr::GETPID,
    nr::GETPPID,
    nr::GETTID,
    nr::MUNMAP,
    nr::MUNMAP,
    nr::MREMAP,
    nr::MREMAP,
    nr::MMAP,
    nr::MMAP,
    nr::MPROTECT,
    nr::MPROTECT,
    nr::MADVISE,
    nr::GETRANDOM,
];
