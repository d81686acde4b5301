//! The PL031 real-time clock: one register, read once.

use super::time;
use crate::fdt::Device;
use crate::memory;

/// Reads the wall clock.
pub(super) fn init(clock: &Device) {
    match memory::map_device(clock.registers.start, clock.registers.len()) {
        Some(registers) => {
            let data = core::ptr::with_exposed_provenance::<u32>(registers.raw() as usize);
            // SAFETY: RTCDR, the first register of a PL031 (the device tree says it is one), just
            // mapped as device memory; reading it has no effect.
            let seconds = unsafe { data.read_volatile() };
            time::set_realtime(u64::from(seconds));
        }
        None => log::warn!("the real-time clock could not be mapped"),
    }
}
