//! What mappings mean: contents, splits, moves, growth, execution.

use programs::memory::{Area, readable, writable};
use programs::sys::{self, PAGE, map, nr};
use programs::{check, require, require_result};

pub fn run() {
    fresh_is_zero();
    hints();
    splits();
    protection();
    discarding();
    moving();
    shared();
    sparse();
    deep_recursion();
    #[cfg(target_arch = "aarch64")]
    execution::run();
}

fn fresh_is_zero() {
    check::section(20, "fresh memory is zero, also after use");
    let area = Area::new(64 * PAGE, map::RW);
    for round in 0..4 {
        require!(area.holds(0, 64 * PAGE, 0), "round {round}: not zero");
        area.fill(0, 64 * PAGE, 0xee);
        require_result!(
            area.map_over(0, 64 * PAGE, map::RW),
            area.addr(0) as isize,
            "mmap over"
        );
    }
}

fn hints() {
    check::section(21, "where mmap puts things");
    let flags = map::PRIVATE | map::ANONYMOUS;
    let area = Area::unmapped(4 * PAGE);
    // SAFETY: without FIXED nothing that exists is changed.
    let map_at = |addr| unsafe { sys::syscall(nr::MMAP, [addr, PAGE, map::RW, flags, !0, 0]) };
    let hint = area.addr(PAGE);
    require_result!(map_at(hint), hint as isize, "a free hint is taken");
    let other = map_at(hint);
    require!(
        other > 0 && other as usize != hint,
        "a taken hint is not: {other:#x}"
    );
    let anywhere = map_at(0);
    require!(
        anywhere > 0 && (anywhere as usize).is_multiple_of(PAGE),
        "no hint: {anywhere:#x}"
    );
    let mut places: Vec<isize> = (0..100).map(|_| map_at(0)).collect();
    places.extend([other, anywhere]);
    places.sort_unstable();
    let apart = places
        .windows(2)
        .all(|pair| pair[1] - pair[0] >= PAGE as isize);
    require!(apart && places[0] > 0, "a hundred mappings do not overlap");
    for place in places {
        // SAFETY: these pages were mapped just above, and nobody uses them.
        let got = unsafe { sys::syscall(nr::MUNMAP, [place as usize, PAGE, 0, 0, 0, 0]) };
        require_result!(got, 0, "munmap");
    }
}

fn splits() {
    check::section(22, "partial munmap");
    let area = Area::new(16 * PAGE, map::RW);
    (0..16).for_each(|page| area.set(page * PAGE, page as u8 + 1));
    for (start, len) in [(7, 2), (0, 1), (15, 1), (3, 1), (5, 1)] {
        require_result!(
            area.unmap(start * PAGE, len * PAGE),
            0,
            "munmap {len} from {start}"
        );
    }
    let holes = [0, 3, 5, 7, 8, 15];
    for page in 0..16 {
        let there = readable(area.addr(page * PAGE));
        require!(
            there != holes.contains(&page),
            "page {page} is readable: {there}"
        );
        if there {
            require!(
                area.get(page * PAGE) == page as u8 + 1,
                "page {page} kept its byte"
            );
        }
    }
    require_result!(
        area.map_over(7 * PAGE, PAGE, map::RW),
        area.addr(7 * PAGE) as isize,
        "mmap"
    );
    require!(
        area.get(7 * PAGE) == 0 && area.get(6 * PAGE) == 7,
        "a filled hole is fresh"
    );
}

fn protection() {
    check::section(23, "mprotect");
    let area = Area::new(8 * PAGE, map::RW);
    (0..8).for_each(|page| area.set(page * PAGE, page as u8 + 1));
    let may = |page: usize| {
        (
            readable(area.addr(page * PAGE)),
            writable(&area, page * PAGE + 64),
        )
    };
    require_result!(
        area.protect(2 * PAGE, 3 * PAGE, map::PROT_READ),
        0,
        "to read-only"
    );
    require_result!(
        area.protect(3 * PAGE, PAGE, map::PROT_NONE),
        0,
        "to nothing"
    );
    let expected = [true, true, false, false, false, true, true, true];
    for (page, writes) in expected.into_iter().enumerate() {
        require!(
            may(page) == (page != 3, writes),
            "page {page} allows {:?}",
            may(page)
        );
    }
    require_result!(area.protect(0, 8 * PAGE, map::RW), 0, "all back");
    for page in 0..8 {
        require!(may(page) == (true, true), "page {page} is back");
        require!(
            area.get(page * PAGE) == page as u8 + 1,
            "page {page} kept its byte"
        );
    }
    let untouched = Area::new(PAGE, map::PROT_NONE);
    require!(!readable(untouched.addr(0)), "PROT_NONE before any touch");
    require_result!(
        untouched.protect(0, PAGE, map::PROT_READ),
        0,
        "to read-only"
    );
    require!(untouched.holds(0, PAGE, 0), "and then it is zero");
    require!(!writable(&untouched, 0), "and not writable");
}

fn discarding() {
    check::section(24, "MADV_DONTNEED");
    let area = Area::new(6 * PAGE, map::RW);
    area.fill(0, 6 * PAGE, 3);
    require_result!(area.protect(4 * PAGE, PAGE, map::PROT_READ), 0, "mprotect");
    require_result!(
        area.advise(PAGE, 4 * PAGE, map::MADV_DONTNEED),
        0,
        "madvise"
    );
    require!(
        area.holds(0, PAGE, 3) && area.holds(5 * PAGE, PAGE, 3),
        "the neighbours stay"
    );
    require!(area.holds(PAGE, 4 * PAGE, 0), "what was discarded is zero");
    require!(!writable(&area, 4 * PAGE), "and keeps its protection");
    area.fill(PAGE, PAGE, 4);
    require!(area.holds(PAGE, PAGE, 4), "and can be used again");
}

fn moving() {
    check::section(25, "mremap");
    let area = Area::new(64 * PAGE, map::RW);
    require_result!(area.unmap(16 * PAGE, 48 * PAGE), 0, "room");
    (0..16).for_each(|page| area.fill(page * PAGE, PAGE, page as u8 + 1));
    let to = area.addr(32 * PAGE) as isize;
    require_result!(
        area.remap(0, 16 * PAGE, 32 * PAGE, 16 * PAGE),
        to,
        "a move of 16 pages"
    );
    for page in 0..16 {
        require!(!readable(area.addr(page * PAGE)), "old page {page} is gone");
        let kept = area.holds((32 + page) * PAGE, PAGE, page as u8 + 1);
        require!(kept, "page {page} was lost in the move");
    }
    require_result!(
        area.resize(32 * PAGE, 16 * PAGE, 20 * PAGE),
        to,
        "growth in place"
    );
    require!(area.holds(48 * PAGE, 4 * PAGE, 0), "what was added is zero");
    area.fill(48 * PAGE, 4 * PAGE, 99);
    require_result!(area.resize(32 * PAGE, 20 * PAGE, 8 * PAGE), to, "shrinking");
    require!(area.holds(39 * PAGE, PAGE, 8), "the last page that stays");
    require!(!readable(area.addr(40 * PAGE)), "the first page that goes");
    require_result!(
        area.resize(32 * PAGE, 8 * PAGE, 9 * PAGE),
        to,
        "growth again"
    );
    require!(
        area.holds(40 * PAGE, PAGE, 0),
        "a page that comes back is zero"
    );
    let back = area.addr(0) as isize;
    require_result!(
        area.remap(32 * PAGE, 9 * PAGE, 0, 2 * PAGE),
        back,
        "a move that shrinks"
    );
    require!(
        area.holds(PAGE, PAGE, 2) && !readable(area.addr(2 * PAGE)),
        "two pages moved"
    );
    require!(!readable(area.addr(34 * PAGE)), "the rest is gone");
}

fn shared() {
    check::section(26, "shared anonymous memory");
    let area = Area::unmapped(4 * PAGE);
    let flags = map::SHARED | map::ANONYMOUS | map::FIXED_NOREPLACE;
    let got = area.map_raw(0, 4 * PAGE, map::RW, flags);
    require_result!(got, area.addr(0) as isize, "mmap MAP_SHARED");
    require!(area.holds(0, 4 * PAGE, 0), "it is zero");
    area.fill(0, 4 * PAGE, 5);
    require!(area.holds(0, 4 * PAGE, 5), "it keeps what is written");
}

fn sparse() {
    check::section(27, "a few pages of 8 GiB");
    const LEN: usize = 8 << 30;
    let area = Area::unmapped(LEN);
    let flags = map::PRIVATE | map::ANONYMOUS | map::FIXED_NOREPLACE | map::NORESERVE;
    require_result!(
        area.map_raw(0, LEN, map::RW, flags),
        area.addr(0) as isize,
        "mmap"
    );
    let places = [
        0,
        PAGE,
        1 << 21,
        (1 << 30) - PAGE,
        1 << 30,
        3 << 30,
        LEN - PAGE,
    ];
    for (number, place) in (1..).zip(places) {
        require!(area.get(place) == 0, "a fresh page at {place:#x} is zero");
        area.set(place, number);
    }
    for (number, place) in (1..).zip(places) {
        require!(
            area.get(place) == number,
            "the page at {place:#x} kept its byte"
        );
    }
    require_result!(area.unmap(0, LEN), 0, "munmap of 8 GiB");
}

/// About 4 KiB of stack for each level; the result depends on every level.
fn recurse(depth: u64) -> u64 {
    let mut block = [depth; 480];
    std::hint::black_box(&mut block);
    if depth == 0 {
        1
    } else {
        recurse(depth - 1) + block[479]
    }
}

fn deep_recursion() {
    check::section(28, "6 MiB of stack");
    const DEPTH: u64 = 6 * 256;
    for round in 0..2 {
        let sum = recurse(DEPTH);
        require!(
            sum == DEPTH * (DEPTH + 1) / 2 + 1,
            "round {round}: the sum is {sum}"
        );
    }
}

#[cfg(target_arch = "aarch64")]
mod execution {
    //! Code written at run time: never writable and executable at once.
    use super::{Area, PAGE, check, map, require, require_result, writable};
    use programs::code::{call, write_code};

    pub fn run() {
        check::section(29, "code written, protected, run");
        let area = Area::new(2 * PAGE, map::RW);
        for round in 1..=50u16 {
            write_code(&area, 0, round);
            write_code(&area, PAGE, round + 1000);
            require_result!(area.protect(0, 2 * PAGE, map::RX), 0, "to read and execute");
            require!(!writable(&area, 64), "code is not writable");
            let got = (call(&area, 0), call(&area, PAGE));
            let expected = (u32::from(round), u32::from(round) + 1000);
            require!(got == expected, "round {round}: the code returned {got:?}");
            require_result!(area.protect(0, 2 * PAGE, map::RW), 0, "back to write");
        }
    }
}
