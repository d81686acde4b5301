//! One bad pointer after another in calls that take a small structure.

use crate::raw;
use programs::memory::Area;
use programs::sys::{self, PAGE, errno, map, nr};
use programs::{check, require, require_result};

/// A system call with one pointer argument.
struct Call {
    name: &'static str,
    number: usize,
    /// The arguments; [`P`] stands for the pointer.
    args: [usize; 6],
    /// Bytes that are read or written at the pointer.
    size: usize,
    /// Whether the kernel writes there.
    output: bool,
    /// The answer with a good pointer; `None`: anything but an error.
    good: Option<isize>,
}

/// Stands for the pointer in [`Call::args`].
const P: usize = usize::MAX - 12345;
pub const KERNEL: usize = 0xffff_8000_0000_0000;
const MONOTONIC: usize = 1;
const SIGUSR1: usize = 10;
pub const FUTEX_WAIT_PRIVATE: usize = 128;
const AT_FDCWD: usize = -100isize as usize;

/// Calls that read; `zero` is the address of 64 zero bytes.
fn inputs(zero: usize) -> Vec<Call> {
    let call = |name, number, args, size, good| Call {
        name,
        number,
        args,
        size,
        output: false,
        good: Some(good),
    };
    let timed_out = -errno::ETIMEDOUT;
    vec![
        call("nanosleep", nr::NANOSLEEP, [P, 0, 0, 0, 0, 0], 16, 0),
        call(
            "clock_nanosleep",
            nr::CLOCK_NANOSLEEP,
            [MONOTONIC, 0, P, 0, 0, 0],
            16,
            0,
        ),
        call("ppoll time-out", nr::PPOLL, [0, 0, P, 0, 8, 0], 16, 0),
        call("ppoll mask", nr::PPOLL, [0, 0, zero, P, 8, 0], 8, 0),
        call(
            "futex word",
            nr::FUTEX,
            [P, FUTEX_WAIT_PRIVATE, 1, 0, 0, 0],
            4,
            -errno::EAGAIN,
        ),
        call(
            "futex time-out",
            nr::FUTEX,
            [zero, FUTEX_WAIT_PRIVATE, 0, P, 0, 0],
            16,
            timed_out,
        ),
        call(
            "rt_sigaction new",
            nr::RT_SIGACTION,
            [SIGUSR1, P, 0, 8, 0, 0],
            32,
            0,
        ),
        call(
            "rt_sigprocmask new",
            nr::RT_SIGPROCMASK,
            [0, P, 0, 8, 0, 0],
            8,
            0,
        ),
        call(
            "openat",
            nr::OPENAT,
            [AT_FDCWD, P, 0, 0, 0, 0],
            1,
            -errno::ENOENT,
        ),
        call("writev vector", nr::WRITEV, [1, P, 1, 0, 0, 0], 16, 0),
    ]
}

/// Calls that write.
fn outputs(zero: usize) -> Vec<Call> {
    let call = |name, number, args, size, good| Call {
        name,
        number,
        args,
        size,
        output: true,
        good,
    };
    vec![
        call(
            "clock_gettime",
            nr::CLOCK_GETTIME,
            [MONOTONIC, P, 0, 0, 0, 0],
            16,
            Some(0),
        ),
        call(
            "clock_gettime real",
            nr::CLOCK_GETTIME,
            [0, P, 0, 0, 0, 0],
            16,
            Some(0),
        ),
        // Its partial counts have a section of their own.
        call("getrandom", nr::GETRANDOM, [P, 8, 0, 0, 0, 0], 8, Some(8)),
        call(
            "sched_getaffinity",
            nr::SCHED_GETAFFINITY,
            [0, 128, P, 0, 0, 0],
            8,
            None,
        ),
        call("uname", nr::UNAME, [P, 0, 0, 0, 0, 0], 390, Some(0)),
        call(
            "rt_sigaction old",
            nr::RT_SIGACTION,
            [SIGUSR1, 0, P, 8, 0, 0],
            32,
            Some(0),
        ),
        call(
            "rt_sigprocmask old",
            nr::RT_SIGPROCMASK,
            [0, 0, P, 8, 0, 0],
            8,
            Some(0),
        ),
        call(
            "sigaltstack old",
            nr::SIGALTSTACK,
            [0, P, 0, 0, 0, 0],
            24,
            Some(0),
        ),
        call(
            "ppoll descriptors",
            nr::PPOLL,
            [P, 1, zero, 0, 8, 0],
            8,
            None,
        ),
        call("fstat", nr::FSTAT, [1, P, 0, 0, 0, 0], 128, Some(0)),
    ]
}

/// Tries all of them.
pub fn run() {
    let zeroes = Area::new(PAGE, map::PROT_READ);
    let zero = zeroes.addr(0);
    check::section(10, "pointers to read from");
    inputs(zero).iter().for_each(bad_pointers);
    check::section(11, "pointers to write to");
    outputs(zero).iter().for_each(bad_pointers);
}

fn with(call: &Call, pointer: usize) -> isize {
    raw(
        call.number,
        call.args.map(|arg| if arg == P { pointer } else { arg }),
    )
}

/// Puts every kind of bad pointer into a call that works with a good one.
fn bad_pointers(call: &Call) {
    let area = Area::new(3 * PAGE, map::RW);
    let good = with(call, area.addr(0));
    if good == -errno::ENOSYS {
        println!("efault: {} does not exist here", call.name);
        return;
    }
    let fine = call.good.map_or(good >= 0, |expected| good == expected);
    require!(
        fine,
        "{} with a good pointer: {}",
        call.name,
        sys::describe(good)
    );
    require_result!(area.unmap(PAGE, PAGE), 0, "munmap");
    let none = Area::new(PAGE, map::PROT_NONE);
    let readonly = Area::new(PAGE, map::PROT_READ);
    let mut bad = vec![
        ("the first page", 64),
        ("an unmapped page", area.addr(PAGE)),
        ("a page without access", none.addr(0)),
        ("the kernel", KERNEL),
        ("an address beyond all", 1 << 52),
        ("the last bytes of all", usize::MAX - 7),
    ];
    // Linux takes NULL for "no time-out", "no mask" or "no descriptors" in most of these.
    if call.number == nr::NANOSLEEP || call.number == nr::CLOCK_GETTIME {
        bad.push(("NULL", 0));
    }
    if call.size > 8 {
        bad.push(("the end of a page", area.addr(PAGE - 8)));
    }
    if call.output {
        bad.push(("read-only memory", readonly.addr(0)));
        bad.push(("its own code", run as *const () as usize & !7));
    }
    for (what, pointer) in bad {
        require_result!(with(call, pointer), -errno::EFAULT, "{}, {what}", call.name);
    }
    require!(
        readonly.holds(0, PAGE, 0),
        "{} changed read-only memory",
        call.name
    );
}
