//! Takes more memory than there is: `oom CASE`.
//!
//! A kernel without memory ends the program, and nothing else. `populate` is told instead, and ends
//! in order.

use programs::memfile::MemFile;
use programs::memory::Area;
use programs::sys::{PAGE, errno, map};
use programs::{check, require, require_result};

/// More than any machine has that this is made for.
const LEN: usize = 1 << 30;
/// Bytes of one of the mappings that are made until there is no memory for more.
const PART: usize = 16 << 20;

fn main() {
    check::start("oom");
    check::section(10, "more memory than there is");
    let case = std::env::args().nth(1);
    match case.as_deref() {
        Some("zeros") => zeros(),
        Some("shared") => shared(),
        Some("blocks") => blocks(),
        Some("copies") => copies(),
        Some("populate") => return populate(),
        _ => check::usage("oom zeros|shared|blocks|copies|populate"),
    }
    check::fail(file!(), line!(), "there was memory for all of it");
}

/// Memory that nothing is promised for.
fn unpromised() -> Area {
    let area = Area::unmapped(LEN);
    let flags = map::PRIVATE | map::ANONYMOUS | map::FIXED | map::NORESERVE;
    let got = area.map_raw(0, LEN, map::RW, flags);
    require_result!(got, area.addr(0) as isize, "mmap");
    area
}

/// Writes where the page of zeros is mapped.
fn zeros() {
    let area = unpromised();
    for at in (0..LEN).step_by(PAGE) {
        require!(area.get(at) == 0, "not zero");
        area.set(at, 1);
    }
}

fn shared() {
    let areas = (0..LEN / PART).map(|_| Area::shared(PART));
    let filled = areas.inspect(|area| (0..PART).step_by(PAGE).for_each(|at| area.set(at, 1)));
    drop(filled.collect::<Vec<_>>());
}

fn blocks() {
    let area = unpromised();
    require_result!(area.advise(0, LEN, map::MADV_HUGEPAGE), 0, "HUGEPAGE");
    (0..LEN).step_by(PAGE).for_each(|at| area.set(at, 1));
}

/// Private copies of a file's pages.
fn copies() {
    let file = MemFile::new(PART);
    let areas = (0..LEN / PART).map(|_| {
        let area = Area::unmapped(PART);
        file.map(&area, 0, PART, map::RW, map::PRIVATE);
        (0..PART).step_by(PAGE).for_each(|at| area.set(at, 1));
        area
    });
    drop(areas.collect::<Vec<_>>());
}

fn populate() {
    let area = unpromised();
    let got = area.advise(0, LEN, map::MADV_POPULATE_WRITE);
    require_result!(got, -errno::ENOMEM, "POPULATE_WRITE");
    require_result!(area.unmap(0, LEN), 0, "munmap");
    // What had been populated is free again.
    let small = Area::new(PART, map::RW);
    let got = small.advise(0, PART, map::MADV_POPULATE_WRITE);
    require_result!(got, 0, "POPULATE_WRITE of a part");
    require!(small.holds(0, PAGE, 0), "zeros");
    check::pass();
}
