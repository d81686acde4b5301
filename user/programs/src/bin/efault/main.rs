//! Bad pointers to every system call that takes one: EFAULT or the exact partial count, and
//! nothing else happens.
//!
//! `efault [strict]`: partial counts of `write` depend on the kind of file, so they are insisted on
//! only under Tessera, where the console takes every byte before the fault, and with `strict`
//! (standard output is a regular file then).

mod structures;

use programs::memory::Area;
use programs::sys::{self, PAGE, errno, map, nr};
use programs::{check, require, require_result};
use structures::{FUTEX_WAIT_PRIVATE, KERNEL};

fn main() {
    check::start("efault");
    let strict = std::env::args().any(|word| word == "strict") || sys::is_tessera();
    structures::run();
    reads();
    write_codes();
    writes(strict);
    vectors(strict);
    random_bytes();
    wakes();
    check::pass();
}

fn raw(number: usize, args: [usize; 6]) -> isize {
    // SAFETY: pointers that the kernel writes through are areas of this program or no memory.
    unsafe { sys::syscall(number, args) }
}

/// `read` is asked only when it cannot block: for an address of the kernel, which is refused
/// before anything else, and for other addresses if input is there.
fn reads() {
    check::section(12, "read");
    let none = Area::new(PAGE, map::PROT_NONE);
    let read = |pointer| raw(nr::READ, [0, pointer, 16, 0, 0, 0]);
    require_result!(read(KERNEL), -errno::EFAULT, "an address of the kernel");
    require_result!(
        raw(nr::READ, [77, 0, 16, 0, 0, 0]),
        -errno::EBADF,
        "a closed descriptor"
    );
    let mut poll = [0u32, 1];
    let zero = [0u64; 2];
    let args = [
        poll.as_mut_ptr() as usize,
        1,
        (&raw const zero) as usize,
        0,
        8,
        0,
    ];
    let ready = raw(nr::PPOLL, args) == 1 && std::hint::black_box(poll)[1] >> 16 & 1 != 0;
    if ready {
        for pointer in [64, none.addr(0)] {
            let got = read(pointer);
            require!(
                got == -errno::EFAULT || got == 0,
                "{pointer:#x}: {}",
                sys::describe(got)
            );
        }
    }
}

fn write_codes() {
    check::section(13, "write: errors");
    let none = Area::new(PAGE, map::PROT_NONE);
    for pointer in [0, 64, none.addr(0), KERNEL, 1 << 52, usize::MAX - 7] {
        require_result!(
            sys::write(1, pointer, 8),
            -errno::EFAULT,
            "from {pointer:#x}"
        );
    }
    require_result!(
        sys::write(77, 0, 8),
        -errno::EBADF,
        "a closed descriptor comes first"
    );
    require_result!(sys::write(-1, KERNEL, 8), -errno::EBADF, "descriptor -1");
    require_result!(sys::write(1, 0, 0), 0, "no bytes from NULL");
    let got = sys::write(1, none.addr(0), usize::MAX / 2 + 1);
    let known = [-errno::EFAULT, -errno::EINVAL].contains(&got);
    require!(known, "2^63 bytes: {}", sys::describe(got));
}

/// Text of `len` bytes that ends at the end of page `pages - 1`; the page behind is not there.
fn text_before_hole(pages: usize, len: usize) -> (Area, usize) {
    let area = Area::new((pages + 1) * PAGE, map::RW);
    area.fill(0, pages * PAGE, b'.');
    (63..pages * PAGE)
        .step_by(64)
        .for_each(|end| area.set(end, b'\n'));
    require_result!(area.unmap(pages * PAGE, PAGE), 0, "munmap");
    let start = area.addr(pages * PAGE - len);
    (area, start)
}

fn writes(strict: bool) {
    check::section(14, "write: partial counts");
    for len in [1, 8, 61] {
        let (_area, start) = text_before_hole(1, len);
        partial(
            sys::write(1, start, len + 1),
            len,
            strict,
            "one byte too far",
        );
        partial(
            sys::write(1, start, len + 100),
            len,
            strict,
            "100 bytes too far",
        );
        require_result!(
            sys::write(1, start, len),
            len as isize,
            "exactly what is there"
        );
    }
    let (_area, start) = text_before_hole(2, PAGE + 20);
    partial(
        sys::write(1, start, 2 * PAGE),
        PAGE + 20,
        strict,
        "over a page and into a hole",
    );
}

fn partial(got: isize, expected: usize, strict: bool, what: &str) {
    // Elsewhere a pipe counts whole pages and a terminal whole pieces, or nothing.
    let some = got == -errno::EFAULT || (1..=expected as isize).contains(&got);
    if strict || !some {
        require_result!(got, expected as isize, "{what}");
    }
}

/// Two parts for `writev`.
type Vectors = [[usize; 2]; 2];

fn vectors(strict: bool) {
    check::section(15, "writev");
    let (_area, text) = text_before_hole(1, 24);
    let writev = |parts: &Vectors, count: usize| {
        raw(nr::WRITEV, [1, parts.as_ptr() as usize, count, 0, 0, 0])
    };
    let whole = [[text + 16, 8], [text + 20, 4]];
    require_result!(writev(&whole, 2), 12, "two good parts");
    partial(
        writev(&[[text, 24], [64, 4]], 2),
        24,
        strict,
        "the second part is bad",
    );
    partial(
        writev(&[[text, 30], [text, 4]], 2),
        24,
        strict,
        "the first part ends in a hole",
    );
    require_result!(
        writev(&[[64, 4], [text, 24]], 2),
        -errno::EFAULT,
        "the first part is bad"
    );
    let kernel = [[text, 24], [KERNEL, 4]];
    require_result!(
        writev(&kernel, 2),
        -errno::EFAULT,
        "an address of the kernel in any part"
    );
    require_result!(
        writev(&[[0, 0], [text + 16, 8]], 2),
        8,
        "an empty part at NULL"
    );
    let negative = [[text, 24], [text, usize::MAX]];
    require_result!(writev(&negative, 2), -errno::EINVAL, "a negative length");
    require_result!(writev(&whole, 0), 0, "no parts");
    require_result!(writev(&whole, 1025), -errno::EINVAL, "1025 parts");
    require_result!(writev(&whole, usize::MAX), -errno::EINVAL, "-1 parts");
}

fn random_bytes() {
    check::section(16, "getrandom: partial counts");
    let area = Area::new(3 * PAGE, map::RW);
    require_result!(area.unmap(2 * PAGE, PAGE), 0, "munmap");
    // Whole blocks of 64 bytes before the hole, so that Linux counts exactly, too.
    for len in [64, 128, PAGE, PAGE + 256] {
        let pointer = area.addr(2 * PAGE - len);
        let got = raw(nr::GETRANDOM, [pointer, len + 64, 0, 0, 0, 0]);
        require_result!(got, len as isize, "{len} bytes before a hole");
    }
    let got = raw(nr::GETRANDOM, [area.addr(0), 2 * PAGE, 0, 0, 0, 0]);
    require_result!(got, 2 * PAGE as isize, "two whole pages");
    let zeroes = (0..2 * PAGE).filter(|at| area.get(*at) == 0).count();
    require!(zeroes < 200, "random bytes: {zeroes} of 8192 are zero");
    require_result!(
        raw(nr::GETRANDOM, [64, 0, 0, 0, 0, 0]),
        0,
        "no bytes to nowhere"
    );
    require_result!(
        raw(nr::GETRANDOM, [area.addr(0), 8, 0x100, 0, 0, 0]),
        -errno::EINVAL,
        "flag"
    );
}

/// A private wake needs the address only, a shared one looks the page up.
fn wakes() {
    check::section(17, "futex wake");
    let none = Area::unmapped(PAGE);
    let wake = |pointer, kind| raw(nr::FUTEX, [pointer, 1 | kind, 1, 0, 0, 0]);
    require_result!(
        wake(none.addr(0), FUTEX_WAIT_PRIVATE),
        0,
        "private, an unmapped page"
    );
    require_result!(
        wake(none.addr(0), 0),
        -errno::EFAULT,
        "shared, an unmapped page"
    );
    require_result!(
        wake(KERNEL, FUTEX_WAIT_PRIVATE),
        -errno::EFAULT,
        "private, the kernel"
    );
    require_result!(wake(KERNEL, 0), -errno::EFAULT, "shared, the kernel");
}
