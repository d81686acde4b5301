//! Memory that is shared until it is written: the page of zeros, the pages of the program's image,
//! and what rights that come and go make of copies.

use programs::figures::{all_counts, counts, free_frames, settle};
use programs::memory::{Area, readable, writable};
use programs::sys::{PAGE, errno, map, nr, syscall};
use programs::{check, require, require_result};
use std::sync::atomic::{AtomicU64, Ordering};

/// Pages that are read and not written.
const READ: usize = 1000;

fn main() {
    check::start("cow");
    settle();
    check::section(10, "reading takes no memory");
    reading();
    check::section(11, "writing copies");
    writing();
    check::section(12, "the kernel writes");
    kernel_writes();
    check::section(13, "pages of the program's image");
    image();
    check::section(14, "a copy changes no register");
    registers();
    check::section(15, "rights taken and given back");
    rights();
    check::section(16, "what mincore says");
    resident();
    check::section(17, "wrong questions to mincore");
    wrong_questions();
    check::pass();
}

fn zero(area: &Area, page: usize) -> bool {
    let at = page * PAGE;
    (at..at + PAGE).step_by(8).all(|at| area.get_u64(at) == 0)
}

fn reading() {
    let area = Area::new(READ * PAGE, map::RW);
    let before = free_frames();
    all_counts(
        &[("faults_zero", 1000..=1000), ("faults_anon", 0..=2)],
        || {
            for page in 0..READ {
                require!(zero(&area, page), "page {page} is not zero");
            }
        },
    );
    // Tables, and nothing else.
    let taken = before.zip(free_frames()).map(|(b, a)| b.saturating_sub(a));
    require!(
        taken.is_none_or(|taken| taken <= 12),
        "reading took {taken:?} frames"
    );
    // Read again, all is there.
    counts("faults_zero", 0..=0, || {
        (0..READ).for_each(|page| require!(area.get(page * PAGE) == 0, "page {page}"));
    });
}

fn writing() {
    let area = Area::new(READ * PAGE, map::RW);
    (0..READ).for_each(|page| require!(area.get(page * PAGE + 7) == 0, "page {page}"));
    let before = free_frames();
    counts("faults_cow", 100..=101, || {
        (0..READ)
            .step_by(10)
            .for_each(|page| area.set_u64(page * PAGE + 512, page as u64 + 1));
    });
    let taken = before.zip(free_frames()).map(|(b, a)| b.saturating_sub(a));
    require!(
        taken.is_none_or(|taken| (90..=110).contains(&taken)),
        "a hundred copies took {taken:?} frames"
    );
    for page in 0..READ {
        match page % 10 {
            0 => {
                let got = area.get_u64(page * PAGE + 512);
                require!(got == page as u64 + 1, "page {page} holds {got}");
                area.set_u64(page * PAGE + 512, 0);
                require!(zero(&area, page), "the rest of copy {page}");
            }
            _ => require!(zero(&area, page), "page {page} was not written"),
        }
    }
}

fn kernel_writes() {
    let area = Area::new(8 * PAGE, map::RW);
    (0..8).for_each(|page| require!(area.get(page * PAGE) == 0, "page {page}"));
    all_counts(&[("faults_cow", 3..=4), ("faults_kernel", 2..=9)], || {
        let (at, len) = (area.addr(PAGE + 100), 2 * PAGE);
        // SAFETY: the bytes are the area's.
        let got = unsafe { syscall(nr::GETRANDOM, [at, len, 0, 0, 0, 0]) };
        require_result!(got, len as isize, "getrandom");
    });
    for page in [0, 4, 5, 6, 7] {
        require!(zero(&area, page), "page {page} was not written");
    }
    let start = (PAGE..PAGE + 100).all(|at| area.get(at) == 0);
    let end = (3 * PAGE + 100..4 * PAGE).all(|at| area.get(at) == 0);
    require!(start && end, "beside what was written");
    require!(!zero(&area, 2), "what was written");
}

/// Words of the image that may be written, not at zero and on pages of their own.
#[repr(align(4096))]
struct Words([AtomicU64; 8 * 512]);

static WORDS: Words = Words([const { AtomicU64::new(0x1111_2222_3333_4444) }; 8 * 512]);

fn image() {
    let word = |page: usize, at: usize| &WORDS.0[page * 512 + at];
    for page in 0..8 {
        let got = word(page, 3).load(Ordering::Relaxed);
        require!(got == 0x1111_2222_3333_4444, "page {page} holds {got:#x}");
    }
    counts("faults_cow", 4..=6, || {
        (0..8)
            .step_by(2)
            .for_each(|page| word(page, 9).store(5, Ordering::Relaxed));
    });
    for page in 0..8 {
        for at in 0..512 {
            let expected = match (page % 2, at) {
                (0, 9) => 5,
                _ => 0x1111_2222_3333_4444,
            };
            let got = word(page, at).load(Ordering::Relaxed);
            require!(got == expected, "page {page} holds {got:#x} at {at}");
        }
    }
    // Copies lose the right to write and get it back without another copy; the page that was never
    // written is copied now.
    let addr = WORDS.0.as_ptr() as usize;
    let protect = |prot| {
        // SAFETY: nothing is written meanwhile.
        let got = unsafe { syscall(nr::MPROTECT, [addr, 8 * PAGE, prot, 0, 0, 0]) };
        require_result!(got, 0, "mprotect of the image");
    };
    protect(map::PROT_READ);
    protect(map::RW);
    all_counts(&[("faults_reuse", 4..=4), ("faults_cow", 4..=6)], || {
        (0..8).for_each(|page| word(page, 10).store(6, Ordering::Relaxed));
    });
    for page in 0..8 {
        let got = [9, 10, 11].map(|at| word(page, at).load(Ordering::Relaxed));
        let nine = if page % 2 == 0 {
            5
        } else {
            0x1111_2222_3333_4444
        };
        require!(
            got == [nine, 6, 0x1111_2222_3333_4444],
            "page {page}: {got:x?}"
        );
    }
}

static SPARE: Words = Words([const { AtomicU64::new(7) }; 8 * 512]);

/// The kernel copies pages by vector registers, which are the program's.
fn registers() {
    let kept: [u64; 8] = std::array::from_fn(|i| 0x0123_4567_89ab_cdef << i);
    for page in 0..8 {
        let word = &SPARE.0[page * 512 + 40];
        let mut got = [0_u64; 8];
        counts("faults_cow", 1..=2, || {
            programs::regs::store_among_vectors(word, page as u64, &kept, &mut got);
        });
        require!(got == kept, "page {page}: {got:x?} instead of {kept:x?}");
        let written = word.load(Ordering::Relaxed);
        require!(written == page as u64, "page {page} holds {written}");
        let rest = (0..512).filter(|&at| at != 40);
        let copied = rest.map(|at| SPARE.0[page * 512 + at].load(Ordering::Relaxed));
        require!(
            copied.fold(0, |or, word| or | word ^ 7) == 0,
            "page {page} is no copy"
        );
    }
}

fn rights() {
    let area = Area::new(64 * PAGE, map::RW);
    // Half is written, and half is only read.
    for page in 0..64 {
        match page % 2 {
            0 => area.set_u64(page * PAGE, page as u64 + 1),
            _ => require!(area.get(page * PAGE) == 0, "page {page}"),
        }
    }
    require_result!(area.protect(0, 64 * PAGE, map::PROT_READ), 0, "read-only");
    (0..64).for_each(|page| require!(!writable(&area, page * PAGE), "page {page} is written"));
    require_result!(
        area.protect(0, 64 * PAGE, map::PROT_NONE),
        0,
        "without rights"
    );
    (0..64).for_each(|page| require!(!readable(area.addr(page * PAGE)), "page {page} is read"));
    require_result!(area.protect(0, 64 * PAGE, map::RW), 0, "all rights");
    (0..64).for_each(|page| area.set_u64(page * PAGE + 8, page as u64));
    for page in 0..64 {
        let got = (area.get_u64(page * PAGE), area.get_u64(page * PAGE + 8));
        let first = if page % 2 == 0 { page as u64 + 1 } else { 0 };
        require!(got == (first, page as u64), "page {page} holds {got:?}");
    }
    // The page of zeros was in none of it changed: who maps it anew sees zeros.
    let fresh = Area::new(16 * PAGE, map::RW);
    (0..16).for_each(|page| require!(zero(&fresh, page), "fresh page {page}"));
}

fn resident() {
    let area = Area::new(64 * PAGE, map::RW);
    let flags = map::MADV_NOHUGEPAGE;
    require_result!(area.advise(0, 64 * PAGE, flags), 0, "single pages");
    let expect = |there: &dyn Fn(usize) -> bool, what: &str| {
        let resident = area.resident(0, 64);
        let right = (0..64).all(|page| resident[page] == there(page));
        require!(right, "{what}: {resident:?}");
    };
    expect(&|_| false, "untouched");
    (0..64)
        .step_by(4)
        .for_each(|page| require!(area.get(page * PAGE) == 0, "page {page}"));
    expect(&|page| page % 4 == 0, "read");
    (0..64).step_by(2).for_each(|page| area.set(page * PAGE, 1));
    expect(&|page| page % 2 == 0, "written");
    require_result!(area.protect(0, 64 * PAGE, map::PROT_NONE), 0, "mprotect");
    expect(&|page| page % 2 == 0, "without rights");
    require_result!(area.advise(0, 32 * PAGE, map::MADV_DONTNEED), 0, "DONTNEED");
    expect(&|page| page % 2 == 0 && page >= 32, "half discarded");
}

fn wrong_questions() {
    let area = Area::new(4 * PAGE, map::RW);
    require_result!(area.unmap(2 * PAGE, PAGE), 0, "a hole");
    let mut bytes = [7u8; 4];
    let vec = bytes.as_mut_ptr() as usize;
    // SAFETY: the kernel writes at most 4 bytes to `bytes`, or refuses the address.
    let ask = |addr, len, vec| unsafe { syscall(nr::MINCORE, [addr, len, vec, 0, 0, 0]) };
    let start = area.addr(0);
    require_result!(ask(start + 1, PAGE, vec), -errno::EINVAL, "an odd address");
    require_result!(ask(start, 4 * PAGE, vec), -errno::ENOMEM, "a hole");
    require_result!(ask(start, usize::MAX, vec), -errno::ENOMEM, "everything");
    require_result!(ask(start, PAGE, 8), -errno::EFAULT, "no vector");
    require_result!(ask(start, 0, 8), 0, "nothing");
    let bytes = std::hint::black_box(bytes);
    require!(bytes[3] == 7, "behind the hole nothing is said: {bytes:?}");
}
