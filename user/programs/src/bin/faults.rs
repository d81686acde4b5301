//! Does one wrong thing, named by its argument, that must end the program by the right signal.
//!
//! `faults list` prints every name with the signal and the address that is expected: the line
//! `NAME SIGNAL CODE ADDRESS`, where ADDRESS is hexadecimal or `-` when it cannot be known before.
//! Coming back from the wrong thing is a failure with status 10.

use programs::memory::Area;
use programs::sys::{self, PAGE, map, nr};
use programs::{check, require_result};

/// A case: name, signal, its code, the faulting address if it is always the same, the deed.
struct Case(&'static str, &'static str, &'static str, &'static str, fn());

const KERNEL: usize = 0xffff_8000_0000_0000;
const BEYOND: usize = 0x0001_0000_0000_0000;
/// Inside the window of private addresses, where nothing is ever mapped by this program.
const NOWHERE: usize = 0x30_0000_0000;

const CASES: &[Case] = &[
    Case("null-read", "SIGSEGV", "SEGV_MAPERR", "0x0", || load(0)),
    Case("null-write", "SIGSEGV", "SEGV_MAPERR", "0x0", || store(0)),
    Case("null-jump", "SIGSEGV", "SEGV_MAPERR", "0x0", || jump(0)),
    Case(
        "unmapped-read",
        "SIGSEGV",
        "SEGV_MAPERR",
        "0x3000000000",
        || load(NOWHERE),
    ),
    Case(
        "unmapped-write",
        "SIGSEGV",
        "SEGV_MAPERR",
        "0x3000000000",
        || store(NOWHERE),
    ),
    Case(
        "unmapped-jump",
        "SIGSEGV",
        "SEGV_MAPERR",
        "0x3000000000",
        || jump(NOWHERE),
    ),
    Case(
        "kernel-read",
        "SIGSEGV",
        "SEGV_MAPERR",
        "0xffff800000000000",
        || load(KERNEL),
    ),
    Case(
        "kernel-write",
        "SIGSEGV",
        "SEGV_MAPERR",
        "0xffff800000000000",
        || store(KERNEL),
    ),
    Case(
        "kernel-jump",
        "SIGSEGV",
        "SEGV_MAPERR",
        "0xffff800000000000",
        || jump(KERNEL),
    ),
    Case(
        "beyond-read",
        "SIGSEGV",
        "SEGV_MAPERR",
        "0x1000000000000",
        || load(BEYOND),
    ),
    Case(
        "beyond-write",
        "SIGSEGV",
        "SEGV_MAPERR",
        "0x1000000000000",
        || store(BEYOND),
    ),
    Case(
        "beyond-jump",
        "SIGSEGV",
        "SEGV_MAPERR",
        "0x1000000000000",
        || jump(BEYOND),
    ),
    Case("text-write", "SIGSEGV", "SEGV_ACCERR", "-", || {
        store(main as *const () as usize)
    }),
    Case("rodata-write", "SIGSEGV", "SEGV_ACCERR", "-", || {
        store(CONSTANT.as_ptr() as usize)
    }),
    Case("data-jump", "SIGSEGV", "SEGV_ACCERR", "-", || {
        jump((&raw const VARIABLE) as usize)
    }),
    Case("stack-jump", "SIGSEGV", "SEGV_ACCERR", "-", stack_jump),
    Case("anon-jump", "SIGSEGV", "SEGV_ACCERR", "-", anonymous_jump),
    Case("none-read", "SIGSEGV", "SEGV_ACCERR", "-", || {
        load(page(map::PROT_NONE))
    }),
    Case("none-write", "SIGSEGV", "SEGV_ACCERR", "-", || {
        store(page(map::PROT_NONE))
    }),
    Case("readonly-write", "SIGSEGV", "SEGV_ACCERR", "-", || {
        store(page(map::PROT_READ))
    }),
    Case(
        "unmapped-after-use",
        "SIGSEGV",
        "SEGV_MAPERR",
        "-",
        unmapped_after_use,
    ),
    Case(
        "protected-after-use",
        "SIGSEGV",
        "SEGV_ACCERR",
        "-",
        protected_after_use,
    ),
    Case("stack-main", "SIGSEGV", "SEGV_MAPERR", "-", overflow_main),
    Case(
        "stack-thread",
        "SIGSEGV",
        "SEGV_ACCERR",
        "-",
        overflow_thread,
    ),
    Case("thread-null", "SIGSEGV", "SEGV_MAPERR", "0x0", in_thread),
    Case(
        "unaligned-jump",
        "SIGBUS",
        "BUS_ADRALN",
        "-",
        unaligned_jump,
    ),
    Case(
        "misaligned-exclusive",
        "SIGBUS",
        "BUS_ADRALN",
        "-",
        misaligned_exclusive,
    ),
    Case("undefined", "SIGILL", "ILL_ILLOPC", "-", deeds::undefined),
    Case("privileged", "SIGILL", "ILL_ILLOPC", "-", deeds::privileged),
    Case(
        "system-register",
        "SIGILL",
        "ILL_ILLOPC",
        "-",
        deeds::system_register,
    ),
    Case(
        "hypervisor-call",
        "SIGILL",
        "ILL_ILLOPC",
        "-",
        deeds::hypervisor_call,
    ),
    Case("brk", "SIGTRAP", "TRAP_BRKPT", "-", deeds::breakpoint),
];

static CONSTANT: [u8; 64] = [0x5a; 64];
/// `ret`, twice: data that would come back at once if it were executed.
static mut VARIABLE: [u32; 2] = [0xd65f_03c0; 2];

fn main() {
    check::start("faults");
    check::aarch64_only();
    let name = std::env::args().nth(1).unwrap_or_default();
    if name == "list" {
        for Case(name, signal, code, address, _) in CASES {
            println!("{name} {signal} {code} {address}");
        }
        return;
    }
    let Some(case) = CASES.iter().find(|case| case.0 == name) else {
        check::usage("name a case; `faults list` prints them")
    };
    check::section(10, case.0);
    default_handlers();
    println!("faults: {} must end in {} {}", case.0, case.1, case.2);
    (case.4)();
    check::fail(file!(), line!(), "the program went on after it");
}

/// Takes back the handlers that the standard library installs to report stack overflows, so that
/// the signal itself ends the program on every kernel.
fn default_handlers() {
    const SIGBUS: usize = 7;
    const SIGSEGV: usize = 11;
    let default = [0u64; 4];
    for signal in [SIGBUS, SIGSEGV] {
        let args = [signal, (&raw const default) as usize, 0, 8, 0, 0];
        // SAFETY: only the disposition of two signals changes.
        let got = unsafe { sys::syscall(nr::RT_SIGACTION, args) };
        require_result!(got, 0, "rt_sigaction to the default of signal {signal}");
    }
}

/// One fresh page with `prot` that stays mapped; its address.
fn page(prot: usize) -> usize {
    let area = Area::new(PAGE, prot);
    let addr = area.addr(0);
    std::mem::forget(area);
    addr
}

fn load(addr: usize) {
    deeds::load(addr);
}

fn store(addr: usize) {
    deeds::store(addr);
}

fn jump(addr: usize) {
    deeds::jump(addr);
}

fn stack_jump() {
    let code = [0xd65f_03c0u32; 2];
    jump(std::hint::black_box(&code).as_ptr() as usize);
}

fn anonymous_jump() {
    let addr = page(map::RW);
    store(addr);
    jump(addr);
}

fn unmapped_after_use() {
    let area = Area::new(PAGE, map::RW);
    area.set(0, 1);
    require_result!(area.unmap(0, PAGE), 0, "munmap");
    load(area.addr(0));
}

fn protected_after_use() {
    let area = Area::new(PAGE, map::RW);
    area.set(0, 1);
    require_result!(area.protect(0, PAGE, map::PROT_READ), 0, "mprotect");
    load(area.addr(0));
    store(area.addr(0));
}

/// Uses about 1 KiB of stack per level and never ends.
#[expect(unconditional_recursion, reason = "running out of stack is the point")]
fn overflow_main() {
    let block = [1u8; 1024];
    std::hint::black_box(&block);
    overflow_main();
    std::hint::black_box(&block);
}

fn overflow_thread() {
    let _ = std::thread::spawn(overflow_main).join();
}

fn in_thread() {
    let _ = std::thread::spawn(|| store(0)).join();
}

fn unaligned_jump() {
    jump(deeds::return_address() + 2);
}

/// An exclusive load that crosses 16 bytes: a fault on every CPU, with FEAT_LSE2 or without.
fn misaligned_exclusive() {
    let addr = page(map::RW);
    store(addr);
    deeds::exclusive(addr + 13);
}

#[cfg(target_arch = "aarch64")]
mod deeds {
    //! The instructions themselves. Each is meant to fault; none touches memory of the program.
    use core::arch::asm;

    pub fn load(addr: usize) {
        // SAFETY: reads into a register that nobody uses.
        unsafe { asm!("ldrb {0:w}, [{0}]", inout(reg) addr => _, options(nostack)) }
    }

    pub fn store(addr: usize) {
        // SAFETY: the addresses given are no Rust object's that is read later.
        unsafe { asm!("strb wzr, [{0}]", in(reg) addr, options(nostack)) }
    }

    pub fn jump(addr: usize) {
        // SAFETY: the code there, if it runs at all, is a single `ret`.
        unsafe { asm!("blr {0}", in(reg) addr, clobber_abi("C")) }
    }

    pub fn exclusive(addr: usize) {
        // SAFETY: reads only.
        unsafe { asm!("ldxr {0}, [{0}]", "clrex", inout(reg) addr => _, options(nostack)) }
    }

    pub fn return_address() -> usize {
        let addr: usize;
        // SAFETY: takes an address of code.
        unsafe { asm!("adr {0}, .", out(reg) addr, options(nostack)) }
        addr
    }

    pub fn undefined() {
        // SAFETY: permanently undefined.
        unsafe { asm!("udf #7", options(nostack)) }
    }

    pub fn privileged() {
        // SAFETY: undefined at EL0.
        unsafe { asm!("tlbi vmalle1", options(nostack)) }
    }

    pub fn system_register() {
        // SAFETY: undefined at EL0.
        unsafe { asm!("mrs {0}, ttbr0_el1", out(reg) _, options(nostack)) }
    }

    pub fn hypervisor_call() {
        // SAFETY: undefined at EL0.
        unsafe { asm!("hvc #0", clobber_abi("C"), options(nostack)) }
    }

    pub fn breakpoint() {
        // SAFETY: a debug exception.
        unsafe { asm!("brk #1", options(nostack)) }
    }
}

#[cfg(not(target_arch = "aarch64"))]
mod deeds {
    //! Nothing: `check::aarch64_only` has ended the program.
    pub fn load(_: usize) {}
    pub fn store(_: usize) {}
    pub fn jump(_: usize) {}
    pub fn exclusive(_: usize) {}
    pub fn return_address() -> usize {
        0
    }
    pub fn undefined() {}
    pub fn privileged() {}
    pub fn system_register() {}
    pub fn hypervisor_call() {}
    pub fn breakpoint() {}
}
