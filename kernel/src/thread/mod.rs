//! A thread: the registers of one flow of control at EL0, and what the kernel owes it.
//!
//! The kernel keeps no stack per thread. What a thread has not finished in the kernel is a value
//! in its record ([`resume::Resume`]), taken up again on the way out before it returns to EL0.

pub mod exit;
pub mod footprint;
pub mod resume;
pub mod stop;

use abi::message::Reason;
use arm64::UserAddr;
use frame::slab::{Cache, Ref};
use ipc::park::ParkWord;
use sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use sync::grace::Ticket;
use sync::{Link, Linked, SpinGuard, SpinLock, rank};

use crate::arch::{self, Context};
use crate::errno::{self, Errno, SysResult};
use crate::ipc::message::Ipc;
use crate::paging::Paging;
use crate::process::Process;
use crate::sched::entity::Entity;
use crate::sched::wait::Wait;
pub use resume::{Resume, Step};
use stop::Stop;

static THREADS: Cache<Thread> = Cache::new("thread");
/// Numbers below are never given: 1 is the parent that every program sees.
static NEXT_TID: AtomicU32 = AtomicU32::new(2);

/// Prepares the cache that threads come from, once, at boot.
pub fn init() {
    THREADS.init(arch::mmu::frames());
}

/// A signal stack as set by `sigaltstack`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignalStack {
    /// First byte.
    pub sp: u64,
    /// `SS_DISABLE` or flags.
    pub flags: u32,
    /// Bytes.
    pub size: u64,
}

/// An attempt to get memory that failed and is being repeated.
#[derive(Clone, Copy, Debug)]
struct Shortage {
    ticket: Ticket,
    since: u64,
    last_try: bool,
}

impl Shortage {
    /// Ticks after which a failure is another shortage.
    const MEMORY: u64 = 1 << 30;
}

/// One thread.
pub struct Thread {
    context: Context,
    tid: u32,
    process: Ref<Process>,
    link: Link<Ref<Thread>>,
    park: ParkWord,
    wait: SpinLock<Wait, rank::Leaf>,
    resume: SpinLock<Resume, rank::Leaf>,
    signal_stack: SpinLock<SignalStack, rank::Leaf>,
    /// Blocked signals, bit n-1 for signal n.
    pub blocked: AtomicU64,
    /// Signals sent to this thread while blocked.
    pub pending: AtomicU64,
    /// The word that the end of the thread clears and wakes as a futex; 0 for none.
    pub clear_child_tid: AtomicU64,
    /// Head of the robust-futex list; 0 for none.
    pub robust_list: AtomicU64,
    shortage: SpinLock<Option<Shortage>, rank::Leaf>,
    entity: Entity,
    ran: AtomicU64,
    started: AtomicU64,
    ipc: Ipc,
    stop: Stop,
    paging: SpinLock<Paging, rank::Leaf>,
    ended: AtomicBool,
    /// Whether its record for wakers names a time-out: to look at without the lock, by whoever has found
    /// it in a queue.
    has_time_out: AtomicBool,
}

impl Linked<Ref<Thread>> for Thread {
    fn link(&self) -> &Link<Ref<Thread>> {
        &self.link
    }
}

impl Thread {
    /// A new thread of `process`, not yet in its list, with all registers zero.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(process: &Ref<Process>) -> Result<Ref<Thread>, Errno> {
        let tid = NEXT_TID.fetch_add(1, Ordering::Relaxed);
        process.count_thread(1);
        footprint::comes();
        let thread = Self {
            context: Context::new(),
            tid,
            process: process.clone(),
            link: Link::new(),
            park: ParkWord::new(),
            wait: SpinLock::new(Wait::default()),
            resume: SpinLock::new(Resume::None),
            signal_stack: SpinLock::new(SignalStack {
                flags: SS_DISABLE,
                ..SignalStack::default()
            }),
            blocked: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            clear_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            shortage: SpinLock::new(None),
            entity: Entity::new(),
            ran: AtomicU64::new(0),
            started: AtomicU64::new(0),
            ipc: Ipc::new(),
            stop: Stop::new(),
            paging: SpinLock::new(Paging::default()),
            ended: AtomicBool::new(false),
            has_time_out: AtomicBool::new(false),
        };
        // A thread that could not be allocated is dropped, which counts it off again.
        let thread = THREADS.alloc_ref(thread).map_err(|_| Errno::ENOMEM)?;
        footprint::came();
        Ok(thread)
    }

    /// Its registers.
    #[inline]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Where the thread means by `pointer`, which may carry a tag if the thread has asked for that; the
    /// tag is compared as the thread's own accesses are.
    #[inline]
    pub fn user_addr(&self, pointer: u64) -> UserAddr {
        match self.context.tags().get() {
            0 => UserAddr::unchecked(pointer),
            _ => self.tagged_addr(pointer),
        }
    }

    fn tagged_addr(&self, pointer: u64) -> UserAddr {
        let (tags, checks) = (self.context.tags(), self.context.tags().checks());
        match tags.takes_tags() || !UserAddr::unchecked(pointer).is_nowhere() {
            true => UserAddr::checked(pointer, checks.check_reads(), checks.check_writes()),
            false => UserAddr::unchecked(pointer),
        }
    }

    /// Its number; that of the first thread is the process's.
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// Its process.
    #[inline]
    pub fn process(&self) -> &Ref<Process> {
        &self.process
    }

    /// Who may wake it.
    pub fn park(&self) -> &ParkWord {
        &self.park
    }

    /// What it sends, and to whom it owes an answer.
    #[inline]
    pub fn ipc(&self) -> &Ipc {
        &self.ipc
    }

    /// Whether it is to stop.
    #[inline]
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Pages of pagers that it waits for.
    pub fn paging(&self) -> SpinGuard<'_, Paging, rank::Leaf> {
        self.paging.lock()
    }

    /// The page that it has asked for is not coming.
    pub fn refuse_page(&self, reason: Reason) {
        self.paging.lock().refuse(reason);
    }

    /// Whether it has left for good.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// It has left for good.
    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.stop.rests();
    }

    /// Whether its registers stay as they are: it sleeps, or has never run.
    pub fn rests(&self) -> bool {
        self.park.asleep().is_some()
    }

    /// What a waker has to know.
    pub fn wait(&self) -> Wait {
        *self.wait.lock()
    }

    /// Whether a time-out may end its sleep.
    #[inline]
    pub fn has_time_out(&self) -> bool {
        self.has_time_out.load(Ordering::Relaxed)
    }

    /// Fills in what a waker has to know.
    #[inline]
    pub fn set_wait(&self, wait: Wait) {
        self.has_time_out
            .store(wait.timer.is_some(), Ordering::Relaxed);
        *self.wait.lock() = wait;
    }

    /// What the scheduler knows about it.
    #[inline]
    pub fn entity(&self) -> &Entity {
        &self.entity
    }

    /// Takes what is left to do before EL0; nothing is left in its place.
    pub fn take_resume(&self) -> Resume {
        core::mem::take(&mut *self.resume.lock())
    }

    /// Leaves `rest` to be done after a preemption point.
    pub fn more(&self, rest: Resume) -> Step {
        self.set_resume(rest);
        Step::More
    }

    /// Leaves `rest` to be done when the map is free again.
    pub fn busy(&self, rest: Resume) -> Step {
        self.set_resume(rest);
        Step::Busy
    }

    /// Whether nothing is left to do before EL0.
    pub fn has_no_resume(&self) -> bool {
        self.resume.lock().is_none()
    }

    /// Leaves something to do before EL0.
    pub fn set_resume(&self, resume: Resume) {
        let old = core::mem::replace(&mut *self.resume.lock(), resume);
        drop(old);
    }

    /// Memory was not to be had at `now` (ticks). Whether that is final: only after a grace
    /// period begun for it is over and another attempt has failed (D3). `begin` starts one.
    pub fn is_out_of_memory(&self, now: u64, begin: impl FnOnce() -> Ticket) -> bool {
        let mut shortage = self.shortage.lock();
        let recent = shortage.filter(|s| now.saturating_sub(s.since) < Shortage::MEMORY);
        let Some(mut known) = recent else {
            *shortage = Some(Shortage {
                ticket: begin(),
                since: now,
                last_try: false,
            });
            return false;
        };
        if !arch::mmu::grace().is_over(known.ticket) {
            return false;
        }
        let finally = known.last_try;
        known.last_try = true;
        *shortage = Some(known);
        finally
    }

    /// Stores the result of a system call.
    #[inline]
    pub fn set_result(&self, result: SysResult) {
        self.context.set(0, errno::register(result));
    }

    /// Its signal stack.
    pub fn signal_stack(&self) -> SignalStack {
        *self.signal_stack.lock()
    }

    /// Changes its signal stack.
    pub fn set_signal_stack(&self, stack: SignalStack) {
        *self.signal_stack.lock() = stack;
    }

    /// It begins to run at `now` (ticks).
    pub fn starts(&self, now: u64) {
        self.started.store(now, Ordering::Relaxed);
    }

    /// It stops running at `now` (ticks).
    pub fn stops(&self, now: u64) {
        let ran = now.saturating_sub(self.started.load(Ordering::Relaxed));
        self.ran.fetch_add(ran, Ordering::Relaxed);
        self.process.add_runtime(ran);
    }

    /// Ticks that it has run, up to now for the current thread, kernel included.
    pub fn runtime(&self, now: u64) -> u64 {
        self.ran.load(Ordering::Relaxed) + self.current_run(now)
    }

    /// Ticks since it was put on its CPU, for the current thread.
    pub fn current_run(&self, now: u64) -> u64 {
        now.saturating_sub(self.started.load(Ordering::Relaxed))
    }
}

/// `SS_DISABLE`: no signal stack.
const SS_DISABLE: u32 = linux_raw_sys::general::SS_DISABLE;

impl Drop for Thread {
    fn drop(&mut self) {
        footprint::went();
        self.process.count_thread(-1);
    }
}

impl core::fmt::Debug for Thread {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Thread({})", self.tid)
    }
}
