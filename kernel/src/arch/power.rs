//! Starting CPUs and stopping the machine.

use core::arch::asm;

use qemu_exit::QEMUExit;
use smccc::psci;
use smccc::{Hvc, Smc};
use sync::Once;
use sync::atomic::{AtomicBool, Ordering};

use super::uart;
use crate::control;
use crate::fdt::Conduit;

static CONDUIT: Once<Conduit> = Once::new();
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Remembers how firmware is called.
pub(super) fn init(conduit: Conduit) {
    CONDUIT.call_once(|| conduit);
}

/// Asks firmware to start the CPU with this affinity at physical address `entry`, with `context`
/// in x0. The CPU is not up when this returns, and asking twice may start it twice: wait for its
/// own word.
///
/// # Errors
/// What firmware answered; `NotSupported` without PSCI.
pub(super) fn start_cpu(affinity: u64, entry: u64, context: u64) -> Result<(), psci::error::Error> {
    match CONDUIT.get() {
        Some(Conduit::Hvc) => psci::cpu_on::<Hvc>(affinity, entry, context),
        Some(Conduit::Smc) => psci::cpu_on::<Smc>(affinity, entry, context),
        None => Err(psci::error::Error::NotSupported),
    }
}

/// Stops the machine. Under QEMU with semihosting its exit status is `status`, at most 255;
/// otherwise the machine is switched off through PSCI, and if that fails this CPU sleeps.
pub fn exit(status: u32) -> ! {
    let status = status.min(255);
    if !STOPPING.swap(true, Ordering::AcqRel) {
        control::line_in_bug(format_args!("halt status={status}"));
        uart::flush();
        // Without semihosting this is an undefined instruction; the exception comes back here.
        qemu_exit::AArch64::new().exit(status);
    }
    power_off()
}

/// Whether [`exit`] has been called: an exception now is the semihosting call's.
pub(crate) fn stopping() -> bool {
    STOPPING.load(Ordering::Acquire)
}

/// Takes this CPU, which is not wanted, out of the machine.
pub(super) fn cpu_off() -> ! {
    let _if_it_returns_sleep = match CONDUIT.get() {
        Some(Conduit::Hvc) => psci::cpu_off::<Hvc>(),
        Some(Conduit::Smc) => psci::cpu_off::<Smc>(),
        None => Ok(()),
    };
    loop {
        wait_for_interrupt();
    }
}

/// Switches the machine off through PSCI, else sleeps for good.
pub(crate) fn power_off() -> ! {
    let _if_it_returns_there_is_no_other_way = match CONDUIT.get() {
        Some(Conduit::Hvc) => psci::system_off::<Hvc>(),
        Some(Conduit::Smc) => psci::system_off::<Smc>(),
        None => Ok(()),
    };
    loop {
        wait_for_interrupt();
    }
}

/// Sleeps until an interrupt is pending, which then still has to be handled: interrupts stay
/// masked at EL1, and WFI ends for masked ones too.
pub fn wait_for_interrupt() {
    // SAFETY: a barrier, so that stores are done before sleeping, and a hint.
    unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) }
}
