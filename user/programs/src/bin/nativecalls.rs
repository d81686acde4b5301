//! Random calls of the kernel's own with random arguments, most of them of the right sort:
//! `nativecalls [SEED] [COUNT]` (1, 2000), by two threads at once.
//!
//! Whatever becomes of the program, the kernel has to survive it. It is meant to be run by the server
//! `storm`, with limits, and may well end by a signal: it changes registers of its own threads and
//! gives its own memory away. It makes nothing but trouble on Linux, where it refuses to run.

use std::thread;

use abi::calls::{self, Call, TABLE};
use programs::check;
use programs::memory::Area;
use programs::random::Random;
use programs::sys::{self, PAGE, map};

/// Pages of the memory that calls are given.
const PAGES: u64 = 64;
/// Handles that are tried: those of Linux's calls, and these.
const HANDLES: u64 = 48;
/// Longest time that is waited, in nanoseconds.
const PATIENCE: u64 = 200_000;

fn main() {
    check::start("nativecalls");
    check::aarch64_only();
    let seed = check::number_argument(1, 1);
    let count = check::number_argument(2, 2000);
    if !sys::is_tessera() {
        check::usage("runs on Tessera only");
    }
    let area = Area::new(PAGES as usize * PAGE, map::RW);
    let start = area.addr(0) as u64;
    let other = thread::spawn(move || storm(seed ^ u64::MAX, count, start));
    storm(seed, count, start);
    // If it was suspended by a call, it does not come back.
    if other.join().is_err() {
        check::fail(file!(), line!(), "the other thread");
    }
    println!("nativecalls: seed {seed}, {count} calls");
}

fn storm(seed: u64, count: u64, start: u64) {
    let mut storm = Storm {
        random: Random::new(seed),
        start,
    };
    for _ in 0..count {
        let call = &TABLE[storm.random.index(TABLE.len())];
        if let Some(arguments) = storm.arguments(call) {
            enter(call.number, arguments, storm.random.below(PATIENCE));
        }
    }
}

struct Storm {
    random: Random,
    /// Address of the memory that calls are given.
    start: u64,
}

impl Storm {
    /// Arguments for a call; none for one that would only end the storm early.
    fn arguments(&mut self, call: &Call) -> Option<[u64; 8]> {
        let mut arguments = [0; 8];
        let names = call.arguments.split([',', ';']).map(str::trim);
        for (argument, name) in arguments.iter_mut().zip(names) {
            *argument = match self.random.below(16) {
                0 => self.odd(),
                _ => self.sensible(name),
            };
        }
        if call.arguments.contains("message") || call.arguments.contains("answer") {
            arguments = self.message();
        }
        let ends = match call.number {
            calls::PROCESS_KILL => arguments[0] == abi::slot::PROCESS,
            calls::THREAD_WRITE | calls::THREAD_SUSPEND => !self.random.chance(16),
            _ => false,
        };
        (!ends).then_some(arguments)
    }

    fn sensible(&mut self, name: &str) -> u64 {
        match name {
            "addr" | "buffer" | "bitmap" | "sp" => self.address(),
            "length" | "size" | "offset" => self.random.below(PAGES) * PAGE as u64,
            "window" => (PAGE as u64) << self.random.below(6),
            "pc" => go_away as *const () as u64,
            "prot" => self.random.below(4),
            "flags" => 0x12 + 0x20 * self.random.below(2),
            "rights" => u64::from(u32::MAX >> self.random.below(32)),
            "deadline" => self.random.below(1 << 30),
            "pages" => 16 + self.random.below(64),
            _ if name.starts_with("address") => self.address(),
            "process" | "handle" | "endpoint" | "object" | "thread" | "machine" | "interrupt" => {
                self.handle()
            }
            _ => self.random.below(6),
        }
    }

    fn address(&mut self) -> u64 {
        self.start + self.random.below(PAGES) * PAGE as u64
    }

    fn handle(&mut self) -> u64 {
        match self.random.below(8) {
            0 => 3 + self.random.below(5),
            1 => abi::slot::PROCESS,
            _ => abi::slot::FIRST + self.random.below(HANDLES),
        }
    }

    /// Nothing that is anybody's.
    fn odd(&mut self) -> u64 {
        let near = self.random.below(3).wrapping_sub(1);
        let odd = [
            0,
            1 << 12,
            1 << 31,
            1 << 47,
            1 << 48,
            0xffff_8000_0000_0000,
            1 << 63,
            u64::MAX,
        ];
        odd[self.random.index(odd.len())].wrapping_add(near)
    }

    /// A message with words that are handles, some of them moved.
    fn message(&mut self) -> [u64; 8] {
        let mut words: [u64; 8] = std::array::from_fn(|_| self.handle());
        let handles = self.random.below(64) & self.random.below(64);
        let moved = handles & self.random.below(64);
        let kind = self.random.below(8) << 48;
        words[1] = self.random.below(6) | (handles & !moved) << 32 | moved << 40 | kind;
        words
    }
}

/// Ends a thread that has no stack.
#[cfg(target_arch = "aarch64")]
// SAFETY: it makes one call, of its own end, and touches neither stack nor memory.
#[unsafe(naked)]
extern "C" fn go_away() -> ! {
    core::arch::naked_asm!("mov x0, #0", "mov x8, #93", "svc #0", "b .")
}

#[cfg(not(target_arch = "aarch64"))]
extern "C" fn go_away() {}

/// Makes a call, whatever comes of it.
fn enter(number: u64, arguments: [u64; 8], patience: u64) {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: what memory the calls are given is memory of the storm, which nobody looks at. A call
    // that is given other memory by mistake ends the program, which is meant to end.
    unsafe {
        core::arch::asm!("svc #1", in("x8") number,
            inout("x0") arguments[0] => _, inout("x1") arguments[1] => _,
            inout("x2") arguments[2] => _, inout("x3") arguments[3] => _,
            inout("x4") arguments[4] => _, inout("x5") arguments[5] => _,
            inout("x6") arguments[6] => _, inout("x7") arguments[7] => _,
            inout("x9") patience => _, out("x10") _, options(nostack));
    }
    #[cfg(not(target_arch = "aarch64"))]
    let _ = (number, arguments, patience);
}
