//! From one thread to another past the queues.
//!
//! The current thread of the CPU is taken, looks for somebody to turn to, and is put back where
//! there is nobody: nothing has happened then. Else it [`sleep`]s, and the CPU [`turn_to`]s the
//! other one. Whoever uses these is on the way in from EL0, with nothing else to be done on the way
//! out: [`take`] makes sure of that.

use ::ipc::park::Sleep;
use ::ipc::ready::Runnable;
use frame::slab::Ref;
use sync::cpu_index;

use super::cpu::Cpu;
use super::run;
use super::wait::{Place, Wait};
use crate::arch;
use crate::thread::Thread;

/// Takes the current thread, unless more is to be done on the way out than to return. Its registers
/// stay loaded.
#[inline(always)]
pub fn take(cpu: &'static Cpu) -> Option<Ref<Thread>> {
    match cpu.needs_attention() {
        true => None,
        false => cpu.current.lock().take(),
    }
}

/// Nothing has become of it: false.
#[cold]
pub fn put_back(cpu: &'static Cpu, thread: Ref<Thread>) -> bool {
    let none = cpu.current.lock().replace(thread);
    debug_assert!(none.is_none(), "nobody else was made current");
    false
}

/// Whether the CPU may turn to `thread`, which sleeps, in place of its current one: it returns to
/// EL0 at once, nobody who waits comes before it, and others see the CPU run what it has announced.
#[inline(always)]
pub fn may_turn_to(cpu: &'static Cpu, thread: &Thread) -> bool {
    cpu.ready.is_run(thread.priority())
        && thread.may_run_on(cpu_index())
        && !thread.stop().is_wanted()
        && !thread.process().is_dying()
        && !thread.has_time_out()
}

/// Starts the sleep of `thread`, which has been taken, at `now` (ticks), as
/// [`wait::begin`](super::wait::begin) does.
#[inline(always)]
pub fn sleep(thread: &Ref<Thread>, place: Place, now: u64) -> Sleep {
    let sleep = thread.park().next();
    arch::run::detach_current();
    thread.stops(now);
    thread.set_wait(Wait {
        place,
        ..Wait::default()
    });
    thread.park().begin();
    sleep
}

/// Makes `thread`, whose sleep has been claimed, the current one, with its registers and its space
/// loaded.
#[inline(always)]
pub fn turn_to(cpu: &'static Cpu, thread: Ref<Thread>, now: u64) {
    debug_assert!(thread.has_no_resume(), "it waits for a message alone");
    cpu.turns.count();
    run::load(&thread);
    run::install(cpu, thread, now);
}

/// The CPU has no thread.
#[cold]
pub fn turn_away(cpu: &'static Cpu) {
    cpu.left();
}
