//! Memory that several mappings show: what is written through one is seen in the others, private
//! copies stay apart, and what the object loses all of them lose.

use programs::figures::{all_counts, counts, settle};
use programs::memfile::MemFile;
use programs::memory::{Area, readable, writable};
use programs::sys::{PAGE, errno, map};
use programs::{check, require, require_result};

/// Pages of the objects.
const PAGES: usize = 40;
const LEN: usize = PAGES * PAGE;

fn main() {
    check::start("objects");
    settle();
    check::section(10, "two mappings of shared anonymous memory");
    two_mappings();
    check::section(11, "what madvise leaves of shared memory");
    discarding();
    check::section(12, "mremap of shared memory");
    moving();
    check::section(13, "beyond the end of shared memory");
    beyond();
    check::section(14, "a memory file, mapped shared and private");
    private_copies();
    check::section(15, "a hole punched into what is mapped");
    punching();
    check::section(16, "a file cut and extended again");
    cutting();
    check::section(17, "a mapping outlives the descriptor");
    outliving();
    check::pass();
}

/// Writes to the first and the last word of each page.
fn number(area: &Area, offset: usize, pages: usize, base: u64) {
    for page in 0..pages {
        area.set_u64(offset + page * PAGE, base + page as u64);
        area.set_u64(offset + page * PAGE + PAGE - 8, base + page as u64);
    }
}

fn numbered(area: &Area, offset: usize, pages: usize, base: u64, what: &str) {
    for page in 0..pages {
        for place in [0, PAGE - 8] {
            let got = area.get_u64(offset + page * PAGE + place);
            require!(
                got == base + page as u64,
                "{what}: page {page} holds {got:#x} at {place}"
            );
        }
    }
}

fn zeros(area: &Area, offset: usize, pages: usize, what: &str) {
    for page in 0..pages {
        let at = offset + page * PAGE;
        let clean = (at..at + PAGE).step_by(8).all(|at| area.get_u64(at) == 0);
        require!(clean, "{what}: page {page} is not zero");
    }
}

fn two_mappings() {
    let area = Area::unmapped(2 * LEN);
    area.share(0, LEN);
    require_result!(
        area.map_again(0, LEN, LEN),
        area.addr(LEN) as isize,
        "a second mapping"
    );
    // What the first access finds in either of them is zeros, and the object's page from then on.
    zeros(&area, LEN, 1, "the second mapping");
    counts("faults_shared", PAGES as u64 - 1..=PAGES as u64, || {
        number(&area, 0, PAGES, 100);
    });
    numbered(&area, LEN, PAGES, 100, "through the second");
    number(&area, LEN, PAGES, 5000);
    numbered(&area, 0, PAGES, 5000, "through the first");
    // The kernel sees and changes the same pages.
    require!(writable(&area, LEN + 8), "the kernel may write");
    require!(
        area.get_u64(8) == area.get_u64(LEN + 8),
        "the kernel's byte is in both"
    );
    // One of them loses rights, and a part of itself; the other one does not.
    require_result!(area.protect(LEN, LEN, map::PROT_READ), 0, "mprotect");
    require!(!writable(&area, LEN), "written without a right");
    area.set_u64(0, 1);
    require!(area.get_u64(LEN) == 1, "seen through what is read-only");
    require_result!(area.unmap(LEN + PAGE, PAGE), 0, "munmap");
    require!(!readable(area.addr(LEN + PAGE)), "unmapped");
    require!(area.get_u64(PAGE) == 5001, "in the first it is still there");
    let resident = area.resident(0, PAGES);
    require!(resident.iter().all(|&is| is), "mincore: {resident:?}");
}

fn discarding() {
    let area = Area::unmapped(2 * LEN);
    area.share(0, LEN);
    let got = area.map_again(0, LEN, LEN);
    require_result!(got, area.addr(LEN) as isize, "a second mapping");
    number(&area, 0, PAGES, 1);
    require_result!(area.advise(0, LEN, map::MADV_DONTNEED), 0, "DONTNEED");
    let resident = area.resident(0, PAGES);
    require!(resident.iter().all(|&is| is), "the object has it all");
    all_counts(
        &[("faults_shared", 1..=40), ("pages_around", 20..=39)],
        || {
            numbered(&area, 0, PAGES, 1, "after DONTNEED");
        },
    );
    // REMOVE takes it from the object.
    require_result!(
        area.advise(2 * PAGE, 20 * PAGE, map::MADV_REMOVE),
        0,
        "REMOVE"
    );
    for offset in [0, LEN] {
        let resident = area.resident(offset, PAGES);
        let gone = |page: usize| (2..22).contains(&page);
        require!(
            (0..PAGES).all(|page| resident[page] != gone(page)),
            "after REMOVE: {resident:?}"
        );
    }
    zeros(&area, LEN + 2 * PAGE, 20, "removed");
    numbered(&area, LEN, 2, 1, "before what was removed");
    numbered(&area, LEN + 22 * PAGE, PAGES - 22, 23, "behind it");
    // Private memory has no object to take it from.
    let private = Area::new(PAGE, map::RW);
    require_result!(
        private.advise(0, PAGE, map::MADV_REMOVE),
        -errno::EINVAL,
        "REMOVE of private memory"
    );
}

fn moving() {
    let area = Area::unmapped(4 * LEN);
    area.share(0, LEN);
    number(&area, 0, PAGES, 7);
    let (there, moved) = (area.addr(2 * LEN) as isize, 2 * LEN);
    require_result!(area.remap(0, LEN, moved, LEN), there, "mremap");
    require!(!readable(area.addr(0)), "nothing is left where it was");
    numbered(&area, moved, PAGES, 7, "moved");
    // A part moves out of the middle, and keeps its place in the object.
    let (part, back) = (moved + 10 * PAGE, area.addr(0) as isize);
    require_result!(area.remap(part, 5 * PAGE, 0, 5 * PAGE), back, "a part");
    numbered(&area, 0, 5, 17, "the part");
    require!(!readable(area.addr(part)), "its old place");
    let again = area.addr(part) as isize;
    require_result!(area.map_again(0, part, 5 * PAGE), again, "again");
    number(&area, part, 5, 900);
    numbered(&area, 0, 5, 900, "both are the object's");
    // It shrinks.
    require_result!(area.resize(0, 5 * PAGE, PAGE), back, "shrunk");
    require!(!readable(area.addr(PAGE)), "the rest is gone");
    numbered(&area, part, 5, 900, "the object has it still");
    // Wrong ones. A second mapping there is only of what is shared.
    let private = Area::new(2 * PAGE, map::RW);
    require_result!(
        private.map_again(0, PAGE, PAGE),
        -errno::EINVAL,
        "a second mapping of private memory"
    );
    require_result!(
        area.resize(moved, 0, PAGE),
        -errno::ENOMEM,
        "a second mapping in the same place"
    );
    require_result!(
        area.map_again(3 * LEN, 0, PAGE),
        -errno::EFAULT,
        "a second mapping of nothing"
    );
}

fn beyond() {
    let area = Area::unmapped(2 * LEN);
    area.share(0, LEN);
    number(&area, 0, PAGES, 3);
    let here = area.addr(0) as isize;
    require_result!(area.resize(0, LEN, 2 * LEN), here, "grown in place");
    numbered(&area, 0, PAGES, 3, "grown");
    // The mapping has grown and the memory has not: the kernel is refused what would be a SIGBUS.
    for page in [PAGES, PAGES + 1, 2 * PAGES - 1] {
        counts("faults_bus", 2..=2, || {
            require!(!readable(area.addr(page * PAGE)), "page {page} is read");
            require!(!writable(&area, page * PAGE), "page {page} is written");
        });
    }
    let resident = area.resident(0, 2 * PAGES);
    require!(
        (0..2 * PAGES).all(|page| resident[page] == (page < PAGES)),
        "{resident:?}"
    );
}

/// An area of three parts of `LEN`: the file shared, private, and shared again.
fn three(file: &MemFile) -> Area {
    let area = Area::unmapped(3 * LEN);
    file.map(&area, 0, LEN, map::RW, map::SHARED);
    file.map(&area, LEN, LEN, map::RW, map::PRIVATE);
    file.map(&area, 2 * LEN, LEN, map::RW, map::SHARED);
    area
}

fn private_copies() {
    let file = MemFile::new(LEN);
    let area = three(&file);
    number(&area, 0, PAGES, 50);
    numbered(&area, LEN, PAGES, 50, "private, not written");
    numbered(&area, 2 * LEN, PAGES, 50, "shared");
    // Every other page is copied by writing to it.
    counts("faults_cow", PAGES as u64 / 2..=PAGES as u64 / 2, || {
        (0..PAGES).step_by(2).for_each(|page| {
            area.set_u64(LEN + page * PAGE, 1 << 40 | page as u64);
        });
    });
    numbered(&area, 0, PAGES, 50, "what private writes do to the file");
    number(&area, 0, PAGES, 80);
    for page in 0..PAGES {
        let (first, last) = (LEN + page * PAGE, LEN + page * PAGE + PAGE - 8);
        let expected = match page % 2 {
            0 => (1 << 40 | page as u64, 50 + page as u64),
            _ => (80 + page as u64, 80 + page as u64),
        };
        let got = (area.get_u64(first), area.get_u64(last));
        require!(got == expected, "page {page}: {got:x?}, not {expected:x?}");
    }
    // A file's bytes written by a call are in every mapping but the copies.
    require_result!(file.write_at(&[9; 8], 2 * PAGE), 8, "pwrite");
    require_result!(file.write_at(&[9; 8], 3 * PAGE), 8, "pwrite");
    let nines = u64::from_ne_bytes([9; 8]);
    require!(area.get_u64(2 * LEN + 2 * PAGE) == nines, "shared");
    require!(area.get_u64(LEN + 2 * PAGE) == 1 << 40 | 2, "the copy");
    require!(area.get_u64(LEN + 3 * PAGE) == nines, "not copied");
    // Discarded copies are the file's pages again.
    require_result!(area.advise(LEN, LEN, map::MADV_DONTNEED), 0, "DONTNEED");
    require!(area.get_u64(LEN + 2 * PAGE) == nines, "after DONTNEED");
}

fn punching() {
    let file = MemFile::new(LEN);
    let area = three(&file);
    number(&area, 0, PAGES, 300);
    (0..PAGES).step_by(2).for_each(|page| {
        area.set_u64(LEN + page * PAGE, 77);
    });
    numbered(&area, 2 * LEN, PAGES, 300, "shared");
    require_result!(file.punch(4 * PAGE, 20 * PAGE), 0, "a hole");
    zeros(&area, 4 * PAGE, 20, "the hole");
    zeros(
        &area,
        2 * LEN + 4 * PAGE,
        20,
        "the hole in the other mapping",
    );
    numbered(&area, 0, 4, 300, "before the hole");
    numbered(&area, 2 * LEN + 24 * PAGE, PAGES - 24, 324, "behind it");
    for page in 0..PAGES {
        let got = area.get_u64(LEN + page * PAGE);
        let expected = match (page % 2, (4..24).contains(&page)) {
            (0, _) => 77,
            (_, true) => 0,
            (_, false) => 300 + page as u64,
        };
        require!(got == expected, "private page {page} holds {got}");
    }
    // A part of a page is only cleared.
    require_result!(file.punch(8, PAGE - 16), 0, "a hole inside a page");
    require!(
        area.get_u64(0) == 300 && area.get_u64(PAGE - 8) == 300,
        "its ends"
    );
    require!(area.get_u64(8) == 0, "its middle");
}

fn cutting() {
    let file = MemFile::new(LEN);
    let area = three(&file);
    number(&area, 0, PAGES, 600);
    (0..PAGES).for_each(|page| area.set_u64(LEN + page * PAGE, 88));
    require_result!(file.resize(10 * PAGE + 8), 0, "cut");
    for offset in [0, LEN, 2 * LEN] {
        for page in [11, 12, PAGES - 1] {
            let at = offset + page * PAGE;
            require!(!readable(area.addr(at)), "page {page} is read");
            require!(!writable(&area, at), "page {page} is written");
        }
    }
    require!(
        area.get_u64(10 * PAGE) == 610,
        "what is left of the last page"
    );
    require!(area.get_u64(11 * PAGE - 8) == 0, "its end is cleared");
    require_result!(file.resize(LEN), 0, "extended");
    zeros(&area, 11 * PAGE, PAGES - 11, "extended");
    zeros(&area, LEN + 11 * PAGE, PAGES - 11, "copies go with the cut");
    require!(area.get_u64(LEN + 9 * PAGE) == 88, "copies before it stay");
    numbered(&area, 2 * LEN, 10, 600, "before the cut");
    require_result!(file.resize(usize::MAX), -errno::EINVAL, "a negative size");
    require_result!(file.punch(0, 0), -errno::EINVAL, "an empty hole");
}

fn outliving() {
    let area = Area::unmapped(LEN);
    let file = MemFile::new(LEN);
    file.map(&area, 0, LEN, map::RW, map::SHARED);
    number(&area, 0, PAGES, 10);
    require_result!(
        file.read_into(&area, 0, PAGE, 0),
        PAGE as isize,
        "read into itself"
    );
    require_result!(
        area.map_file(0, PAGE, map::RW, map::SHARED, 999),
        -errno::EBADF,
        "no such descriptor"
    );
    require_result!(
        area.map_file(0, PAGE, map::RW, 0, 999),
        -errno::EBADF,
        "and neither shared nor private"
    );
    drop(file);
    numbered(&area, 0, PAGES, 10, "after close");
}
