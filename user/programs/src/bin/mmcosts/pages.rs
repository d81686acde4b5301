//! Page by page through an area, four instructions for each, and what is in the pages afterwards.

use programs::measure::{Done, confirm};
use programs::memory::Area;
use programs::sys::PAGE;

/// The byte that `write` leaves in the first byte of each page.
pub const MARK: u8 = 0x5a;

/// Writes [`MARK`] to the first byte of each page of the first `len` bytes.
#[inline(never)]
pub fn write(area: &Area, len: usize) {
    assert!(len > 0 && len <= area.len());
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the addresses are the area's, which no Rust object lives in.
    unsafe {
        core::arch::asm!("2:", "strb {value:w}, [{at}]", "add {at}, {at}, #4096",
            "subs {left}, {left}, #1", "b.ne 2b", value = in(reg) u32::from(MARK),
            at = inout(reg) area.addr(0) => _, left = inout(reg) len / PAGE => _,
            options(nostack));
    }
}

/// Reads the first byte of each page of the first `len` bytes.
#[inline(never)]
pub fn read(area: &Area, len: usize) {
    assert!(len > 0 && len <= area.len());
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as `write`; nothing is done with what is read.
    unsafe {
        core::arch::asm!("2:", "ldrb {value:w}, [{at}]", "add {at}, {at}, #4096",
            "subs {left}, {left}, #1", "b.ne 2b", value = out(reg) _,
            at = inout(reg) area.addr(0) => _, left = inout(reg) len / PAGE => _,
            options(nostack));
    }
}

/// Requires every page of the first `len` bytes to have `first` in its first byte and `rest` in the
/// middle and at the end.
pub fn hold(area: &Area, len: usize, first: u8, rest: u8) -> Done {
    for page in (0..len).step_by(PAGE) {
        let held = [0, PAGE / 2, PAGE - 1].map(|at| area.get(page + at));
        confirm(held == [first, rest, rest], || {
            format!("page {} holds {held:x?}", page / PAGE)
        })?;
    }
    Ok(())
}
