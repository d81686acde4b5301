//! System calls: Linux's arm64 numbers for memory and threads by `svc #0` (D7), the kernel's own
//! by `svc #1`. One file per family; arguments are validated there and trusted further inside.
//!
//! A call is looked up in a table by its number. The cheapest calls, and those that nobody knows,
//! are answered before a reference to the thread is taken.

pub mod file;
pub mod futex;
pub mod memfd;
pub mod memory;
pub mod names;
pub mod native;
pub mod personality;
pub mod random;
pub mod scheduling;
pub mod thread;
pub mod time;
pub mod user;
pub mod vm_copy;

use abi::Binding;
use arm64::UserAddr;
use frame::slab::Ref;
use linux_raw_sys::general::__NR_getppid;

use crate::arch::{Context, WayBack};
use crate::errno::Errno;
use crate::ipc;
use crate::process::Process;
use crate::sched::cpu::Cpu;
use crate::sched::stay::What;
use crate::sched::{self, settle};
use crate::thread::resume::Stop;
use crate::thread::{Resume, Step, Thread};
use crate::trace::Watch;

/// What programs are told is their parent.
const PARENT: u64 = 1;
/// Numbers from here on are not looked up: higher ones have never been given out.
const TABLE: usize = 480;

/// A call in progress: the thread that makes it, with the arguments in its registers.
pub struct Call<'a> {
    /// The current thread.
    pub thread: &'a Ref<Thread>,
}

impl Call<'_> {
    /// Argument `n`, from 0 to 5.
    #[inline]
    pub fn arg(&self, n: usize) -> u64 {
        self.thread.context().get(n)
    }

    /// Argument `n` as a pointer to memory of the caller's.
    #[inline]
    pub fn user(&self, n: usize) -> UserAddr {
        self.thread.user_addr(self.arg(n))
    }

    /// Argument `n` as an `int`.
    #[inline]
    pub fn int(&self, n: usize) -> i32 {
        self.arg(n) as i32
    }

    /// Argument `n` as an `unsigned int`.
    #[inline]
    pub fn uint(&self, n: usize) -> u32 {
        self.arg(n) as u32
    }
}

/// What a call's implementation answers.
pub type Answer = Result<Step, Stop>;
/// A call's implementation.
pub type Handler = fn(&Call<'_>) -> Answer;

/// A finished call.
#[inline]
pub fn done(value: u64) -> Answer {
    Ok(Step::Done(Ok(value)))
}

const fn table() -> [Option<Handler>; TABLE] {
    let mut table = [None; TABLE];
    let families: [&[(u32, Handler)]; 9] = [
        memory::CALLS,
        file::CALLS,
        memfd::CALLS,
        vm_copy::CALLS,
        thread::CALLS,
        scheduling::CALLS,
        time::CALLS,
        futex::CALLS,
        personality::CALLS,
    ];
    let mut family = 0;
    while family < families.len() {
        let mut at = 0;
        while at < families[family].len() {
            let (number, handler) = families[family][at];
            assert!(
                table[number as usize].is_none(),
                "a call is in two families"
            );
            table[number as usize] = Some(handler);
            at += 1;
        }
        family += 1;
    }
    table
}

static CALLS: [Option<Handler>; TABLE] = table();

/// `svc #0` from EL0, number in `x8`, of which the low 32 bits count.
#[inline(always)]
pub fn enter<'a>(cpu: &'static Cpu, context: &'a Context) -> WayBack<'a> {
    let number = context.get(8) as u32;
    cpu.stay.begin(What::call(number));
    sched::cpu::count(&cpu.counters.calls);
    if number == __NR_getppid {
        context.set(0, PARENT);
        return sched::leave_kernel(cpu, context);
    }
    match CALLS.get(number as usize) {
        Some(Some(handler)) => call(cpu, context, *handler),
        _ => unknown(cpu, context, number),
    }
}

/// Calls that go to the personality server, if there is one: what is neither memory nor threads (D7).
/// Signals are among them.
static SERVED: [bool; TABLE] = {
    let mut served = [false; TABLE];
    let mut at = 0;
    while at < personality::CALLS.len() {
        served[personality::CALLS[at].0 as usize] = true;
        at += 1;
    }
    let mut at = 0;
    while at < thread::SIGNAL_CALLS.len() {
        served[thread::SIGNAL_CALLS[at] as usize] = true;
        at += 1;
    }
    served
};
/// Calls that do if their descriptor is none of the kernel's (D8).
static SERVED_BY_DESCRIPTOR: [bool; TABLE] = {
    let mut served = [false; TABLE];
    let mut at = 0;
    while at < file::CALLS.len() {
        served[file::CALLS[at].0 as usize] = true;
        at += 1;
    }
    served
};

#[inline(never)]
fn unknown<'a>(cpu: &'static Cpu, context: &'a Context, number: u32) -> WayBack<'a> {
    if Process::any_is_bound(Binding::Calls)
        && (ipc::direct::linux_call(cpu) || ipc::kernel::linux_call(&sched::current_of(cpu)))
    {
        sched::leave_turned(cpu);
        return None;
    }
    sched::calls::count(number);
    context.set(0, Errno::ENOSYS.to_register());
    sched::leave_kernel(cpu, context)
}

/// Whether the call in the registers of `thread` has gone to a personality server.
#[cold]
fn is_served(cpu: &'static Cpu, thread: &Ref<Thread>) -> bool {
    let process = thread.process();
    if !process.is_bound(Binding::Calls) {
        return false;
    }
    let number = thread.context().get(8) as u32 as usize;
    let known = process.handles().look(thread.context().get(0)).is_ok();
    let served = SERVED[number] || SERVED_BY_DESCRIPTOR[number] && !known;
    served && (ipc::direct::linux_call(cpu) || ipc::kernel::linux_call(thread))
}

/// Does what would happen to the call in the registers of `thread` if there were no personality server.
pub fn unserved(thread: &Ref<Thread>) -> Step {
    let number = thread.context().get(8) as u32;
    match CALLS.get(number as usize) {
        Some(Some(handler)) => finish(thread, handler(&Call { thread })),
        _ => {
            sched::calls::count(number);
            Step::Done(Err(Errno::ENOSYS))
        }
    }
}

#[inline(never)]
fn call<'a>(cpu: &'static Cpu, context: &'a Context, handler: Handler) -> WayBack<'a> {
    let thread = sched::current_of(cpu);
    if cpu.watches_tags() && sched::tell_tag_fault_first(&thread, context) {
        drop(thread);
        return sched::leave_kernel(cpu, context);
    }
    let watch = Watch::begin();
    if Process::any_is_bound(Binding::Calls) && is_served(cpu, &thread) {
        drop(thread);
        sched::leave_turned(cpu);
        return None;
    }
    let step = finish(&thread, handler(&Call { thread: &thread }));
    watch.end_first(&thread, &step);
    settle(&thread, step);
    drop(thread);
    sched::leave_kernel(cpu, context)
}

/// An answer as a step: a call that met an owned map had no effect and is made again.
pub fn finish(thread: &Thread, answer: Answer) -> Step {
    match answer {
        Ok(step) => step,
        Err(Stop::Errno(errno)) => Step::Done(Err(errno)),
        Err(Stop::Busy) => busy(thread),
    }
}

/// Out of line: what it takes on the stack is not for every call.
#[cold]
#[inline(never)]
fn busy(thread: &Thread) -> Step {
    thread.busy(Resume::Call)
}

/// Makes the call in the registers of `thread` again.
pub fn again(thread: &Ref<Thread>) -> Step {
    let call = Call { thread };
    match CALLS.get(thread.context().get(8) as u32 as usize) {
        Some(Some(handler)) => finish(thread, handler(&call)),
        _ => Step::Done(Err(Errno::ENOSYS)),
    }
}

/// `svc #1` from EL0, number in `x8`.
#[inline(always)]
pub fn enter_native<'a>(cpu: &'static Cpu, context: &'a Context) -> WayBack<'a> {
    let number = context.get(8);
    cpu.stay.begin(What::native(number as u32));
    let turned = match number {
        abi::calls::ENDPOINT_CALL => ipc::direct::call(cpu, context),
        abi::calls::REPLY_RECEIVE => ipc::direct::reply_receive(cpu, context),
        _ => false,
    };
    if turned {
        sched::leave_turned(cpu);
        return None;
    }
    enter_at_length(cpu, context)
}

#[inline(never)]
fn enter_at_length<'a>(cpu: &'static Cpu, context: &'a Context) -> WayBack<'a> {
    let thread = sched::current_of(cpu);
    let step = native_again(&thread);
    settle(&thread, step);
    drop(thread);
    sched::leave_kernel(cpu, context)
}

/// Makes the native call in the registers of `thread`, for the first time or again.
pub fn native_again(thread: &Ref<Thread>) -> Step {
    match native::call(&Call { thread }) {
        Err(Stop::Busy) => thread.busy(Resume::NativeCall),
        answer => finish(thread, answer),
    }
}
