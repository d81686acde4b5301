//! Anonymous memory in blocks of 64 KiB and of 2 MiB: `sizes [MODE]`.
//!
//! MODE is what the machine was booted with: `default` (64 KiB wherever they fit, 2 MiB where asked
//! for), `pages` (neither) or `blocks` (2 MiB wherever they fit). The sizes show in the counts of the
//! kernel only; contents and rights have to be the same in all of them.

use programs::figures::{all_counts, counts, figure, free_frames, settle};
use programs::memory::{Area, readable, writable};
use programs::sys::{PAGE, errno, map, nr, syscall};
use programs::{check, require, require_result};

/// Bytes of the smaller block, and pages in it.
const FOLIO: usize = 64 << 10;
const FOLIO_PAGES: usize = FOLIO / PAGE;
/// Bytes of the larger block, and pages in it.
const BLOCK: usize = 2 << 20;
const BLOCK_PAGES: usize = BLOCK / PAGE;
/// Folios that are touched to be counted.
const MANY: u64 = 24;
const PR_SET_THP_DISABLE: usize = 41;
const PR_GET_THP_DISABLE: usize = 42;

/// What the machine was booted with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Default,
    Pages,
    Blocks,
}

fn main() {
    check::start("sizes");
    let mode = match std::env::args().nth(1).as_deref() {
        None | Some("default") => Mode::Default,
        Some("pages") => Mode::Pages,
        Some("blocks") => Mode::Blocks,
        Some(_) => check::usage("sizes [default|pages|blocks]"),
    };
    settle();
    check::section(10, "what sizes there are");
    by_default(mode);
    asked_for(mode);
    check::section(11, "sizes that are forbidden");
    forbidden();
    switched_off();
    check::section(12, "parts of 64 KiB");
    parts_of_folios(mode);
    check::section(13, "parts of 2 MiB");
    parts_of_blocks(mode);
    check::section(14, "pages put together");
    collapsed(mode);
    check::section(15, "wrong advice");
    wrong_advice();
    check::section(16, "memory in small pieces");
    fragmented(mode);
    check::pass();
}

/// A number for a page, and no other page's.
fn mark(page: usize) -> u64 {
    0x5000_0000 + page as u64
}

/// Writes to each page of a part.
fn number(area: &Area, offset: usize, len: usize) {
    for at in (offset..offset + len).step_by(PAGE) {
        area.set_u64(at + 8, mark(at / PAGE));
        area.set_u64(at + PAGE - 8, mark(at / PAGE));
    }
}

/// Whether each page of a part holds its number, and nothing else.
fn numbered(area: &Area, offset: usize, len: usize, what: &str) {
    for at in (offset..offset + len).step_by(PAGE) {
        let wanted = mark(at / PAGE);
        let got = [0, 8, 2048, PAGE - 8].map(|place| area.get_u64(at + place));
        require!(
            got == [0, wanted, 0, wanted],
            "{what}: page {} holds {got:x?}",
            at / PAGE
        );
    }
}

fn zeros(area: &Area, offset: usize, len: usize, what: &str) {
    for at in (offset..offset + len).step_by(8) {
        require!(area.get_u64(at) == 0, "{what}: not zero at {at:#x}");
    }
}

fn by_default(mode: Mode) {
    let area = Area::new(MANY as usize * FOLIO, map::RW);
    let (folios, pages) = match mode {
        Mode::Default => (MANY..=MANY + 2, 0..=4),
        Mode::Pages => (0..=0, MANY * 16..=MANY * 16 + 4),
        // The last two mebibytes are not whole.
        Mode::Blocks => (0..=MANY + 2, 0..=4),
    };
    all_counts(&[("faults_64k", folios), ("faults_4k", pages)], || {
        number(&area, 0, area.len());
    });
    numbered(&area, 0, area.len(), "by default");
    // Not aligned at either end: what does not fit is in pages.
    let odd = Area::unmapped(4 * FOLIO);
    let got = odd.map_over(FOLIO - 3 * PAGE, FOLIO + 5 * PAGE, map::RW);
    require_result!(got, odd.addr(FOLIO - 3 * PAGE) as isize, "mmap");
    let (folios, pages) = match mode {
        Mode::Default | Mode::Blocks => (1..=1, 5..=5),
        Mode::Pages => (0..=0, 21..=21),
    };
    all_counts(
        &[
            ("faults_64k", folios),
            (
                "faults_anon",
                pages.start() + folios_of(mode)..=pages.end() + 2,
            ),
        ],
        || {
            number(&odd, FOLIO - 3 * PAGE, FOLIO + 5 * PAGE);
        },
    );
    numbered(&odd, FOLIO - 3 * PAGE, FOLIO + 5 * PAGE, "not aligned");
}

/// Folios behind one aligned block of 64 KiB.
fn folios_of(mode: Mode) -> u64 {
    u64::from(mode != Mode::Pages)
}

fn asked_for(mode: Mode) {
    let area = Area::new(4 * BLOCK, map::RW);
    require_result!(
        area.advise(0, area.len(), map::MADV_HUGEPAGE),
        0,
        "HUGEPAGE"
    );
    let blocks = match mode {
        Mode::Default | Mode::Blocks => 4..=4,
        Mode::Pages => 0..=0,
    };
    // The first access to a block maps all of it; the others do not fault.
    counts("faults_2m", blocks, || {
        for block in 0..4 {
            area.set_u64(block * BLOCK + 77 * PAGE, 1);
            area.set_u64(block * BLOCK + 77 * PAGE, 0);
        }
    });
    let faults = match mode {
        Mode::Default | Mode::Blocks => 0..=1,
        Mode::Pages => 4 * 511..=4 * 512,
    };
    counts("faults_anon", faults, || number(&area, 0, area.len()));
    numbered(&area, 0, area.len(), "2 MiB");
    require_result!(
        area.advise(0, BLOCK, map::MADV_DONTNEED),
        0,
        "a whole block"
    );
    zeros(&area, 0, BLOCK, "discarded");
    numbered(&area, BLOCK, 3 * BLOCK, "beside what was discarded");
}

fn forbidden() {
    let area = Area::new(2 * BLOCK, map::RW);
    require_result!(
        area.advise(0, area.len(), map::MADV_HUGEPAGE),
        0,
        "HUGEPAGE"
    );
    let advice = map::MADV_NOHUGEPAGE;
    require_result!(area.advise(0, area.len(), advice), 0, "NOHUGEPAGE");
    all_counts(&[("faults_64k", 0..=0), ("faults_2m", 0..=0)], || {
        number(&area, 0, 8 * FOLIO);
    });
    numbered(&area, 0, 8 * FOLIO, "single pages");
}

fn prctl(what: usize, value: usize, more: usize) -> isize {
    // SAFETY: no memory is touched.
    unsafe { syscall(nr::PRCTL, [what, value, more, 0, 0, 0]) }
}

fn switched_off() {
    require_result!(prctl(PR_GET_THP_DISABLE, 0, 0), 0, "not yet");
    require_result!(
        prctl(PR_SET_THP_DISABLE, 1, 1 << 20),
        -errno::EINVAL,
        "a third word"
    );
    require_result!(
        prctl(PR_GET_THP_DISABLE, 1, 0),
        -errno::EINVAL,
        "a word too many"
    );
    require_result!(prctl(PR_SET_THP_DISABLE, 1, 0), 0, "off");
    require_result!(prctl(PR_GET_THP_DISABLE, 0, 0), 1, "off now");
    let area = Area::new(BLOCK, map::RW);
    require_result!(area.advise(0, BLOCK, map::MADV_HUGEPAGE), 0, "HUGEPAGE");
    all_counts(&[("faults_64k", 0..=0), ("faults_2m", 0..=0)], || {
        number(&area, 0, 4 * FOLIO);
    });
    require_result!(prctl(PR_SET_THP_DISABLE, 0, 0), 0, "on again");
    numbered(&area, 0, 4 * FOLIO, "while it was off");
}

/// Each part of a block of 64 KiB: its first page, one inside, its last, and several.
const PARTS: [(usize, usize); 5] = [(0, 1), (7, 1), (15, 1), (3, 9), (8, 8)];

fn parts_of_folios(mode: Mode) {
    let unfolds = match mode {
        Mode::Pages => 0..=0,
        _ => 1..=4,
    };
    for (first, count) in PARTS {
        let (at, len) = (first * PAGE, count * PAGE);
        let rest = |area: &Area, what: &str| {
            numbered(area, 0, at, what);
            numbered(area, at + len, FOLIO - at - len, what);
        };
        let fresh = || {
            let area = Area::new(FOLIO, map::RW);
            number(&area, 0, FOLIO);
            area
        };
        let area = fresh();
        counts("unfolds", unfolds.clone(), || {
            require_result!(area.protect(at, len, map::PROT_READ), 0, "mprotect");
        });
        numbered(&area, 0, FOLIO, "protected");
        for page in 0..FOLIO_PAGES {
            let inside = (first..first + count).contains(&page);
            let may = writable(&area, page * PAGE + 16);
            require!(may != inside, "page {page} may be written: {may}");
            if may {
                area.set(page * PAGE + 16, 0);
            }
        }
        require_result!(area.protect(0, FOLIO, map::RW), 0, "all alike");
        numbered(&area, 0, FOLIO, "protected and back");
        let area = fresh();
        counts("unfolds", unfolds.clone(), || {
            require_result!(area.unmap(at, len), 0, "munmap");
        });
        require!(!readable(area.addr(at)), "unmapped");
        rest(&area, "unmapped");
        let area = fresh();
        require_result!(area.advise(at, len, map::MADV_DONTNEED), 0, "DONTNEED");
        rest(&area, "discarded");
        zeros(&area, at, len, "discarded");
        number(&area, at, len);
        numbered(&area, 0, FOLIO, "written anew");
    }
}

/// Parts of a block of 2 MiB, in pages.
const BLOCK_PARTS: [(usize, usize); 5] = [(0, 1), (100, 1), (511, 1), (16, 32), (250, 262)];

fn parts_of_blocks(mode: Mode) {
    let splits = match mode {
        Mode::Pages => 0..=0,
        _ => 1..=1,
    };
    let fresh = || {
        let area = Area::new(BLOCK, map::RW);
        require_result!(area.advise(0, BLOCK, map::MADV_HUGEPAGE), 0, "HUGEPAGE");
        number(&area, 0, BLOCK);
        area
    };
    for (first, count) in BLOCK_PARTS {
        let (at, len) = (first * PAGE, count * PAGE);
        let rest = |area: &Area, what: &str| {
            numbered(area, 0, at, what);
            numbered(area, at + len, BLOCK - at - len, what);
        };
        let area = fresh();
        counts("splits", splits.clone(), || {
            require_result!(area.unmap(at, len), 0, "munmap");
        });
        require!(!readable(area.addr(at)), "unmapped");
        rest(&area, "unmapped");
        let got = area.map_over(at, len, map::RW);
        require_result!(got, area.addr(at) as isize, "mapped again");
        zeros(&area, at, len, "mapped again");
        let area = fresh();
        counts("splits", splits.clone(), || {
            require_result!(area.protect(at, len, map::PROT_READ), 0, "mprotect");
        });
        require!(!writable(&area, at + 16), "protected");
        numbered(&area, 0, BLOCK, "protected");
        require_result!(area.protect(at, len, map::RW), 0, "and back");
        number(&area, 0, BLOCK);
        numbered(&area, 0, BLOCK, "protected and back");
        let area = fresh();
        counts("splits", splits.clone(), || {
            require_result!(area.advise(at, len, map::MADV_DONTNEED), 0, "DONTNEED");
        });
        rest(&area, "discarded");
        zeros(&area, at, len, "discarded");
    }
    // A part of a block moves.
    let from = fresh();
    let to = Area::unmapped(BLOCK);
    let flags = map::MREMAP_MAYMOVE | map::MREMAP_FIXED;
    let (old, new) = (from.addr(100 * PAGE), to.addr(100 * PAGE));
    // SAFETY: both ranges belong to areas of this function.
    let got = unsafe { syscall(nr::MREMAP, [old, 9 * PAGE, 9 * PAGE, flags, new, 0]) };
    require_result!(got, new as isize, "mremap of a part");
    numbered(&to, 100 * PAGE, 9 * PAGE, "moved");
    numbered(&from, 0, 100 * PAGE, "before what has moved");
    numbered(&from, 109 * PAGE, BLOCK - 109 * PAGE, "behind it");
    require!(!readable(old), "where it was");
}

fn collapsed(mode: Mode) {
    let area = Area::new(2 * BLOCK, map::RW);
    require_result!(area.advise(0, 2 * BLOCK, map::MADV_NOHUGEPAGE), 0, "pages");
    // Some are written, some only read, most are neither.
    for page in (0..2 * BLOCK_PAGES).step_by(3) {
        number(&area, page * PAGE, PAGE);
    }
    (1..200)
        .step_by(3)
        .for_each(|page| require!(area.get(page * PAGE) == 0, "page {page}"));
    let refused = area.advise(0, 2 * BLOCK, map::MADV_COLLAPSE);
    require_result!(refused, -errno::EINVAL, "where blocks are forbidden");
    require_result!(area.advise(0, 2 * BLOCK, map::MADV_HUGEPAGE), 0, "HUGEPAGE");
    if mode == Mode::Pages {
        // Contents are the same whatever the kernel answers.
        let _ = area.advise(0, 2 * BLOCK, map::MADV_COLLAPSE);
    } else {
        all_counts(
            &[("collapses", 2..=2), ("pages_collapsed", 1024..=1024)],
            || {
                require_result!(area.advise(0, 2 * BLOCK, map::MADV_COLLAPSE), 0, "COLLAPSE");
            },
        );
    }
    for page in 0..2 * BLOCK_PAGES {
        match page % 3 {
            0 => numbered(&area, page * PAGE, PAGE, "collapsed"),
            _ => zeros(&area, page * PAGE, PAGE, "collapsed"),
        }
    }
    number(&area, 0, 2 * BLOCK);
    require_result!(area.unmap(5 * PAGE, PAGE), 0, "a page of it");
    numbered(&area, 6 * PAGE, 2 * BLOCK - 6 * PAGE, "the others");
}

fn wrong_advice() {
    let area = Area::new(BLOCK, map::RW);
    let advise = |offset, len, advice| area.advise(offset, len, advice);
    require_result!(advise(0, 0, map::MADV_COLLAPSE), 0, "nothing at all");
    for advice in [map::MADV_HUGEPAGE, map::MADV_NOHUGEPAGE, map::MADV_COLLAPSE] {
        require_result!(advise(8, PAGE, advice), -errno::EINVAL, "odd, {advice}");
    }
    require_result!(area.unmap(PAGE, PAGE), 0, "a hole");
    for advice in [map::MADV_HUGEPAGE, map::MADV_NOHUGEPAGE] {
        let got = advise(0, 3 * PAGE, advice);
        require_result!(got, -errno::ENOMEM, "over a hole, {advice}");
    }
}

/// Frames left to be taken in folios, once the rest of memory is in pages.
const SPARE: u64 = 4000;
/// More than this is not taken apart: it would take long. Machines that are to do it are small.
const SMALL: u64 = 60_000;

/// Leaves no block of 64 KiB free: most of memory is touched, every other page of it given back, and
/// what else there is taken.
fn fragmented(mode: Mode) {
    let small = free_frames().filter(|&free| free < SMALL);
    let Some(free) = small.filter(|_| mode != Mode::Pages) else {
        return;
    };
    let pages = (free - SPARE) as usize;
    let hog = Area::new(pages * PAGE, map::RW);
    require_result!(hog.advise(0, hog.len(), map::MADV_NOHUGEPAGE), 0, "pages");
    number(&hog, 0, hog.len());
    for page in (0..pages).step_by(2) {
        require_result!(
            hog.advise(page * PAGE, PAGE, map::MADV_DONTNEED),
            0,
            "a page"
        );
    }
    let rest = Area::unmapped(SPARE as usize * FOLIO);
    let flags = map::PRIVATE | map::ANONYMOUS | map::FIXED | map::NORESERVE;
    let got = rest.map_raw(0, rest.len(), map::RW, flags);
    require_result!(got, rest.addr(0) as isize, "mmap of more than there is");
    let missed = figure("folios_missed");
    let mut taken = 0;
    while figure("folios_missed") < missed.map(|missed| missed + 8) {
        number(&rest, taken, PAGE);
        taken += FOLIO;
    }
    let area = Area::new(MANY as usize * FOLIO, map::RW);
    // The first page of a block finds that there is none; then the block is not empty any more.
    let (missed, single) = (MANY..=MANY, MANY * 16..=MANY * 16 + 2);
    all_counts(&[("folios_missed", missed), ("faults_4k", single)], || {
        number(&area, 0, area.len());
    });
    numbered(&area, 0, area.len(), "in pieces");
    (1..pages)
        .step_by(2)
        .for_each(|page| numbered(&hog, page * PAGE, PAGE, "the hog"));
    drop((hog, area));
    // With memory back there are folios again.
    let area = Area::new(MANY as usize * FOLIO, map::RW);
    all_counts(
        &[("faults_64k", MANY..=MANY), ("folios_missed", 0..=0)],
        || {
            number(&area, 0, area.len());
        },
    );
    numbered(&area, 0, area.len(), "afterwards");
    for offset in (0..taken).step_by(FOLIO) {
        numbered(&rest, offset, PAGE, "what was taken meanwhile");
    }
}
