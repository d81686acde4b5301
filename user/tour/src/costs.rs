//! What things cost, in instructions of EL0 and kernel together.

use crate::text;
use programs::memory::Area;
use programs::pmu::{self, Unit};
use programs::sys::{self, PAGE, map, nr};
use std::fmt::Write as _;

/// One measured cost.
struct Cost {
    name: &'static str,
    count: u64,
    goal: Option<u64>,
}

/// The goals, in instructions under `-icount shift=0` on one `neoverse-n2`.
const GOAL_NULL: u64 = 120;
const GOAL_FAULT: u64 = 900;

/// A number that is no system call.
const UNKNOWN: usize = 4000;
/// Pages of the fault measurement: two tables of the last level, or three.
const PAGES: usize = 1024;

fn measure() -> Vec<Cost> {
    let cost = |name, count| Cost {
        name,
        count,
        goal: None,
    };
    let fresh = Area::new(PAGES * PAGE, map::RW);
    vec![
        Cost {
            goal: Some(GOAL_NULL),
            ..cost(
                "null system call (getppid), there and back",
                pmu::call_cost(nr::GETPPID, 1000),
            )
        },
        cost("unknown system call (ENOSYS)", pmu::call_cost(UNKNOWN, 100)),
        Cost {
            goal: Some(GOAL_FAULT),
            ..cost(
                "first write to a page, mean of 1024 (folios)",
                pmu::fault_cost(&fresh),
            )
        },
        cost(
            "mmap and munmap of one untouched page",
            pmu::cost(100, |_| map_and_unmap()),
        ),
        cost(
            "futex wake with nobody waiting",
            pmu::cost(200, |_| wake_nobody()),
        ),
        cost(
            "thread: create, run nothing, join",
            pmu::cost(20, |_| create_and_join()),
        ),
    ]
}

fn map_and_unmap() {
    let flags = map::PRIVATE | map::ANONYMOUS;
    // SAFETY: a fresh mapping where the kernel likes, gone again before anybody uses it.
    unsafe {
        let addr = sys::syscall(nr::MMAP, [0, PAGE, map::RW, flags, usize::MAX, 0]);
        if addr > 0 {
            sys::syscall(nr::MUNMAP, [addr as usize, PAGE, 0, 0, 0, 0]);
        }
    }
}

fn wake_nobody() {
    const WAKE_PRIVATE: usize = 129;
    let word = 0u32;
    // SAFETY: waking changes no memory.
    unsafe { sys::futex([(&raw const word) as usize, WAKE_PRIVATE, 1, 0, 0, 0]) };
}

fn create_and_join() {
    let _ = std::thread::spawn(|| {}).join();
}

/// The table of costs, with the goals beside it where there are any.
pub fn table() -> String {
    let unit = pmu::unit();
    if unit == Unit::Nothing {
        return text::paragraph("The cycle counter stands still here: nothing can be measured.");
    }
    let mut all = String::new();
    let head = if unit == Unit::Instruction {
        "instructions"
    } else {
        "counts"
    };
    let _ = writeln!(all, "    {:<44} {head:>12}   goal", "");
    for Cost { name, count, goal } in measure() {
        let goal = match goal {
            Some(goal) if unit == Unit::Instruction => {
                let verdict = if count <= goal { "met" } else { "not met" };
                format!("   <= {goal}: {verdict}")
            }
            Some(goal) => format!("   <= {goal}: not judged"),
            None => String::new(),
        };
        let _ = writeln!(all, "    {name:<44} {count:>12}{goal}");
    }
    all.push('\n');
    all.push_str(&text::paragraph(match unit {
        Unit::Instruction => {
            "The counter advances by exactly one per instruction (a loop of 2000 instructions \
             took the same count three times). The cost of the loops is taken off. The goals \
             are for one CPU of the model neoverse-n2; other models execute other instructions."
        }
        _ => {
            "Without --icount the counter follows the host's clock, so these are times of an \
             emulator and say nothing about the kernel. The goals are not judged. To see \
             instructions: cargo xtask qemu --icount --smp 1 --cpu neoverse-n2"
        }
    }));
    all
}
