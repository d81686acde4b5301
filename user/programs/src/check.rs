//! Checks that end the program with a status of their own.
//!
//! A program names itself once with [`start`], announces each group of checks with [`section`],
//! and closes with [`pass`]. A check that does not hold ends the whole process, from any thread,
//! with the number of the current section.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Exit status for wrong arguments or a machine the program is not made for.
pub const STATUS_USAGE: i32 = 2;

struct State {
    program: &'static str,
    section: i32,
    about: &'static str,
}

static STATE: Mutex<State> = Mutex::new(State {
    program: "program",
    section: 10,
    about: "start",
});
static CHECKS: AtomicU64 = AtomicU64::new(0);

fn state() -> std::sync::MutexGuard<'static, State> {
    STATE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Names the program.
pub fn start(program: &'static str) {
    state().program = program;
}

/// Ends the program with [`STATUS_USAGE`] anywhere but on aarch64, for programs in assembly.
pub fn aarch64_only() {
    if !cfg!(target_arch = "aarch64") {
        usage("this program is made for aarch64-unknown-linux-musl");
    }
}

/// Opens a section: checks that fail from now on end with `status`, which is from 10 to 99.
pub fn section(status: i32, about: &'static str) {
    debug_assert!((10..100).contains(&status));
    let mut state = state();
    state.section = status;
    state.about = about;
}

/// Says how the program is called, and ends it with [`STATUS_USAGE`].
pub fn usage(text: &str) -> ! {
    let program = state().program;
    eprintln!("{program}: {text}");
    std::process::exit(STATUS_USAGE)
}

/// Counts one check that held.
pub fn held() {
    CHECKS.fetch_add(1, Ordering::Relaxed);
}

/// Reports a check that did not hold and ends the process with the section's status.
pub fn fail(file: &str, line: u32, what: &str) -> ! {
    let (program, status, about) = {
        let state = state();
        (state.program, state.section, state.about)
    };
    eprintln!("{program}: FAILED in section {status} ({about}): {what} [{file}:{line}]");
    std::process::exit(status)
}

/// Prints the closing line, `NAME: pass (N checks)`.
pub fn pass() {
    println!(
        "{}: pass ({} checks)",
        state().program,
        CHECKS.load(Ordering::Relaxed)
    );
}

/// Checks a condition; the message takes formatting arguments.
#[macro_export]
macro_rules! require {
    ($condition:expr, $($message:tt)+) => {
        if $condition {
            $crate::check::held();
        } else {
            $crate::check::fail(file!(), line!(), &format!($($message)+));
        }
    };
}

/// Checks that a system-call result equals the expected one, and names both if not.
#[macro_export]
macro_rules! require_result {
    ($got:expr, $expected:expr, $($message:tt)+) => {{
        let (got, expected): (isize, isize) = ($got, $expected);
        $crate::require!(
            got == expected,
            "{}: got {}, expected {}",
            format_args!($($message)+),
            $crate::sys::describe(got),
            $crate::sys::describe(expected)
        );
    }};
}

/// The command-line argument at `index` as a number, or `default` when it is absent. Anything that
/// is not a number (decimal, or hexadecimal after `0x`) is a usage error.
pub fn number_argument(index: usize, default: u64) -> u64 {
    let Some(text) = std::env::args().nth(index) else {
        return default;
    };
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|_| usage(&format!("argument {index} is not a number: {text}")))
}
