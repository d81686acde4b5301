//! Leaving the kernel, choosing threads, run queues, the timer.

use ::ipc::ready::{self, Cpus, ReadyQueue, Runnable};
use frame::slab::Ref;
use mm::trace::{Event, Kind};
use sync::atomic::{AtomicU64, Ordering};
use sync::cpu_index;

use super::cpu::{self, Cpu, count, this};
use super::stay::What;
use super::{idle, wait};
use crate::arch::gic::IrqSet;
use crate::arch::{Context, WayBack};
use crate::machine::interrupt;
use crate::process::end::signal;
use crate::thread::{Step, Thread, resume};
use crate::{arch, handle, ipc, memory, trace, work};

/// Share of a CPU that a thread gets while others wait, in nanoseconds.
pub const SLICE_NS: u64 = 4_000_000;
/// Age of a grace period after which the CPUs that hold it up are interrupted, in nanoseconds.
const GRACE_LIMIT_NS: u64 = 2_000_000;

/// CPUs that wait for an interrupt, one bit each.
pub(super) static IDLE: AtomicU64 = AtomicU64::new(0);
/// CPUs that take part, one bit each.
static ONLINE: AtomicU64 = AtomicU64::new(0);

/// This CPU takes part in scheduling and in grace periods from here on.
pub fn online() {
    arch::mmu::grace().online(cpu_index());
    ONLINE.fetch_or(1 << cpu_index(), Ordering::SeqCst);
}

/// The CPUs that take part, as the policy sees them.
pub(super) struct Online;

impl Cpus<Ref<Thread>> for Online {
    fn online(&self) -> u64 {
        online_mask()
    }

    fn queue(&self, cpu: usize) -> &ReadyQueue<Ref<Thread>> {
        &cpu::of(cpu).ready
    }
}

/// CPUs that run threads, one bit each.
pub fn online_mask() -> u64 {
    ONLINE.load(Ordering::Relaxed)
}

/// The way out of the kernel for who came from EL0 with `context`: says how the vectors go back.
#[inline(always)]
pub fn leave_kernel<'a>(cpu: &'static Cpu, context: &'a Context) -> WayBack<'a> {
    if cpu.needs_attention() {
        return leave_at_length(cpu);
    }
    arch::mmu::grace().quiescent(cpu_index());
    cpu.stay.end();
    Some(context)
}

#[cold]
fn leave_at_length<'a>(cpu: &'static Cpu) -> WayBack<'a> {
    if !(cpu.only_left() && leave_directly(cpu)) {
        leave_attentively(cpu);
    }
    None
}

/// The way out after a thread has left the CPU and nothing else has happened: for the one that it has
/// handed the CPU to, or else the first that waits here, if that one has nothing to do in the kernel.
/// The timer is armed for what it was armed for, unless others wait too.
fn leave_directly(cpu: &'static Cpu) -> bool {
    let (thread, others) = match cpu.current() {
        Some(thread) => (thread, false),
        None if cpu.ready.is_empty() => return false,
        None => match next(cpu) {
            Some(thread) => (thread, !cpu.ready.is_empty()),
            None => return false,
        },
    };
    let process = thread.process();
    if process.is_dying() || thread.stop().is_wanted() || !thread.has_no_resume() {
        return false;
    }
    // The choice may have left something to do.
    if !cpu.only_left() {
        return false;
    }
    cpu.attended();
    load(&thread);
    if others {
        spread();
        arm_timer(cpu);
    }
    arch::mmu::grace().quiescent(cpu_index());
    cpu.stay.end();
    true
}

/// The way out for who came from EL0 and has turned the CPU to another thread, or away from its own
/// ([`super::direct`]).
#[inline(always)]
pub fn leave_turned(cpu: &'static Cpu) {
    if cpu.needs_attention() {
        leave_at_length(cpu);
        return;
    }
    arch::mmu::grace().quiescent(cpu_index());
    cpu.stay.end();
}

/// Loads registers and space of `thread`, with which this CPU returns to EL0.
#[inline]
pub(super) fn load(thread: &Thread) {
    let process = thread.process();
    if arch::run::switch_to(thread.context(), process.space_activation()) {
        process.space().counters().root_reloads.bump();
    }
}

/// Enters the scheduler from the boot path of a CPU, which does not come back.
pub fn enter() -> ! {
    leave_attentively(this());
    arch::run::enter_el0()
}

fn leave_attentively(cpu: &'static Cpu) {
    loop {
        cpu.attended();
        work::run(cpu);
        let thread = match cpu.current() {
            Some(thread) => thread,
            None => match next(cpu) {
                Some(thread) => thread,
                None => {
                    idle::wait(cpu);
                    continue;
                }
            },
        };
        if cpu.watches_tags() && tell_tag_fault(&thread) {
            continue;
        }
        if !go_on(&thread) {
            preemption_point(cpu, &thread);
            continue;
        }
        if must_yield(cpu, &thread) {
            rotate(cpu);
            continue;
        }
        load(&thread);
        break;
    }
    spread();
    arm_timer(cpu);
    arch::mmu::grace().quiescent(cpu_index());
    cpu.stay.end();
}

/// Tells an asynchronous tag check fault of `thread`, the current one, if there is one: it goes no
/// further then.
#[cold]
pub fn tell_tag_fault(thread: &Ref<Thread>) -> bool {
    let fault = !thread.process().is_dying() && arch::run::take_tag_fault(thread.context());
    if fault {
        tag_fault(thread);
    }
    fault
}

/// Which access it was is not known.
fn tag_fault(thread: &Ref<Thread>) {
    let access = ipc::kernel::Access::None;
    ipc::kernel::exception(thread, signal::SEGV, "SEGV_MTEAERR", 0, access);
}

/// As [`tell_tag_fault`], on the way in: the call that the thread makes may sleep. Whoever answers for
/// the fault has the thread make the call again.
#[cold]
#[inline(never)]
pub fn tell_tag_fault_first(thread: &Ref<Thread>, context: &Context) -> bool {
    let fault = arch::run::take_tag_fault(context);
    if fault {
        context.rewind();
        tag_fault(thread);
    }
    fault
}

/// Does what the thread has to do in the kernel before it returns to EL0. False: it is not ready,
/// because it is parked, gone, or has more to do after a preemption point.
fn go_on(thread: &Ref<Thread>) -> bool {
    let dying = thread.process().is_dying();
    let stops = thread.stop().is_wanted();
    if !dying && !stops && thread.has_no_resume() {
        return true;
    }
    let pending = thread.take_resume();
    if dying && pending.may_be_abandoned() {
        crate::thread::exit::die(thread);
        return false;
    }
    if stops && !dying && pending.may_be_abandoned() {
        thread.set_resume(pending);
        wait::for_resumption(thread);
        return false;
    }
    match ipc::pager::with_refusal(thread, || resume::step(thread, pending)) {
        Step::Done(result) => {
            memory::context().asks().forget();
            thread.set_result(result);
            // The process may have come to its end meanwhile, or somebody wants the thread to stop.
            !thread.process().is_dying() && !thread.stop().is_wanted()
        }
        step => settle(thread, step),
    }
}

/// Carries out what a step of a thread's operation asks for. True: the thread returns to EL0.
#[inline(always)]
pub fn settle(thread: &Ref<Thread>, step: Step) -> bool {
    let context = memory::context();
    if !matches!(step, Step::Busy) {
        // A question to a pager that nobody parks for would be the next one's who does.
        context.asks().forget();
    }
    match step {
        Step::Done(result) => {
            thread.set_result(result);
            // The call may have been the end of a large object, whose pages are freed on ways out.
            if !context.objects().is_reaped() {
                this().attend();
            }
            true
        }
        Step::Keep => true,
        // Whoever took it off the CPU has said so.
        Step::Gone => false,
        Step::More => {
            this().attend();
            false
        }
        Step::Busy => wait_for_map(thread),
    }
}

/// False: the thread is parked, or what it waits for has come already.
#[cold]
#[inline(never)]
fn wait_for_map(thread: &Ref<Thread>) -> bool {
    wait::for_map(thread);
    false
}

/// Between two steps: interrupts are looked at, a quiescent state is reported, and the thread is
/// put back if it has had its share. Nothing may be held here.
fn preemption_point(cpu: &'static Cpu, thread: &Thread) {
    cpu.stay.end();
    arch::mmu::grace().quiescent(cpu_index());
    cpu.stay.begin(What::WORK);
    interrupts(cpu);
    if must_yield(cpu, thread) {
        rotate(cpu);
    }
    spread();
}

/// Serves the interrupts that are pending on this CPU.
pub fn interrupts(cpu: &'static Cpu) {
    let pending = arch::gic::handle_pending(interrupt::came);
    if pending.contains(IrqSet::TIMER) {
        count(&cpu.counters.ticks);
        wait::expire(cpu, arch::time::now());
        cpu.attend();
    }
    if pending.contains(IrqSet::IPI) {
        cpu.attend();
    }
    if pending.contains(IrqSet::UART) {
        handle::console::pump();
        cpu.attend();
    }
}

/// Whether `thread`, the current one, is to make way: it may not run here, is not what others were
/// told that runs here, somebody better waits, or it has had its share and an equal waits.
fn must_yield(cpu: &Cpu, thread: &Thread) -> bool {
    let priority = Some(thread.priority());
    if cpu.ready.running() != priority || !thread.may_run_on(cpu_index()) {
        return true;
    }
    let best = cpu.ready.best();
    if best != priority {
        cpu.slice_end.store(0, Ordering::Relaxed);
        return best > priority;
    }
    let end = cpu.slice_end.load(Ordering::Relaxed);
    end != 0 && arch::time::now() >= end
}

/// Puts the current thread behind the others of its priority that wait for this CPU, or where it may
/// run.
pub fn rotate(cpu: &'static Cpu) {
    if let Some(thread) = leave_cpu(cpu) {
        match thread.may_run_on(cpu_index()) {
            true => cpu.ready.push(cpu_index(), thread),
            false => make_runnable(thread),
        }
    }
}

/// Takes the current thread off the CPU, its registers saved.
fn leave_cpu(cpu: &'static Cpu) -> Option<Ref<Thread>> {
    let thread = cpu.current.lock().take()?;
    arch::run::detach_current();
    thread.stops(arch::time::now());
    cpu.left();
    Some(thread)
}

/// Takes `thread`, the current one, off this CPU: it parks or is gone.
pub fn give_up_cpu(thread: &Ref<Thread>) {
    let left = leave_cpu(this());
    debug_assert!(
        left.is_none_or(|left| Ref::ptr_eq(&left, thread)),
        "another thread was current"
    );
}

/// The next thread of this CPU, made current.
fn next(cpu: &'static Cpu) -> Option<Ref<Thread>> {
    loop {
        let (thread, stolen) = ready::next(&Online, cpu_index())?;
        if !thread.may_run_on(cpu_index()) {
            make_runnable(thread);
            continue;
        }
        if stolen {
            count(&cpu.counters.steals);
        }
        cpu.slice_end.store(0, Ordering::Relaxed);
        install(cpu, thread.clone(), arch::time::now());
        return Some(thread);
    }
}

/// Makes `thread`, which nobody else has, the current one of this CPU, which has none and has
/// announced its priority, at `now` (ticks).
#[inline]
pub(super) fn install(cpu: &'static Cpu, thread: Ref<Thread>, now: u64) {
    thread.starts(now);
    thread.entity().runs_on(cpu_index());
    count(&cpu.counters.switches);
    trace::tell(Kind::Switch, || {
        let space = thread.process().space().id();
        Event::new(Kind::Switch, space, 0, thread.tid().into())
    });
    let none = cpu.current.lock().replace(thread);
    debug_assert!(none.is_none(), "the CPU has no other thread");
}

/// Makes `thread`, which nobody else has, the current one of this CPU, which has none: a switch past
/// the queues, unless somebody there comes first, or the CPU would run less than before.
pub fn run_now(thread: Ref<Thread>) {
    let cpu = this();
    let (priority, me) = (thread.priority(), cpu_index());
    let first = cpu.ready.best().is_none_or(|best| best <= priority);
    let no_less = cpu.ready.running().is_none_or(|before| before <= priority);
    if !first || !no_less || !thread.may_run_on(me) {
        return make_runnable(thread);
    }
    cpu.ready.announce(Some(priority));
    install(cpu, thread, arch::time::now());
}

/// Puts a thread that nobody else has on the queue of an idle CPU, else of one that runs less, else
/// of this one, and calls the CPU.
pub fn make_runnable(thread: Ref<Thread>) {
    let last = thread.entity().last_cpu();
    if let Some(idle) = take_idle(thread.cpus(), last) {
        let ready = &cpu::of(idle).ready;
        ready.call_for(thread.priority());
        ready.push(idle, thread);
        arch::gic::send_ipi(1 << idle);
        return;
    }
    let (me, cpu) = (cpu_index(), this());
    let running = cpu.ready.running();
    let target = ready::place(&Online, me, &thread, last);
    let priority = Some(thread.priority());
    cpu::of(target).ready.push(target, thread);
    if target != me {
        arch::gic::send_ipi(1 << target);
    } else if priority > running || ready::is_to_spread(&Online, me) {
        cpu.attend();
    } else if priority == running {
        begin_share(cpu);
    }
}

/// An equal waits for this CPU: the current thread's share begins, unless it has.
fn begin_share(cpu: &Cpu) {
    if cpu.slice_end.load(Ordering::Relaxed) == 0 {
        let end = arch::time::now() + arch::time::ns_to_ticks(SLICE_NS);
        cpu.slice_end.store(end, Ordering::Relaxed);
        arch::time::advance_deadline(end);
    }
}

/// Calls the CPUs that run less than what waits here.
fn spread() {
    let called = ready::spread(&Online, cpu_index());
    if called != 0 {
        arch::gic::send_ipi(called);
    }
}

/// An idle CPU of `allowed`, `preferred` if it is, that nobody else will wake for something meanwhile.
fn take_idle(allowed: u64, preferred: usize) -> Option<usize> {
    loop {
        let idle = IDLE.load(Ordering::SeqCst) & allowed & !(1 << cpu_index());
        if idle == 0 {
            return None;
        }
        let wanted = 1u64 << preferred;
        let bit = if idle & wanted != 0 {
            wanted
        } else {
            1 << idle.trailing_zeros()
        };
        if IDLE.fetch_and(!bit, Ordering::SeqCst) & bit != 0 {
            return Some(bit.trailing_zeros() as usize);
        }
    }
}

/// Makes all other CPUs take the long way out soon.
pub fn interrupt_others() {
    let others = online_mask() & !(1 << cpu_index());
    if others != 0 {
        arch::gic::send_ipi(others);
    }
}

/// The thread that this CPU works for.
///
/// # Panics
/// If there is none: an exception from EL0 without a thread is a kernel bug.
pub fn current() -> Ref<Thread> {
    current_of(this())
}

/// [`current`], of `cpu`, which is this one.
#[inline(always)]
pub fn current_of(cpu: &'static Cpu) -> Ref<Thread> {
    match cpu.current() {
        Some(thread) => thread,
        None => panic!("an exception from EL0 belongs to a thread"),
    }
}

/// Sets this CPU's timer to what comes first: the end of a share, a time-out, an open grace
/// period, or work left over.
pub(super) fn arm_timer(cpu: &'static Cpu) {
    let now = arch::time::now();
    let mut deadline = cpu.timers.lock().first();
    let mut no_later_than = |ticks: u64| deadline = Some(deadline.map_or(ticks, |d| d.min(ticks)));
    let running = cpu.ready.running();
    if running.is_some() && cpu.ready.best() == running {
        if cpu.slice_end.load(Ordering::Relaxed) == 0 {
            let end = now + arch::time::ns_to_ticks(SLICE_NS);
            cpu.slice_end.store(end, Ordering::Relaxed);
        }
        no_later_than(cpu.slice_end.load(Ordering::Relaxed));
    }
    if watch_grace(cpu, now) || work::is_pending() {
        no_later_than(now + arch::time::ns_to_ticks(GRACE_LIMIT_NS));
    }
    arch::time::set_deadline(deadline);
}

/// Whether a grace period is open. Interrupts the CPUs that it waits for when it has been open
/// for too long.
fn watch_grace(cpu: &Cpu, now: u64) -> bool {
    let grace = arch::mmu::grace();
    if !grace.pending() {
        cpu.grace_seen.store(0, Ordering::Relaxed);
        return false;
    }
    let seen = cpu.grace_seen.load(Ordering::Relaxed);
    if seen == 0 {
        cpu.grace_seen.store(now, Ordering::Relaxed);
    } else if now.wrapping_sub(seen) >= arch::time::ns_to_ticks(GRACE_LIMIT_NS) {
        cpu.grace_seen.store(now, Ordering::Relaxed);
        hasten_grace();
    }
    true
}

/// Interrupts the CPUs that hold up the newest grace period, so that they report.
pub fn hasten_grace() {
    let grace = arch::mmu::grace();
    let late = grace.laggards(grace.newest()) & online_mask() & !(1 << cpu_index());
    if late != 0 {
        arch::gic::send_ipi(late);
    }
}
