//! Which thread's registers this CPU returns to EL0 with.

use core::arch::asm;
use core::ptr;

use aarch64_cpu::registers::{Readable, TPIDR_EL0, Writeable};
use sync::atomic::Ordering;

use super::activate::{self, RootActivation};
use super::context::Context;
use super::vectors;
use super::{fp, mte};
use crate::percpu;

/// Makes `ctx` the context that this CPU returns to EL0 with, in the address space `root`.
///
/// Saves floating-point registers and `TPIDR_EL0` of the context that was loaded before, if it is
/// another one, and loads the new one's. True: the space has grown since this CPU had it. `ctx` must stay where it is until another
/// `switch_to` or [`detach_current`] on this CPU: contexts live in slab objects, which do not move,
/// and dropping a loaded one is caught as a kernel bug.
pub fn switch_to(ctx: &Context, root: RootActivation<'_>) -> bool {
    let cpu = percpu::this();
    let new = ptr::from_ref(ctx).cast_mut();
    if cpu.current.load(Ordering::Relaxed) != new {
        detach_current();
        let owner = ctx.loaded.swap(cpu.index() + 1, Ordering::Acquire);
        assert_eq!(owner, 0, "a thread context was loaded on two CPUs");
        load_lazy(ctx);
        cpu.current.store(new, Ordering::Relaxed);
    }
    activate::activate(root)
}

/// Forgets the loaded context after saving what is still in the CPU: before its thread parks,
/// exits or moves to another CPU. Nothing happens if none is loaded.
pub fn detach_current() {
    let cpu = percpu::this();
    let Some(ctx) = current() else { return };
    save_lazy(ctx);
    cpu.current.store(ptr::null_mut(), Ordering::Relaxed);
    ctx.loaded.store(0, Ordering::Release);
}

/// Writes what is still in the CPU of the loaded context to its memory, and leaves it loaded: so
/// that [`Context::clone_from`] sees all of it.
pub fn save_current() {
    if let Some(ctx) = current() {
        save_lazy(ctx);
    }
}

/// Sets the thread pointer of the loaded context (for a context that is not loaded, store to
/// [`Context::tpidr`]).
pub fn set_current_tpidr(value: u64) {
    TPIDR_EL0.set(value);
}

/// The context loaded on this CPU.
pub fn current() -> Option<&'static Context> {
    let ctx = percpu::this().current.load(Ordering::Relaxed);
    // SAFETY: `switch_to` stored it; a loaded context is not dropped (its Drop says so), and only
    // this CPU sees the pointer.
    unsafe { ctx.as_ref() }
}

/// Leaves the kernel for EL0 through the loaded context, with the kernel stack empty again: how a
/// CPU enters EL0 for the first time. A context must be loaded.
pub fn enter_el0() -> ! {
    assert!(current().is_some(), "no thread is loaded to return to");
    // SAFETY: the context is a thread's, valid until it is switched away from (checked above);
    // nothing on this stack is needed again.
    unsafe { asm!("b {exit}", exit = sym vectors::el0_exit, options(noreturn)) }
}

/// Sets what the loaded context asks for about tags, at once.
pub fn set_current_tags(control: u32) {
    if let Some(ctx) = current() {
        ctx.tags.set(control);
        mte::load(ctx);
    }
}

/// Whether an asynchronous tag check fault of `ctx` has not been told yet. It is told now.
pub fn take_tag_fault(ctx: &Context) -> bool {
    if ctx.loaded.load(Ordering::Relaxed) == percpu::this().index() + 1 {
        mte::save(ctx);
    }
    ctx.tags.take_fault()
}

fn save_lazy(ctx: &Context) {
    ctx.tpidr.store(TPIDR_EL0.get(), Ordering::Relaxed);
    fp::save(ctx);
    mte::save(ctx);
}

fn load_lazy(ctx: &Context) {
    TPIDR_EL0.set(ctx.tpidr.load(Ordering::Relaxed));
    fp::load(ctx);
    mte::load(ctx);
}
