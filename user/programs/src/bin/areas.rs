//! As many areas as a space may have: `areas [LIMIT]`.
//!
//! Pages are mapped one by one, each with other rights than the one before, so that none merge,
//! where the kernel likes. The last ones cost about as much as the first: look-up, insertion and
//! the search for a free range do not go through all areas. At the limit the kernel refuses to add
//! or to cut areas, and nothing else.

use programs::memory::readable;
use programs::sys::{PAGE, errno, map, nr, syscall};
use programs::{check, require, require_result};
use std::time::{Duration, Instant};

/// Mappings that are measured together.
const BATCH: usize = 1000;
/// More than there are at the start, and than libraries and stacks add.
const OTHERS: usize = 100;

fn main() {
    check::start("areas");
    let limit = check::number_argument(1, 65_530) as usize;
    if limit < 4 * BATCH {
        check::usage("the limit is too small to measure anything");
    }
    // What is written with first needs memory, which cannot be had any more at the limit.
    println!("areas: up to {limit}");
    check::section(10, "three pages for later");
    let whole = map_pages(3, map::RW);
    require!(whole > 0, "mmap answers {whole}");
    let whole = whole as usize;

    check::section(11, "mappings up to the limit");
    let mut pages: Vec<usize> = Vec::with_capacity(limit + 1);
    let first = fill(&mut pages, BATCH).1;
    let (_, before) = fill(&mut pages, limit - OTHERS);
    let (refused, _) = fill(&mut pages, limit + 1);
    require_result!(refused, -errno::ENOMEM, "mmap at the limit");

    check::section(12, "what they cost");
    println!(
        "areas: first thousand {} ns, last thousand {} ns",
        first.as_nanos(),
        before.as_nanos()
    );
    require!(
        before < first * 2 || !cfg!(target_arch = "aarch64"),
        "the last mappings cost {before:?}, the first {first:?}"
    );

    check::section(13, "they are what was asked for");
    look(&pages);

    check::section(14, "at the limit nothing is cut");
    // SAFETY: the pages are the program's own, and nothing lives in them.
    let unmap = |at, len| unsafe { syscall(nr::MUNMAP, [at, len, 0, 0, 0, 0]) };
    require_result!(
        unmap(whole + PAGE, PAGE),
        -errno::ENOMEM,
        "a hole in an area"
    );
    // SAFETY: as above.
    let protected = unsafe { syscall(nr::MPROTECT, [whole + PAGE, PAGE, 0, 0, 0, 0]) };
    require_result!(
        protected,
        -errno::ENOMEM,
        "other rights for the page between"
    );
    require!(may_write(whole + PAGE), "the refused calls changed nothing");
    require_result!(unmap(pages[7], PAGE), 0, "an area taken out whole");
    require!(!readable(pages[7]), "an area that was taken out is gone");
    require!(
        map_pages(1, map::PROT_READ) > 0,
        "there is room for one again"
    );

    check::section(15, "all are taken out");
    for (at, &page) in pages.iter().enumerate() {
        require!(at == 7 || unmap(page, PAGE) == 0, "munmap of page {at}");
    }
    check::pass();
}

/// Maps pages until there are `count` or one is refused. Returns the refusal, and what the last
/// thousand took.
fn fill(pages: &mut Vec<usize>, count: usize) -> (isize, Duration) {
    let mut start = Instant::now();
    while pages.len() < count {
        if count - pages.len() == BATCH {
            start = Instant::now();
        }
        let prot = [map::PROT_READ, map::RW][pages.len() % 2];
        match map_pages(1, prot) {
            refused @ -4095..0 => return (refused, start.elapsed()),
            page => pages.push(page as usize),
        }
    }
    (0, start.elapsed())
}

fn map_pages(count: usize, prot: usize) -> isize {
    let flags = map::PRIVATE | map::ANONYMOUS | map::NORESERVE;
    // SAFETY: the kernel chooses addresses where nothing is.
    unsafe { syscall(nr::MMAP, [0, count * PAGE, prot, flags, usize::MAX, 0]) }
}

/// Whether the kernel can write the byte at `addr` for this program: getrandom does.
fn may_write(addr: usize) -> bool {
    // SAFETY: at most a byte changes, of pages in which nothing lives.
    let got = unsafe { syscall(nr::GETRANDOM, [addr, 1, 0, 0, 0, 0]) };
    got == 1
}

/// Every hundredth page has its rights.
fn look(pages: &[usize]) {
    for at in (0..pages.len()).step_by(101) {
        require!(readable(pages[at]), "page {at} can be read");
        require!(
            may_write(pages[at]) == (at % 2 == 1),
            "page {at} has its own rights"
        );
    }
}
