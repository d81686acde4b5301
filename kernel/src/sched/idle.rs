//! A CPU without a thread: waits for an interrupt, in an extended quiescent state.

use ipc::ready;
use sync::atomic::{Ordering, fence};
use sync::cpu_index;

use super::cpu::Cpu;
use super::run::{IDLE, Online, arm_timer, interrupts};
use super::stay::What;
use crate::{arch, prompt, selftest};

/// Waits once, unless there is something to run. Interrupts stay masked: a pending one ends the
/// wait all the same and is served here.
pub(super) fn wait(this: &'static Cpu) {
    this.stay.rename(What::EXEMPT);
    arch::activate::deactivate();
    prompt::serve();
    selftest::help();
    let bit = 1u64 << cpu_index();
    IDLE.fetch_or(bit, Ordering::SeqCst);
    // From here on whoever makes a thread runnable sees the bit; what was queued before is seen.
    fence(Ordering::SeqCst);
    if !ready::has_any(&Online, cpu_index()) && !this.has_work() {
        arm_timer(this);
        arch::mmu::grace().idle_enter(cpu_index());
        arch::power::wait_for_interrupt();
        arch::mmu::grace().idle_exit(cpu_index());
    }
    IDLE.fetch_and(!bit, Ordering::SeqCst);
    interrupts(this);
}
