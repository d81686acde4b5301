//! What the program does as the only process of a machine with Linux.

use crate::arena::call;
use programs::sys::nr;

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// The one capability kept: CAP_SYS_BOOT, for [`power_off`].
const SYS_BOOT: u32 = 1 << 22;

/// Mounts /proc if it is missing, and gives up root's exemptions from the rules under test. Returns
/// whether the machine has to be switched off.
pub fn prepare() -> bool {
    // SAFETY of the pointers below: NUL-ended literals that the kernel only reads.
    let [what, place] = [c"proc".as_ptr() as usize, c"/proc".as_ptr() as usize];
    let is_first = std::fs::metadata("/proc/self").is_err()
        && call(nr::MOUNT, [what, place, what, 0, 0, 0]) == 0;
    if is_first {
        // What every distribution sets, and a kernel by itself does not.
        let _ = std::fs::write("/proc/sys/vm/mmap_min_addr", "65536");
    }
    let header = [CAPABILITY_VERSION_3, 0];
    let sets = [SYS_BOOT, SYS_BOOT, 0, 0, 0, 0];
    let args = [(&raw const header) as usize, (&raw const sets) as usize];
    // Without a right to give up there is nothing to do.
    let _ = call(nr::CAPSET, [args[0], args[1], 0, 0, 0, 0]);
    is_first
}

/// `reboot(LINUX_REBOOT_CMD_POWER_OFF)`.
pub fn power_off() {
    let _ = call(nr::REBOOT, [0xfee1_dead, 672_274_793, 0x4321_fedc, 0, 0, 0]);
}
