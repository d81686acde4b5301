//! Error codes of the calls that change mappings.

use programs::memory::Area;
use programs::sys::{self, PAGE, errno, map, nr};
use programs::{check, require, require_result};

const ANON: usize = map::PRIVATE | map::ANONYMOUS;
/// Beyond every user address, also with 52 bits.
const BEYOND: usize = 1 << 53;

pub fn run() {
    mmap_codes();
    munmap_codes();
    mprotect_codes();
    mremap_codes();
    madvise_codes();
}

/// A raw call whose arguments are meant to be refused.
fn refused(number: usize, args: [usize; 6]) -> isize {
    // SAFETY: either refused, or limited to an area of the caller.
    unsafe { sys::syscall(number, args) }
}

fn mmap(addr: usize, len: usize, prot: usize, flags: usize) -> isize {
    refused(nr::MMAP, [addr, len, prot, flags, usize::MAX, 0])
}

fn mmap_codes() {
    check::section(10, "mmap: errors");
    let area = Area::new(4 * PAGE, map::RW);
    let at = area.addr(PAGE);
    area.set(PAGE, 7);
    require_result!(mmap(0, 0, map::RW, ANON), -errno::EINVAL, "length 0");
    require_result!(
        mmap(at, 0, map::RW, ANON | map::FIXED),
        -errno::EINVAL,
        "FIXED, length 0"
    );
    require_result!(
        mmap(at + 1, PAGE, map::RW, ANON | map::FIXED),
        -errno::EINVAL,
        "FIXED at a misaligned address"
    );
    require_result!(
        mmap(0, PAGE, map::RW, map::ANONYMOUS),
        -errno::EINVAL,
        "neither shared nor private"
    );
    let offset = [0, PAGE, map::RW, ANON, usize::MAX, 12];
    require_result!(
        refused(nr::MMAP, offset),
        -errno::EINVAL,
        "misaligned offset"
    );
    let file = [0, PAGE, map::PROT_READ, map::PRIVATE, 77, 0];
    require_result!(
        refused(nr::MMAP, file),
        -errno::EBADF,
        "a file that is not open"
    );
    require_result!(
        mmap(0, 1 << 60, map::RW, ANON),
        -errno::ENOMEM,
        "length 2^60"
    );
    require_result!(
        mmap(0, usize::MAX, map::RW, ANON),
        -errno::ENOMEM,
        "length 2^64 - 1"
    );
    require_result!(
        mmap(0, usize::MAX - PAGE, map::RW, ANON),
        -errno::ENOMEM,
        "almost 2^64"
    );
    require_result!(
        mmap(BEYOND, PAGE, map::RW, ANON | map::FIXED),
        -errno::ENOMEM,
        "FIXED beyond the address space"
    );
    require_result!(
        mmap(usize::MAX & !(PAGE - 1), PAGE, map::RW, ANON | map::FIXED),
        -errno::ENOMEM,
        "FIXED at the very last page"
    );
    for (start, len) in [(0, 1), (1, 1), (0, 4), (3, 1)] {
        let got = area.map_raw(
            start * PAGE,
            len * PAGE,
            map::RW,
            ANON | map::FIXED_NOREPLACE,
        );
        require_result!(
            got,
            -errno::EEXIST,
            "NOREPLACE over {len} pages from {start}"
        );
    }
    require!(area.get(PAGE) == 7, "refused mappings change nothing");
}

fn munmap_codes() {
    check::section(11, "munmap: errors");
    let area = Area::new(3 * PAGE, map::RW);
    let call = |addr, len| refused(nr::MUNMAP, [addr, len, 0, 0, 0, 0]);
    require_result!(
        call(area.addr(1), PAGE),
        -errno::EINVAL,
        "misaligned address"
    );
    require_result!(call(area.addr(0), 0), -errno::EINVAL, "length 0");
    require_result!(
        call(BEYOND, PAGE),
        -errno::EINVAL,
        "beyond the address space"
    );
    require_result!(
        call(area.addr(0), usize::MAX),
        -errno::EINVAL,
        "length 2^64 - 1"
    );
    require_result!(call(area.addr(0), 1 << 60), -errno::EINVAL, "length 2^60");
    require_result!(call(area.addr(PAGE), 1), 0, "length 1 takes the whole page");
    require_result!(call(area.addr(PAGE), PAGE), 0, "a hole");
    require_result!(call(area.addr(0), 3 * PAGE), 0, "pages and a hole");
    require_result!(call(area.addr(0), 3 * PAGE), 0, "nothing at all");
}

fn mprotect_codes() {
    check::section(12, "mprotect: errors");
    let area = Area::new(4 * PAGE, map::RW);
    let call = |addr, len, prot| refused(nr::MPROTECT, [addr, len, prot, 0, 0, 0]);
    require_result!(
        call(area.addr(1), PAGE, map::RW),
        -errno::EINVAL,
        "misaligned address"
    );
    require_result!(call(area.addr(0), 0, map::RW), 0, "length 0");
    require_result!(
        call(area.addr(0), PAGE, 0x300_0000),
        -errno::EINVAL,
        "GROWSDOWN|GROWSUP"
    );
    require_result!(
        call(area.addr(0), PAGE, 0x4000_0000),
        -errno::EINVAL,
        "unknown protection"
    );
    require_result!(
        call(area.addr(0), usize::MAX - PAGE, map::RW),
        -errno::ENOMEM,
        "it wraps"
    );
    require_result!(
        call(BEYOND, PAGE, map::RW),
        -errno::ENOMEM,
        "beyond the address space"
    );
    require_result!(area.unmap(2 * PAGE, PAGE), 0, "munmap");
    area.set(0, 1);
    let got = area.protect(0, 4 * PAGE, map::PROT_READ);
    require_result!(got, -errno::ENOMEM, "a hole");
    let writable = |page: usize| programs::memory::writable(&area, page * PAGE);
    require!(
        !writable(0) && !writable(1),
        "the pages before the hole are read-only now"
    );
    require!(writable(3), "the page behind it is not");
    let got = area.protect(2 * PAGE, 2 * PAGE, map::PROT_READ);
    require_result!(got, -errno::ENOMEM, "a hole at the start");
    require!(writable(3), "and the page behind it is still writable");
}

fn mremap_codes() {
    check::section(13, "mremap: errors");
    let area = Area::new(8 * PAGE, map::RW);
    let at = area.addr(0);
    let call =
        |args: [usize; 5]| refused(nr::MREMAP, [args[0], args[1], args[2], args[3], args[4], 0]);
    const MAY: usize = map::MREMAP_MAYMOVE;
    const FIXED: usize = map::MREMAP_MAYMOVE | map::MREMAP_FIXED;
    require_result!(
        call([at + 1, PAGE, PAGE, MAY, 0]),
        -errno::EINVAL,
        "misaligned old address"
    );
    require_result!(call([at, PAGE, 0, MAY, 0]), -errno::EINVAL, "new length 0");
    require_result!(
        call([at, PAGE, PAGE, 64, 0]),
        -errno::EINVAL,
        "unknown flag"
    );
    let alone = map::MREMAP_FIXED;
    require_result!(
        call([at, PAGE, PAGE, alone, 0]),
        -errno::EINVAL,
        "FIXED without MAYMOVE"
    );
    let odd = area.addr(4 * PAGE + 8);
    require_result!(
        call([at, PAGE, PAGE, FIXED, odd]),
        -errno::EINVAL,
        "misaligned new address"
    );
    let overlap = area.addr(PAGE);
    let got = call([at, 2 * PAGE, 2 * PAGE, FIXED, overlap]);
    require_result!(got, -errno::EINVAL, "the new range overlaps the old one");
    require_result!(
        call([at, PAGE, PAGE, FIXED, BEYOND]),
        -errno::EINVAL,
        "beyond"
    );
    // Linux 6.12 finds no room for it; since 6.17 the argument itself is refused.
    let huge = call([at, PAGE, 1 << 60, MAY, 0]);
    let known = [-errno::ENOMEM, -errno::EINVAL].contains(&huge);
    require!(known, "new length 2^60, MAYMOVE: {}", sys::describe(huge));
    require_result!(
        call([at, 0, PAGE, MAY, 0]),
        -errno::EINVAL,
        "old length 0 of private memory"
    );
    require_result!(area.unmap(6 * PAGE, PAGE), 0, "munmap");
    let hole = area.addr(6 * PAGE);
    require_result!(
        call([hole, PAGE, 2 * PAGE, MAY, 0]),
        -errno::EFAULT,
        "a hole"
    );
    let end = area.addr(5 * PAGE);
    require_result!(
        call([end, 2 * PAGE, 3 * PAGE, MAY, 0]),
        -errno::EFAULT,
        "over the end"
    );
    require_result!(
        call([at, PAGE, 2 * PAGE, 0, 0]),
        -errno::ENOMEM,
        "no room, not MAYMOVE"
    );
    require_result!(call([at, PAGE, PAGE, 0, 0]), at as isize, "the same size");
}

fn madvise_codes() {
    check::section(14, "madvise: errors");
    let area = Area::new(4 * PAGE, map::RW);
    area.fill(0, 4 * PAGE, 9);
    let call = |addr, len, advice| refused(nr::MADVISE, [addr, len, advice, 0, 0, 0]);
    const GONE: usize = map::MADV_DONTNEED;
    require_result!(
        call(area.addr(1), PAGE, GONE),
        -errno::EINVAL,
        "misaligned address"
    );
    require_result!(
        call(area.addr(0), PAGE, 9999),
        -errno::EINVAL,
        "unknown advice"
    );
    require_result!(call(area.addr(0), 0, GONE), 0, "length 0");
    require_result!(
        call(area.addr(0), usize::MAX, GONE),
        -errno::EINVAL,
        "length 2^64 - 1"
    );
    require_result!(area.unmap(PAGE, PAGE), 0, "munmap");
    require_result!(area.advise(0, 4 * PAGE, GONE), -errno::ENOMEM, "a hole");
    let zero = [0, 2, 3]
        .iter()
        .all(|page| area.holds(page * PAGE, PAGE, 0));
    require!(
        zero,
        "all mapped pages are zero, also those behind the hole"
    );
}
