//! Handlers of SIGSEGV that repair what was wrong: the way a collector's write barrier works, or the
//! guard pages of a runtime. With an argument, the name of a file that is read first.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use programs::memory::Area;
use programs::sys::{PAGE, map};
use programs::{check, require};

/// Pages that are written once each.
const PAGES: usize = 8;

/// What the handler knows and has seen.
static START: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);
static STACK: AtomicUsize = AtomicUsize::new(0);
static BLOCKED: AtomicBool = AtomicBool::new(false);

fn main() {
    check::start("signals");
    if let Some(name) = std::env::args_os().nth(1) {
        check::section(10, "a file");
        let text = std::fs::read_to_string(&name);
        require!(text.is_ok(), "{}: {text:?}", name.to_string_lossy());
        print!("{}", text.unwrap_or_default());
    }
    check::section(11, "a handler that gives rights");
    install(0);
    write_all();
    check::section(12, "registers are what they were");
    registers();
    check::section(13, "a stack of the handler's own");
    let stack = Area::new(16 * PAGE, map::RW);
    own_stack(&stack);
    check::pass();
}

/// Gives the page the right that was missing. Of what is called here nothing allocates or locks.
extern "C" fn repair(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let here = 0u8;
    STACK.store(ptr::from_ref(&here).addr(), Ordering::Relaxed);
    // SAFETY: the kernel has made the record, and `set` is ours.
    let (at, blocked) = unsafe {
        let mut set = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut set);
        (
            (*info).si_addr().addr(),
            libc::sigismember(&raw const set, libc::SIGSEGV) == 1,
        )
    };
    BLOCKED.store(blocked, Ordering::Relaxed);
    let page = at & !(PAGE - 1);
    let start = START.load(Ordering::Relaxed);
    if !(start..start + PAGES * PAGE).contains(&at) {
        // SAFETY: ends the program.
        unsafe { libc::_exit(99) };
    }
    CALLS.fetch_add(1, Ordering::Relaxed);
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the page belongs to the area, which nobody borrows from.
    unsafe { libc::mprotect(ptr::with_exposed_provenance_mut(page), PAGE, rights) };
}

fn install(flags: i32) {
    // SAFETY: an action of zeros is a valid one, and the handler is made for this signal.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = repair as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | flags;
        libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut())
    };
    require!(result == 0, "sigaction: {result}");
}

/// An area that may be read only, and that the handler knows.
fn closed() -> Area {
    let area = Area::new(PAGES * PAGE, map::PROT_READ);
    START.store(area.addr(0), Ordering::Relaxed);
    CALLS.store(0, Ordering::Relaxed);
    area
}

fn write_all() {
    let area = closed();
    for page in 0..PAGES {
        area.set(page * PAGE + page, page as u8 + 1);
        let calls = CALLS.load(Ordering::Relaxed);
        require!(calls == page + 1, "{calls} calls after {} pages", page + 1);
        require!(
            BLOCKED.load(Ordering::Relaxed),
            "not blocked in the handler"
        );
    }
    for page in 0..PAGES {
        let seen = area.get(page * PAGE + page);
        require!(seen == page as u8 + 1, "page {page} holds {seen}");
    }
    // SAFETY: `set` is ours.
    let blocked = unsafe {
        let mut set = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut set);
        libc::sigismember(&raw const set, libc::SIGSEGV)
    };
    require!(blocked == 0, "still blocked after the handler");
}

/// Sums and products that live in registers across the fault.
fn registers() {
    let area = closed();
    let (mut whole, mut real) = (1u64, 1.0f64);
    for round in 0..PAGES as u64 {
        whole = whole
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(round);
        real = real * 1.5 + round as f64;
        area.set(round as usize * PAGE, whole as u8);
    }
    let (mut other, mut float) = (1u64, 1.0f64);
    for round in 0..PAGES as u64 {
        other = other
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(round);
        float = float * 1.5 + round as f64;
    }
    require!(whole == other, "{whole:#x} is not {other:#x}");
    require!(real.to_bits() == float.to_bits(), "{real} is not {float}");
    let calls = CALLS.load(Ordering::Relaxed);
    require!(calls == PAGES, "{calls} calls for {PAGES} pages");
}

fn own_stack(stack: &Area) {
    let new = libc::stack_t {
        ss_sp: ptr::with_exposed_provenance_mut(stack.addr(0)),
        ss_flags: 0,
        ss_size: stack.len(),
    };
    // SAFETY: the area outlives the handler's calls, and nothing else is in it.
    let result = unsafe { libc::sigaltstack(&raw const new, ptr::null_mut()) };
    require!(result == 0, "sigaltstack: {result}");
    install(libc::SA_ONSTACK);
    let area = closed();
    area.set(0, 1);
    let at = STACK.load(Ordering::Relaxed);
    let range = stack.addr(0)..stack.addr(0) + stack.len();
    require!(
        range.contains(&at),
        "the handler ran at {at:#x}, not in {range:x?}"
    );
}
