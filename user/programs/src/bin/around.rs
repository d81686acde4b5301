//! What a read fault of shared memory maps along with its page: `around [BYTES]`.
//!
//! BYTES is the window that the machine was booted with, 65536 where nothing else is said, and
//! `never` where nothing is mapped around in a watched range. Where the kernel is not Tessera, only
//! contents and rights are looked at.

use programs::figures::{all_counts, counts, settle};
use programs::memfile::MemFile;
use programs::memory::{Area, readable, writable};
use programs::sys::{self, PAGE, errno, map, nr, syscall, watched};
use programs::{check, require, require_result};

/// Pages of the objects.
const PAGES: usize = 256;
const LEN: usize = PAGES * PAGE;

fn main() {
    check::start("around");
    let argument = std::env::args().nth(1);
    let never = argument.as_deref() == Some("never");
    let window = match never {
        true => 64 << 10,
        false => check::number_argument(1, 64 << 10) as usize,
    };
    settle();
    check::section(10, "the window of this machine");
    windows(window);
    if !sys::is_tessera() {
        return check::pass();
    }
    let before = sys::set_fault_around(64 << 10);
    require_result!(before, window as isize, "what was set at boot");
    check::section(11, "windows set while running");
    other_windows();
    check::section(12, "windows that are cut");
    clipped();
    check::section(13, "folios of an object");
    folios();
    check::section(14, "watched ranges");
    watched_for_writes();
    watched_for_resident_pages();
    watched_for_missing_pages(never);
    check::section(15, "marks");
    marks();
    marks_and_zaps();
    marks_and_objects();
    marks_move();
    stray_marks();
    check::section(16, "wrong questions");
    wrong_questions();
    check::pass();
}

/// An area of two mappings of one object with a page everywhere: the first has it all, and in the
/// second one nothing is mapped yet.
fn pair(advice: usize) -> Area {
    let area = Area::unmapped(2 * LEN);
    area.share(0, LEN);
    require_result!(area.advise(0, LEN, advice), 0, "advice {advice}");
    (0..PAGES).for_each(|page| area.set_u64(page * PAGE, page as u64 + 1));
    let second = area.addr(LEN) as isize;
    require_result!(area.map_again(0, LEN, LEN), second, "a second mapping");
    area
}

/// Whether the second mapping shows what was written through the first.
fn check_second(area: &Area, pages: impl Iterator<Item = usize>) {
    for page in pages {
        let got = area.get_u64(LEN + page * PAGE);
        require!(got == page as u64 + 1, "page {page} holds {got}");
    }
}

/// Reads page `at` of the second mapping and requires that `pages` were mapped by it.
fn reads_along(area: &Area, at: usize, pages: u64) {
    let faults = u64::from(pages > 1);
    all_counts(
        &[
            ("faults_shared", 1..=1),
            ("faults_around", faults..=faults),
            ("pages_around", pages - 1..=pages - 1),
        ],
        || check_second(area, std::iter::once(at)),
    );
}

/// Reads pages whose faults are over.
fn without_faults(area: &Area, pages: impl Iterator<Item = usize>) {
    counts("faults_shared", 0..=0, || check_second(area, pages));
}

fn windows(bytes: usize) {
    let (area, pages) = (pair(map::MADV_NORMAL), bytes / PAGE);
    for at in [5, PAGES / 2 + 3] {
        let first = at / pages * pages;
        if at > 5 && first == 0 {
            // All was mapped by the first.
            continue;
        }
        reads_along(&area, at, (PAGES - first).min(pages) as u64);
        without_faults(&area, first..(first + pages).min(PAGES));
    }
    // A write maps its page only, whatever is around it.
    let other = pair(map::MADV_NORMAL);
    all_counts(&[("faults_shared", 1..=1), ("pages_around", 0..=0)], || {
        other.set_u64(LEN + 9 * PAGE, 10);
    });
    check_second(&other, 0..PAGES);
    check_second(&area, 0..PAGES);
}

fn other_windows() {
    for (bytes, pages) in [
        (4096, 1),
        (16 << 10, 4),
        (70_000, 16),
        (2 << 20, 256),
        (usize::MAX, 256),
    ] {
        let area = pair(map::MADV_NORMAL);
        let before = sys::set_fault_around(bytes);
        require!(before >= PAGE as isize, "the setting before: {before}");
        reads_along(&area, 130, pages as u64);
        let first = 130 / pages * pages;
        without_faults(&area, first..first + pages);
        sys::set_fault_around(64 << 10);
        check_second(&area, 0..PAGES);
    }
    // Advice about reading ahead is about files that are read, not about what is resident.
    let random = pair(map::MADV_NORMAL);
    let got = random.advise(LEN, LEN, map::MADV_RANDOM);
    require_result!(got, 0, "RANDOM");
    reads_along(&random, 3, 16);
}

fn clipped() {
    // The area ends inside windows: pages 5 to 20 of the object are left.
    let area = pair(map::MADV_NORMAL);
    require_result!(area.unmap(LEN, 5 * PAGE), 0, "munmap");
    require_result!(area.unmap(LEN + 21 * PAGE, LEN - 21 * PAGE), 0, "munmap");
    reads_along(&area, 7, 11);
    without_faults(&area, 5..16);
    reads_along(&area, 20, 5);
    without_faults(&area, 16..21);
    require!(!readable(area.addr(LEN + 4 * PAGE)), "before the area");
    require!(!readable(area.addr(LEN + 21 * PAGE)), "behind the area");
    // What is not resident stays absent, and what has rights of its own keeps them.
    let holes = pair(map::MADV_NORMAL);
    require_result!(
        holes.protect(LEN + 6 * PAGE, PAGE, map::PROT_NONE),
        0,
        "mprotect"
    );
    reads_along(&holes, 3, 6);
    reads_along(&holes, 9, 9);
    require!(
        !readable(holes.addr(LEN + 6 * PAGE)),
        "a page without rights"
    );
    // An object that has only some pages.
    let sparse = Area::unmapped(2 * LEN);
    sparse.share(0, LEN);
    (0..PAGES)
        .step_by(3)
        .for_each(|page| sparse.set_u64(page * PAGE, page as u64 + 1));
    let second = sparse.addr(LEN) as isize;
    require_result!(sparse.map_again(0, LEN, LEN), second, "a second mapping");
    reads_along(&sparse, 0, 6);
    without_faults(&sparse, (0..16).step_by(3));
    let resident = sparse.resident(0, PAGES);
    let sparse_still = (0..PAGES).all(|page| resident[page] == (page % 3 == 0));
    require!(sparse_still, "faults made pages around: {resident:?}");
}

fn folios() {
    let area = pair(map::MADV_HUGEPAGE);
    all_counts(
        &[
            ("folds", 1..=1),
            ("faults_64k", 1..=1),
            ("pages_around", 15..=15),
        ],
        || {
            check_second(&area, std::iter::once(35));
        },
    );
    without_faults(&area, 32..48);
    // A page of it alone loses its right to write.
    counts("unfolds", 1..=1, || {
        let got = area.protect(LEN + 33 * PAGE, PAGE, map::PROT_READ);
        require_result!(got, 0, "mprotect");
    });
    require!(!writable(&area, LEN + 33 * PAGE), "protected");
    require!(writable(&area, LEN + 34 * PAGE + 8), "its neighbour");
    check_second(&area, 0..PAGES);
}

fn arm(area: &Area, modes: usize) {
    require_result!(sys::watch(area.addr(LEN), LEN, modes), 0, "watch {modes}");
}

/// UF-01: exactly one page.
fn watched_for_writes() {
    let area = pair(map::MADV_NORMAL);
    arm(&area, watched::WP);
    (0..5).for_each(|page| reads_along(&area, page, 1));
    require!(writable(&area, LEN + PAGES / 2 * PAGE + 8), "not marked");
    arm(&area, 0);
    reads_along(&area, 5, 11);
    // A folio of the object is no reason to map more.
    let folio = pair(map::MADV_HUGEPAGE);
    arm(&folio, watched::WP);
    (16..20).for_each(|page| reads_along(&folio, page, 1));
}

/// UF-01: what the object has and the program has not mapped is asked about.
fn watched_for_resident_pages() {
    let area = pair(map::MADV_NORMAL);
    reads_along(&area, 2, 16);
    arm(&area, watched::MINOR);
    check_second(&area, 0..16);
    all_counts(&[("faults_asked", 2..=2), ("pages_around", 0..=0)], || {
        require!(!readable(area.addr(LEN + 20 * PAGE)), "a resident page");
        require!(!writable(&area, LEN + 21 * PAGE), "another one");
    });
    arm(&area, 0);
    check_second(&area, 0..PAGES);
}

/// UF-02: resident neighbours are mapped, absent pages are asked about.
fn watched_for_missing_pages(never: bool) {
    let area = Area::unmapped(2 * LEN);
    area.share(0, LEN);
    (0..8).for_each(|page| area.set_u64(page * PAGE, page as u64 + 1));
    let second = area.addr(LEN) as isize;
    require_result!(area.map_again(0, LEN, LEN), second, "a second mapping");
    arm(&area, watched::MISSING);
    reads_along(&area, 3, if never { 1 } else { 8 });
    check_second(&area, 0..8);
    counts("faults_asked", 2..=2, || {
        require!(
            !readable(area.addr(LEN + 8 * PAGE)),
            "a page that is not there"
        );
        require!(!writable(&area, LEN + 9 * PAGE), "another one");
    });
    let resident = area.resident(0, 16);
    require!(
        resident.iter().filter(|&&is| is).count() == 8,
        "{resident:?}"
    );
    // Made through the other mapping, it is there.
    area.set_u64(8 * PAGE, 9);
    check_second(&area, 8..9);
    // Private memory: nothing is there before somebody fills it.
    let private = Area::new(LEN, map::RW);
    private.set(0, 1);
    require_result!(private.advise(0, LEN, map::MADV_NOHUGEPAGE), 0, "pages");
    let got = sys::watch(private.addr(0), LEN, watched::MISSING);
    require_result!(got, 0, "watch");
    require!(!readable(private.addr(LEN / 2)), "read");
    require!(!writable(&private, LEN / 2), "written");
    require!(private.get(0) == 1, "what was there");
}

fn mark(area: &Area, page: usize, pages: usize, on: bool) {
    let got = sys::mark(area.addr(LEN + page * PAGE), pages * PAGE, on);
    require_result!(got, 0, "mark {on}");
}

/// A place in a page that holds nothing.
const PLACE: usize = 64;

fn may_write(area: &Area, page: usize) -> bool {
    writable(area, LEN + page * PAGE + PLACE)
}

fn marks() {
    let area = pair(map::MADV_NORMAL);
    arm(&area, watched::WP);
    check_second(&area, 0..8);
    // Pages that are mapped, and pages that are not.
    mark(&area, 0, 32, true);
    for page in [0, 7, 8, 31] {
        counts("faults_asked", 1..=1, || {
            require!(!may_write(&area, page), "page {page} is written");
        });
        require!(writable(&area, page * PAGE + PLACE), "the other mapping");
    }
    require!(may_write(&area, 32), "behind the marks");
    // They can be read, and a page read in the place of a mark keeps it.
    check_second(&area, 0..32);
    require!(!may_write(&area, 9), "a page that was read");
    mark(&area, 0, 16, false);
    for page in 0..32 {
        let may = may_write(&area, page);
        require!(may == (page < 16), "page {page} may be written: {may}");
    }
    check_second(&area, 0..PAGES);
}

/// Which zaps a mark lives through (UF-05, UF-21).
fn marks_and_zaps() {
    let area = pair(map::MADV_NORMAL);
    arm(&area, watched::WP);
    check_second(&area, 0..4);
    mark(&area, 0, 4, true);
    counts("marks_kept", 4..=4, || {
        require_result!(
            area.advise(LEN, 16 * PAGE, map::MADV_DONTNEED),
            0,
            "DONTNEED"
        );
    });
    check_second(&area, 0..4);
    (0..8).for_each(|page| require!(may_write(&area, page) == (page >= 4), "page {page}"));
    // On memory of the program's own the mark goes with the page.
    let private = Area::new(LEN, map::RW);
    require_result!(private.advise(0, LEN, map::MADV_NOHUGEPAGE), 0, "pages");
    private.fill(0, 8 * PAGE, 5);
    let got = sys::watch(private.addr(0), LEN, watched::WP);
    require_result!(got, 0, "watch");
    require_result!(sys::mark(private.addr(0), 8 * PAGE, true), 0, "mark");
    require!(!writable(&private, PAGE), "marked");
    require!(private.get(PAGE) == 5, "read all the same");
    let got = private.advise(0, 4 * PAGE, map::MADV_DONTNEED);
    require_result!(got, 0, "DONTNEED");
    require!(writable(&private, PAGE), "gone with the page");
    require!(!writable(&private, 5 * PAGE), "still marked");
    // A mapping that goes takes its marks along.
    require_result!(
        private.map_over(0, LEN, map::RW),
        private.addr(0) as isize,
        "mmap"
    );
    require!(writable(&private, 5 * PAGE), "mapped anew");
}

/// A mark is about the address: it outlives the page that the object loses (UF-05).
fn marks_and_objects() {
    let (file, area) = (MemFile::new(LEN), Area::unmapped(2 * LEN));
    file.map(&area, 0, LEN, map::RW, map::SHARED);
    file.map(&area, LEN, LEN, map::RW, map::SHARED);
    (0..PAGES).for_each(|page| area.set_u64(page * PAGE, page as u64 + 1));
    arm(&area, watched::WP);
    check_second(&area, 0..16);
    mark(&area, 0, 4, true);
    mark(&area, 8, 4, true);
    require_result!(file.punch(0, 4 * PAGE), 0, "a hole");
    require_result!(file.resize(8 * PAGE), 0, "cut");
    require_result!(file.resize(LEN), 0, "extended");
    for page in 0..16 {
        let marked = page < 4 || (8..12).contains(&page);
        let may = may_write(&area, page);
        require!(may != marked, "page {page} may be written: {may}");
        let expected = match page {
            4..8 => page as u64 + 1,
            _ => 0,
        };
        let got = area.get_u64(LEN + page * PAGE);
        require!(got == expected, "page {page} holds {got}");
        require!(writable(&area, page * PAGE + PLACE), "the other mapping");
    }
}

fn marks_move() {
    let area = pair(map::MADV_NORMAL);
    arm(&area, watched::WP);
    check_second(&area, 0..4);
    mark(&area, 2, 20, true);
    let target = Area::unmapped(LEN);
    let flags = map::MREMAP_MAYMOVE | map::MREMAP_FIXED;
    let (old, new) = (area.addr(LEN), target.addr(0));
    // SAFETY: both ranges belong to areas of this function.
    let got = unsafe { syscall(nr::MREMAP, [old, LEN, LEN, flags, new, 0]) };
    require_result!(got, new as isize, "mremap");
    for page in 0..32 {
        let may = writable(&target, page * PAGE + PLACE);
        let marked = (2..22).contains(&page);
        require!(may != marked, "moved page {page} may be written: {may}");
        let got = target.get_u64(page * PAGE);
        require!(got == page as u64 + 1, "moved page {page} holds {got}");
    }
}

/// UF-25: marks that nobody watches any more are dropped by whoever meets them.
fn stray_marks() {
    let area = pair(map::MADV_NORMAL);
    arm(&area, watched::WP);
    check_second(&area, 0..4);
    mark(&area, 0, 8, true);
    require!(!may_write(&area, 1), "marked");
    arm(&area, 0);
    for page in 0..8 {
        require!(
            may_write(&area, page),
            "page {page} is not watched any more"
        );
    }
    check_second(&area, 0..16);
    arm(&area, watched::WP);
    (0..8).for_each(|page| require!(may_write(&area, page), "the mark on {page} is gone"));
}

fn wrong_questions() {
    let area = pair(map::MADV_NORMAL);
    let (start, invalid) = (area.addr(LEN), -errno::EINVAL);
    require_result!(sys::mark(start, PAGE, true), invalid, "not watched");
    require_result!(sys::watch(start + 1, PAGE, watched::WP), invalid, "odd");
    require_result!(sys::watch(start, PAGE, 8), invalid, "an unknown mode");
    require_result!(sys::watch(start, 0, watched::WP), invalid, "nothing");
    arm(&area, watched::WP);
    require_result!(sys::mark(start + 1, PAGE, true), invalid, "odd");
    require_result!(
        sys::mark(start, usize::MAX - start, true),
        invalid,
        "everything"
    );
    require_result!(
        sys::mark(start, 2 * LEN, true),
        invalid,
        "more than is watched"
    );
    let private = Area::new(PAGE, map::RW);
    let got = sys::watch(private.addr(0), PAGE, watched::MINOR);
    require_result!(got, invalid, "minor mode without an object");
    require_result!(area.unmap(LEN + PAGE, PAGE), 0, "a hole");
    require_result!(
        sys::watch(start, 3 * PAGE, watched::WP),
        invalid,
        "over a hole"
    );
}
