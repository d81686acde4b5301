//! The kernel-bug report: what there is to know when the kernel itself is wrong.
//!
//! Runs on panics and on exceptions from EL1. It takes no lock that it may hold already, allocates
//! nothing, and survives itself: a bug inside of the report shortens it, and another one ends the
//! machine at once (law 15). The exit status is 70 (EX_SOFTWARE).

use core::arch::asm;
use core::fmt::{self, Write};
use core::panic::PanicInfo;

use arm64::esr::{Access, Esr, Fault, FaultStatus};
use arm64::geometry::Level;
use sync::atomic::{AtomicU32, Ordering};

use crate::arch::{power, probe};
use crate::control::OneLine;
use crate::memory::protect;
use crate::percpu::{self, SAVED_WORDS};
use crate::{console, control, trace};

/// Exit status of a kernel bug.
pub const STATUS: u32 = 70;
/// Most frames of a backtrace.
const MAX_FRAMES: usize = 48;
/// An unmapped address this close below the top of a kernel stack is its guard page.
const STACK_REACH: u64 = 64 << 10;

const X29: usize = 29;
const SP: usize = 31;
pub(super) const PC: usize = 32;
const PSTATE: usize = 33;
const ESR: usize = 34;
const FAR: usize = 35;

/// CPU number + 1 of the CPU whose report is being printed.
static REPORTER: AtomicU32 = AtomicU32::new(0);

macro_rules! say {
    ($($arg:tt)*) => { console::print_in_bug(format_args!($($arg)*)) };
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let frame: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, x29", out(reg) frame, options(nomem, nostack, preserves_flags)) }
    enter(format_args!("{info}"));
    headline(format_args!("{info}"));
    backtrace(0, frame);
    trace::dump_in_bug();
    power::exit(STATUS)
}

/// Entered from the vectors for every exception from EL1, on the emergency stack, with the
/// registers in this CPU's block and the reserved root loaded; `vector` is the number of the
/// vector, 0 to 15. Ends the machine, unless a probe has asked for the exception: returns where
/// to go on then.
pub(crate) extern "C" fn el1_exception(vector: u64) -> u64 {
    if power::stopping() {
        // The semihosting call was the exception: there is nobody to take the exit status.
        power::power_off();
    }
    let saved = &percpu::this().saved;
    let registers: [u64; SAVED_WORDS] =
        core::array::from_fn(|index| saved[index].load(Ordering::Relaxed));
    if let Some(next) = probe::expected(&registers) {
        return next;
    }
    let what = Exception {
        vector,
        esr: Esr::new(registers[ESR]),
        far: registers[FAR],
    };
    enter(format_args!("{what} at pc {:#x}", registers[PC]));
    headline(format_args!("{what} at pc {:#x}", registers[PC]));
    print_registers(&registers);
    backtrace(registers[PC], registers[X29]);
    trace::dump_in_bug();
    power::exit(STATUS)
}

/// Decides who reports. Another CPU's report goes first, and ends the machine; a bug inside of
/// this CPU's own report is only named.
fn enter(text: fmt::Arguments<'_>) {
    let cpu = percpu::this();
    let me = cpu.index() + 1;
    let reporter = REPORTER.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire);
    if reporter.is_err_and(|other| other != me) {
        loop {
            power::wait_for_interrupt();
        }
    }
    match cpu.bug_depth.fetch_add(1, Ordering::Relaxed) {
        0 => {}
        1 => {
            say!(
                "\n[tessera] another bug inside of this report: {}\n",
                OneLine(text)
            );
            power::exit(STATUS);
        }
        _ => power::exit(STATUS),
    }
}

fn headline(text: fmt::Arguments<'_>) {
    let cpu = percpu::this().index();
    say!("\n[tessera] KERNEL BUG on CPU {cpu}: {}\n", OneLine(text));
    match law(text) {
        Some(law) => control::line_in_bug(format_args!("bug law={law} text={text}")),
        None => control::line_in_bug(format_args!("bug law=- text={text}")),
    }
}

/// What happened, in words.
struct Exception {
    vector: u64,
    esr: Esr,
    far: u64,
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.vector >> 2, self.vector & 3) {
            (3, _) => f.write_str("exception from AArch32, which nothing runs in"),
            (_, 1) => f.write_str("interrupt taken in the kernel, where they are masked"),
            (_, 2) => f.write_str("fast interrupt taken in the kernel"),
            (_, 3) => write!(f, "system error in the kernel: {}", self.esr),
            _ => self.fmt_synchronous(f),
        }
    }
}

impl Exception {
    fn fmt_synchronous(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(fault) = self.esr.fault() else {
            return write!(f, "{}", self.esr);
        };
        if fault.status == FaultStatus::Translation && self.is_stack_overflow() {
            return write!(f, "kernel stack overflow, at {:#x}", self.far);
        }
        if let Some((level, space)) = self.table_written(fault) {
            let number = level.number();
            write!(
                f,
                "store to a live page table (level {number} table of space {space}): "
            )?;
        }
        write!(f, "{} at address {:#x}", self.esr, self.far)
    }

    /// The table that a store past its window was for (D16).
    fn table_written(&self, fault: Fault) -> Option<(Level, u32)> {
        let stray = fault.status == FaultStatus::Permission && fault.access == Access::Write;
        stray.then(|| protect::live_table_at(self.far)).flatten()
    }

    fn is_stack_overflow(&self) -> bool {
        let top = percpu::this().kernel_stack.load(Ordering::Relaxed);
        top.checked_sub(self.far)
            .is_some_and(|below| below > 0 && below <= STACK_REACH)
    }
}

fn print_registers(registers: &[u64; SAVED_WORDS]) {
    for (row, words) in registers[..SP].chunks(4).enumerate() {
        for (column, word) in words.iter().enumerate() {
            say!("  x{:<2} {word:016x}", row * 4 + column);
        }
        say!("\n");
    }
    say!(
        "  sp  {:016x}  pc  {:016x}  pstate {:08x}\n  esr {:016x}  far {:016x}\n",
        registers[SP],
        registers[PC],
        registers[PSTATE],
        registers[ESR],
        registers[FAR]
    );
}

/// Walks the frame records (Procedure Call Standard, “The Frame Pointer”): each holds the caller's
/// frame pointer and the return address. Addresses are those of the calls, not of what follows.
fn backtrace(pc: u64, frame: u64) {
    say!("  backtrace:\n");
    if pc != 0 {
        print_frame(pc);
    }
    let mut frame = frame;
    for _ in 0..MAX_FRAMES {
        if !frame.is_multiple_of(16) || !is_mapped(frame) {
            return;
        }
        let record = core::ptr::with_exposed_provenance::<[u64; 2]>(frame as usize);
        // SAFETY: aligned and mapped (checked); whatever it holds is only a number.
        let [caller, after_call] = unsafe { record.read_volatile() };
        if after_call < 4 {
            return;
        }
        print_frame(after_call - 4);
        // Stacks grow down, so callers are above; anything else is no chain of frames.
        if caller <= frame {
            return;
        }
        frame = caller;
    }
}

fn print_frame(pc: u64) {
    say!("    {pc:#018x}\n");
    control::line_in_bug(format_args!("bt pc={pc:#x}"));
}

/// Whether the kernel can read at `address`, by asking the MMU.
fn is_mapped(address: u64) -> bool {
    let result: u64;
    // SAFETY: an address translation for a read, which touches no memory but the tables' accessed
    // flags, and the register with its result.
    unsafe {
        asm!(
            "at s1e1r, {address}",
            "isb",
            "mrs {result}, par_el1",
            address = in(reg) address,
            result = out(reg) result,
            options(nostack, preserves_flags),
        );
    }
    address >> 48 == 0xffff && result & 1 == 0
}

/// The number after the first “law ” in the text.
fn law(text: fmt::Arguments<'_>) -> Option<u32> {
    let mut finder = LawFinder::default();
    // The finder never fails; a formatter that does has shown what it could.
    let _unfinished = finder.write_fmt(text);
    finder.number
}

#[derive(Default)]
struct LawFinder {
    matched: usize,
    done: bool,
    number: Option<u32>,
}

impl Write for LawFinder {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const WORD: &[u8] = b"law ";
        for byte in text.bytes() {
            if self.done {
                return Ok(());
            }
            if self.matched < WORD.len() {
                let restart = usize::from(byte == WORD[0]);
                self.matched = if byte == WORD[self.matched] {
                    self.matched + 1
                } else {
                    restart
                };
            } else if byte.is_ascii_digit() && self.number.unwrap_or(0) < 1000 {
                self.number = Some(self.number.unwrap_or(0) * 10 + u32::from(byte - b'0'));
            } else {
                self.done = self.number.is_some();
                self.matched = 0;
            }
        }
        Ok(())
    }
}
