//! The measure itself, system calls without work, and calls for few pages.

use crate::anonymous::gone;
use crate::folios::Size;
use crate::pages::{self, MARK};
use programs::measure::{Choice, Done, accept, confirm, row, run};
use programs::memory::{Area, readable, writable};
use programs::pmu;
use programs::sys::{self, PAGE, errno, map, nr, syscall};

const LEN: usize = 16 << 20;
const PAGES: u64 = (LEN / PAGE) as u64;

fn map_at(area: &Area) -> Done {
    accept(area.map_over(0, LEN, map::RW), "mmap").map(|_| ())
}

/// Group `calib`: what the loops cost by themselves.
pub fn calibration(choice: &Choice) {
    const ROUNDS: u64 = 4_000_000;
    let rows = [row("calib_2insn_loop", "", "iter", ROUNDS)];
    run(choice, "calib", &rows, |meter| {
        meter.time(0, || pmu::two_instructions(ROUNDS));
        Ok(())
    });
    let rows = [row("calib_touch_resident", "", "page", PAGES)];
    let area = Area::unmapped(LEN);
    run(choice, "calib", &rows, |meter| {
        map_at(&area)?;
        pages::write(&area, LEN);
        let again = meter.time(0, || pages::write(&area, LEN));
        meter.claim_faults(0, again, 0);
        accept(area.unmap(0, LEN), "munmap").map(|_| ())
    });
}

/// Group `null`: three instructions of each call are the loop's.
pub fn null(choice: &Choice) {
    const ROUNDS: u64 = 200_000;
    const UNKNOWN: usize = 1023;
    let names = ["null_syscall_getppid", "null_syscall_enosys"];
    let rows = names.map(|name| row(name, "", "call", ROUNDS));
    run(choice, "null", &rows, |meter| {
        confirm(sys::getppid() >= 0, || "getppid is refused".to_owned())?;
        meter.time(0, || pmu::calls(nr::GETPPID, ROUNDS));
        let unknown = sys::unknown_call(UNKNOWN);
        confirm(unknown == -errno::ENOSYS, || sys::describe(unknown))?;
        meter.time(1, || pmu::calls(UNKNOWN, ROUNDS));
        Ok(())
    });
}

/// Group `mmap1`: the kernel chooses the address.
pub fn one_page(choice: &Choice) {
    const ROUNDS: u64 = 5000;
    let rows = [
        row("mmap_munmap_1page", "", "pair", ROUNDS),
        row("mmap_touch_munmap_1page", "", "triple", ROUNDS),
    ];
    run(choice, "mmap1", &rows, |meter| {
        let mut refused = 0;
        meter.time(0, || {
            for _ in 0..ROUNDS {
                let got = map_page();
                refused |= got | unmap_page(got);
            }
        });
        accept(refused & isize::MIN, "mmap")?;
        let mut held = 0;
        let touched = meter.time(1, || {
            for _ in 0..ROUNDS {
                let got = map_page();
                if got > 0 {
                    let byte = core::ptr::with_exposed_provenance_mut::<u8>(got as usize);
                    // SAFETY: a page of our own, mapped just now, that no object lives in.
                    unsafe { byte.write_volatile(1) };
                }
                held |= got | unmap_page(got);
            }
        });
        accept(held & isize::MIN, "mmap")?;
        meter.claim_faults(1, touched, ROUNDS);
        one_page_comes_and_goes()
    });
}

#[inline(always)]
fn map_page() -> isize {
    let flags = map::PRIVATE | map::ANONYMOUS;
    // SAFETY: nothing is replaced: the kernel chooses free addresses.
    unsafe { syscall(nr::MMAP, [0, PAGE, map::RW, flags, usize::MAX, 0]) }
}

#[inline(always)]
fn unmap_page(page: isize) -> isize {
    // SAFETY: the page was mapped by `map_page`, and no object lives in it.
    unsafe { syscall(nr::MUNMAP, [page as usize, PAGE, 0, 0, 0, 0]) }
}

fn one_page_comes_and_goes() -> Done {
    let page = accept(map_page(), "mmap")?;
    confirm(readable(page), || {
        "a page just mapped is not there".to_owned()
    })?;
    accept(unmap_page(page as isize), "munmap")?;
    confirm(!readable(page), || {
        "a page just unmapped is there".to_owned()
    })
}

/// Groups `mprotect_*`.
pub fn protect(choice: &Choice, size: Size) {
    let names = ["mprotect_ro", "mprotect_rw", "touch_after_mprotect_rw"];
    let rows = names.map(|name| row(name, size.suffix(), "page", PAGES));
    let area = Area::unmapped(LEN);
    run(
        choice,
        &format!("mprotect{}", size.suffix()),
        &rows,
        |meter| {
            size.choose()?;
            map_at(&area)?;
            size.advise(&area, LEN)?;
            let filled = programs::measure::measure(false, || pages::write(&area, LEN));
            for index in 0..rows.len() {
                meter.claim_faults(index, filled, size.faults(LEN));
            }
            meter.time_call(0, "mprotect", || area.protect(0, LEN, map::PROT_READ))?;
            opened(&area, false)?;
            meter.time_call(1, "mprotect", || area.protect(0, LEN, map::RW))?;
            let touched = meter.time(2, || pages::write(&area, LEN));
            meter.claim_faults(2, filled, size.faults(LEN));
            confirm(touched.faults.is_none_or(|faults| faults < 8), || {
                format!("{:?} faults after mprotect", touched.faults)
            })?;
            opened(&area, true)?;
            pages::hold(&area, LEN, MARK, 0)?;
            accept(area.unmap(0, LEN), "munmap")?;
            gone(&area, LEN)
        },
    );
}

/// Every page can be written by the kernel for us, or none. The byte that is tried is put back to
/// zero.
fn opened(area: &Area, open: bool) -> Done {
    for page in (0..LEN).step_by(PAGE) {
        let is_open = writable(area, page + 1);
        confirm(is_open == open, || {
            format!("page {} open: {is_open}", page / PAGE)
        })?;
        if is_open {
            area.set(page + 1, 0);
        }
    }
    Ok(())
}

/// Group `mprotect1`: the map is split and joined each time.
pub fn protect_one_page(choice: &Choice) {
    const ROUNDS: u64 = 2000;
    let rows = [row("mprotect_1page_in_16M", "", "call", 2 * ROUNDS)];
    let area = Area::unmapped(LEN);
    run(choice, "mprotect1", &rows, |meter| {
        Size::Small.choose()?;
        map_at(&area)?;
        Size::Small.advise(&area, LEN)?;
        pages::write(&area, LEN);
        let mut refused = 0;
        meter.time(0, || {
            for _ in 0..ROUNDS {
                refused |= area.protect(LEN / 2, PAGE, map::PROT_READ);
                refused |= area.protect(LEN / 2, PAGE, map::RW);
            }
        });
        accept(refused, "mprotect")?;
        accept(area.protect(LEN / 2, PAGE, map::PROT_READ), "mprotect")?;
        confirm(!writable(&area, LEN / 2 + 1), || {
            "the page is open".to_owned()
        })?;
        confirm(writable(&area, LEN / 2 + 1 + PAGE), || {
            "the next is closed".to_owned()
        })?;
        accept(area.unmap(0, LEN), "munmap").map(|_| ())
    });
}
