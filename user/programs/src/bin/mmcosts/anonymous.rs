//! Private anonymous memory: filled, dropped, filled again, unmapped; populated; read before
//! written.

use crate::folios::Size;
use crate::pages::{self, MARK};
use programs::measure::{Choice, Done, accept, confirm, row, run};
use programs::memory::{Area, readable};
use programs::sys::{PAGE, map};

const LEN: usize = 64 << 20;
const PAGES: u64 = (LEN / PAGE) as u64;

fn map_at(area: &Area, flags: usize) -> isize {
    let flags = flags | map::PRIVATE | map::ANONYMOUS | map::FIXED;
    area.map_raw(0, LEN, map::RW, flags)
}

/// Groups `anon_*`.
pub fn writes(choice: &Choice, size: Size) {
    let names = [
        "anon_write_fault",
        "madv_dontneed",
        "anon_write_refault",
        "munmap",
    ];
    let rows = names.map(|name| row(name, size.suffix(), "page", PAGES));
    let area = Area::unmapped(LEN);
    run(choice, &format!("anon{}", size.suffix()), &rows, |meter| {
        size.choose()?;
        accept(map_at(&area, 0), "mmap")?;
        size.advise(&area, LEN)?;
        for (write, drop) in [(0, 1), (2, 3)] {
            let written = meter.time(write, || pages::write(&area, LEN));
            meter.claim_faults(write, written, size.faults(LEN));
            pages::hold(&area, LEN, MARK, 0)?;
            if drop == 1 {
                let dropped = || area.advise(0, LEN, map::MADV_DONTNEED);
                meter.time_call(drop, "madvise", dropped)?;
            } else {
                meter.time_call(drop, "munmap", || area.unmap(0, LEN))?;
                gone(&area, LEN)?;
            }
        }
        dropped_is_zero(&area, size)
    });
}

/// What is dropped comes back as zeros: looked at apart, because reading maps pages.
fn dropped_is_zero(area: &Area, size: Size) -> Done {
    accept(map_at(area, 0), "mmap")?;
    size.advise(area, LEN)?;
    pages::write(area, LEN);
    accept(area.advise(0, LEN, map::MADV_DONTNEED), "madvise")?;
    pages::hold(area, LEN, 0, 0)?;
    accept(area.unmap(0, LEN), "munmap").map(|_| ())
}

/// No page of the first `len` bytes is left.
pub fn gone(area: &Area, len: usize) -> Done {
    let left = (0..len).step_by(PAGE).find(|&at| readable(area.addr(at)));
    confirm(left.is_none(), || {
        format!("mapped at {left:x?} after munmap")
    })
}

/// Groups `populate_*`. A mapping that populates cannot be advised before, so for 2 MiB the boot has
/// to make that the default.
pub fn populate(choice: &Choice, size: Size) {
    let rows = [row("mmap_populate", size.suffix(), "page", PAGES)];
    let area = Area::unmapped(LEN);
    run(
        choice,
        &format!("populate{}", size.suffix()),
        &rows,
        |meter| {
            size.choose()?;
            let reserve = map::PRIVATE | map::ANONYMOUS | map::NORESERVE | map::FIXED;
            accept(area.map_raw(0, LEN, map::PROT_NONE, reserve), "mmap")?;
            let sample = meter.time_call(0, "mmap", || map_at(&area, map::POPULATE))?;
            meter.claim_faults(0, sample, size.faults(LEN));
            let later = programs::measure::measure(false, || pages::write(&area, LEN));
            confirm(later.faults.is_none_or(|faults| faults < 8), || {
                format!("{:?} faults after populating", later.faults)
            })?;
            pages::hold(&area, LEN, MARK, 0)?;
            accept(area.unmap(0, LEN), "munmap").map(|_| ())
        },
    );
}

/// Group `anonread`: in single pages, as everything outside the groups with a size.
pub fn reads(choice: &Choice) {
    let names = ["anon_read_fault_zero", "anon_write_after_zero"];
    let rows = names.map(|name| row(name, "", "page", PAGES));
    let area = Area::unmapped(LEN);
    run(choice, "anonread", &rows, |meter| {
        Size::Small.choose()?;
        accept(map_at(&area, 0), "mmap")?;
        Size::Small.advise(&area, LEN)?;
        let read = meter.time(0, || pages::read(&area, LEN));
        meter.claim_faults(0, read, PAGES);
        pages::hold(&area, LEN, 0, 0)?;
        let written = meter.time(1, || pages::write(&area, LEN));
        meter.claim_faults(1, written, PAGES);
        pages::hold(&area, LEN, MARK, 0)?;
        accept(area.unmap(0, LEN), "munmap").map(|_| ())
    });
}
