//! Code written at run time.

use crate::memory::Area;
use core::arch::asm;

/// Makes `len` bytes of new code at `addr` visible to instruction fetches (Arm ARM,
/// "Cache maintenance operations", with the line sizes of CTR_EL0).
fn publish(addr: usize, len: usize) {
    let ctr: usize;
    // SAFETY: reads a register that EL0 may read.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack)) };
    let (data, code) = (4usize << (ctr >> 16 & 15), 4usize << (ctr & 15));
    for line in (addr & !(data - 1)..addr + len).step_by(data) {
        // SAFETY: cleans a line of a mapping of this program.
        unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack)) };
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb ish", options(nostack)) };
    for line in (addr & !(code - 1)..addr + len).step_by(code) {
        // SAFETY: invalidates a line of a mapping of this program.
        unsafe { asm!("ic ivau, {}", in(reg) line, options(nostack)) };
    }
    // SAFETY: barriers.
    unsafe { asm!("dsb ish", "isb", options(nostack)) };
}

/// Writes `mov w0, #value; ret` to `offset` of `area`, a multiple of 8.
pub fn write_code(area: &Area, offset: usize, value: u16) {
    let move_value = 0x5280_0000 | u64::from(value) << 5;
    area.set_u64(offset, move_value | 0xd65f_03c0 << 32);
    publish(area.addr(offset), 8);
}

/// Calls the function that [`write_code`] put at `offset` of `area`.
pub fn call(area: &Area, offset: usize) -> u32 {
    let code = core::ptr::with_exposed_provenance::<()>(area.addr(offset));
    // SAFETY: the area holds a whole function of this signature, written by `write_code`.
    let function: extern "C" fn() -> u32 = unsafe { core::mem::transmute(code) };
    function()
}
