//! The record of a process.
//!
//! Processes make a tree: whoever makes one has a part of its own limits set aside for it, and its end
//! is theirs. Handles name processes and do not keep them going; a record stays as long as there is one.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Binding;
use abi::slot;
use frame::slab::{Cache, Ref, SlabBox};
use mm::object::{Account, MemObject};
use sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use sync::{Link, Linked, Queue, SpinGuard, SpinLock, rank};

use super::end::{End, signal};
use super::limits::{Limits, Resource};
use super::signals::{self, Dispositions};
use crate::arch::Context;
use crate::arch::activate::RootActivation;
use crate::errno::Errno;
use crate::handle::table::{Refused, Room};
use crate::handle::{self, Handle, HandleTable};
use crate::ipc::Port;
use crate::memory::{self, Space};
use crate::report::ending::{self, Ending};
use crate::sched::{self, wait};
use crate::thread::Thread;
use crate::work::{self, Progress};

/// Threads that one process may have (`RLIMIT_NPROC`).
pub const THREADS_MAX: usize = 1024;
/// Parked or sleeping threads that one step wakes.
const BATCH: usize = 32;

/// Processes that have something bound, by what.
static BOUND: [AtomicU32; Binding::ALL.len()] = [const { AtomicU32::new(0) }; Binding::ALL.len()];

static PROCESSES: Cache<Process> = Cache::new("process");

type Parked = Queue<Ref<Thread>>;

/// Processes above each other.
const DEPTH: u32 = 8;

/// One process.
pub struct Process {
    link: Link<Ref<Process>>,
    parent: Option<Ref<Process>>,
    depth: u32,
    children: SpinLock<Vec<Ref<Process>>, rank::Leaf>,
    limits: Limits,
    /// Who pays for the pages of objects that it makes; without a limit nobody counts them.
    account: SpinLock<Option<Ref<Account>>, rank::Leaf>,
    bindings: SpinLock<[Option<Port>; Binding::ALL.len()], rank::Leaf>,
    /// Which of them there are, a bit each.
    bound: AtomicU8,
    /// Threads that wait for its end.
    waiters: SpinLock<Parked, rank::Endpoint>,
    /// Threads that wait for its map are to be woken.
    wakes_parked: AtomicBool,
    /// Threads that have not been looked at to be woken to die.
    to_wake: AtomicU32,
    /// Somebody has begun its end.
    ends: AtomicBool,
    ending: SpinLock<Option<Ending>, rank::Leaf>,
    /// Its end is over, its memory is back.
    buried: AtomicBool,
    pid: AtomicU32,
    space: Arc<Space>,
    handles: SlabBox<SpinLock<HandleTable, rank::Leaf>>,
    threads: SpinLock<Vec<Ref<Thread>>, rank::Endpoint>,
    parked: SpinLock<Parked, rank::Endpoint>,
    /// Thread records that exist, those not in `threads` any more included.
    records: AtomicU32,
    dying: AtomicBool,
    end: SpinLock<Option<End>, rank::Leaf>,
    last_status: AtomicU32,
    runtime: AtomicU64,
    dispositions: Ref<Dispositions>,
    /// Signals sent to the process while every thread had them blocked.
    pub pending: AtomicU64,
}

impl Linked<Ref<Process>> for Process {
    fn link(&self) -> &Link<Ref<Process>> {
        &self.link
    }
}

/// Prepares the caches that processes come from, once, at boot.
pub fn init() {
    PROCESSES.init(memory::frames());
    signals::init();
    handle::init(memory::frames());
    crate::ipc::init(memory::frames());
    crate::machine::interrupt::init(memory::frames());
    crate::machine::device::init(memory::frames());
}

impl Process {
    /// A process with an empty space, no handles and no thread, below no other.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Ref<Self>, Errno> {
        Self::make(None)
    }

    /// The same below `parent`, with its own part of the parent's limits.
    ///
    /// # Errors
    /// `EDQUOT` for more than the parent has left, or too many above each other; `ENOMEM`; `ESRCH` if
    /// the parent is ending.
    pub fn below(parent: &Ref<Self>, wanted: [u64; Limits::KINDS]) -> Result<Ref<Self>, Errno> {
        if parent.depth + 1 >= DEPTH {
            return Err(Errno::EDQUOT);
        }
        let child = Self::make(Some(parent.clone()))?;
        let pages = parent.space.mapped_pages() + parent.object_pages();
        // One lock after the other.
        let handles = parent.handles().count() as u64;
        let used = [pages, handles, parent.thread_count() as u64];
        let account = memory::context().objects().account();
        let account = account.map_err(|_| Errno::ENOMEM)?;
        child.limits.set(parent.limits.split(wanted, used)?);
        if child.limits.of(Resource::Pages) != Limits::NONE {
            *child.account.lock() = Some(account);
        }
        child.limit_space();
        parent.limit_space();
        let mut children = parent.children.lock();
        let full = children.len() == children.capacity();
        drop(children);
        if full {
            parent.make_room_for_children()?;
        }
        children = parent.children.lock();
        if parent.is_dying() || children.len() == children.capacity() {
            return Err(Errno::EAGAIN);
        }
        children.push(child.clone());
        Ok(child)
    }

    /// Lets the space know what there may be of pages.
    fn limit_space(&self) {
        let pages = self.limits.of(Resource::Pages);
        self.space.set_page_limit(pages);
        if let Some(account) = &*self.account.lock() {
            account.set_limit(pages);
        }
    }

    /// Pages of objects that it has made, if they are counted.
    fn object_pages(&self) -> u64 {
        self.account
            .lock()
            .as_ref()
            .map_or(0, |account| account.used())
    }

    /// Has the pages of `object`, which it has just made, counted with its own.
    pub fn charge(&self, object: &mut Ref<MemObject>) {
        let account = self.account.lock().clone();
        if let Some(account) = account {
            MemObject::charge_to(object, &account);
        }
    }

    /// Takes back what was set aside for `child`.
    fn take_back(&self, child: &Self) {
        self.limits.take_back(&child.limits);
        self.limit_space();
    }

    /// Room for one child more. The list is as it was, but may have been changed by others meanwhile.
    fn make_room_for_children(&self) -> Result<(), Errno> {
        let wanted = self.children.lock().len() * 2 + 4;
        let mut room = Vec::new();
        room.try_reserve_exact(wanted).map_err(|_| Errno::ENOMEM)?;
        let mut children = self.children.lock();
        if children.len() < room.capacity() {
            room.append(&mut children);
            core::mem::swap(&mut *children, &mut room);
        }
        drop(children);
        drop(room);
        Ok(())
    }

    fn make(parent: Option<Ref<Self>>) -> Result<Ref<Self>, Errno> {
        let process = Self {
            link: Link::new(),
            depth: parent.as_ref().map_or(0, |parent| parent.depth + 1),
            parent,
            children: SpinLock::new(Vec::new()),
            limits: Limits::none(),
            account: SpinLock::new(None),
            bindings: SpinLock::new([const { None }; Binding::ALL.len()]),
            bound: AtomicU8::new(0),
            waiters: SpinLock::new(Queue::new()),
            wakes_parked: AtomicBool::new(false),
            to_wake: AtomicU32::new(0),
            ends: AtomicBool::new(false),
            ending: SpinLock::new(None),
            buried: AtomicBool::new(false),
            pid: AtomicU32::new(0),
            space: Space::new(memory::context())?,
            handles: handle::table().map_err(|_| Errno::ENOMEM)?,
            threads: SpinLock::new(Vec::new()),
            parked: SpinLock::new(Queue::new()),
            records: AtomicU32::new(0),
            dying: AtomicBool::new(false),
            end: SpinLock::new(None),
            last_status: AtomicU32::new(0),
            runtime: AtomicU64::new(0),
            dispositions: signals::dispositions()?,
            pending: AtomicU64::new(0),
        };
        PROCESSES.alloc_ref(process).map_err(|_| Errno::ENOMEM)
    }

    /// Its number, that of its first thread.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Its address space.
    #[inline]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Its space as the MMU takes it.
    #[inline]
    pub fn space_activation(&self) -> RootActivation<'_> {
        RootActivation::new(self.space.root_word(), self.space.asid_cell())
    }

    /// The process above it.
    pub fn parent(&self) -> Option<&Ref<Self>> {
        self.parent.as_ref()
    }

    /// Whether `other` is this process or one below it.
    pub fn is_above(&self, other: &Self) -> bool {
        let is_this = |process: &Self| process.space.id() == self.space.id();
        let mut at = other;
        loop {
            match (is_this(at), &at.parent) {
                (true, _) => return true,
                (false, Some(parent)) => at = parent,
                (false, None) => return false,
            }
        }
    }

    /// What it may have.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Its handles. A leaf: nothing is locked meanwhile.
    pub fn handles(&self) -> SpinGuard<'_, HandleTable, rank::Leaf> {
        self.handles.lock()
    }

    /// Puts the console into slots 0 to 2 of a new process.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn add_console(&self) -> Result<(), Errno> {
        handle::table::add_console(&self.handles)
    }

    /// Puts a descriptor into the lowest free slot from `least` on.
    ///
    /// # Errors
    /// `EINVAL` if `least` is beyond the descriptors, `EMFILE`, `ENOMEM`, `EDQUOT`.
    pub fn insert_descriptor(&self, handle: Handle, least: u64) -> Result<u64, Errno> {
        self.insert(handle, least, handle::SLOTS)
            .map_err(|(errno, handle)| {
                drop(handle);
                errno
            })
    }

    /// Puts a handle of the kernel's own into a free slot.
    ///
    /// # Errors
    /// `EMFILE`, `ENOMEM`, `EDQUOT`.
    pub fn insert_native(&self, handle: Handle) -> Result<u64, Errno> {
        self.insert(handle, slot::FIRST, slot::COUNT as usize)
            .map_err(|(errno, handle)| {
                drop(handle);
                errno
            })
    }

    fn insert(&self, handle: Handle, least: u64, end: usize) -> Result<u64, (Errno, Handle)> {
        let mut handle = Some(handle);
        let result = self.with_room(|handles, limit| {
            if handles.count() as u64 >= limit {
                return Err(Refused::Errno(Errno::EDQUOT));
            }
            handles.insert(&mut handle, least, end)
        });
        match (result, handle) {
            (Err(errno), Some(handle)) => Err((errno, handle)),
            (Err(errno), None) => unreachable!("{errno:?} without the handle"),
            (Ok(fd), _) => Ok(fd),
        }
    }

    /// Puts a handle into slot `fd`, if that is free; what does not go in, or was there, comes back.
    pub fn put_handle(&self, handle: Handle, fd: u64) -> Result<(), (Errno, Handle)> {
        let mut handle = Some(handle);
        let result = self.with_room(|handles, limit| {
            if handles.count() as u64 >= limit {
                return Err(Refused::Errno(Errno::EDQUOT));
            }
            match handles.look(fd) {
                Ok(_) => Err(Refused::Errno(Errno::EBUSY)),
                Err(_) => handles.replace(&mut handle, fd),
            }
        });
        match (result, handle) {
            (Ok(None), _) | (Err(_), None) => Ok(()),
            (Ok(Some(before)), _) => {
                // One that had been revoked.
                drop(before);
                Ok(())
            }
            (Err(errno), Some(handle)) => Err((errno, handle)),
        }
    }

    /// Puts a descriptor into slot `fd`, in place of what was there.
    ///
    /// # Errors
    /// `EBADF` if it is none, `ENOMEM`, `EDQUOT`.
    pub fn replace_descriptor(&self, handle: Handle, fd: u64) -> Result<(), Errno> {
        let mut handle = Some(handle);
        let before = self.with_room(|handles, limit| {
            if fd as u32 as u64 >= slot::FIRST {
                return Err(Refused::Errno(Errno::EBADF));
            }
            if handles.count() as u64 >= limit && handles.look(fd).is_err() {
                return Err(Refused::Errno(Errno::EDQUOT));
            }
            handles.replace(&mut handle, fd)
        });
        drop(handle);
        before.map(drop)
    }

    /// Closes a handle; it comes back, to be dropped with nothing locked.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close_handle(&self, fd: u64) -> Result<Handle, Errno> {
        self.handles().close(fd)
    }

    /// Does something to the table, with a chunk of slots allocated first where it turns out that one is
    /// needed; and the limit on handles.
    fn with_room<R>(
        &self,
        mut act: impl FnMut(&mut HandleTable, u64) -> Result<R, Refused>,
    ) -> Result<R, Errno> {
        let limit = self.limits.of(Resource::Handles);
        loop {
            let result = act(&mut self.handles(), limit);
            match result {
                Ok(done) => return Ok(done),
                Err(Refused::Errno(errno)) => return Err(errno),
                Err(Refused::NoChunk(fd)) => {
                    let room = Room::new()?;
                    let left_over = self.handles().extend(fd, room);
                    drop(left_over);
                }
            }
        }
    }

    /// Binds `port`, or nothing, for messages of a kind.
    pub fn bind(&self, binding: Binding, port: Option<Port>) {
        let bit = 1 << binding as u8;
        let before = {
            let mut bindings = self.bindings.lock();
            let is = port.is_some();
            let was = match is {
                true => self.bound.fetch_or(bit, Ordering::Relaxed) & bit != 0,
                false => self.bound.fetch_and(!bit, Ordering::Relaxed) & bit != 0,
            };
            let count = &BOUND[binding as usize];
            match (was, is) {
                (false, true) => _ = count.fetch_add(1, Ordering::Relaxed),
                (true, false) => _ = count.fetch_sub(1, Ordering::Relaxed),
                _ => {}
            }
            core::mem::replace(&mut bindings[binding as usize], port)
        };
        drop(before);
    }

    /// Whether any process has something bound, to look at before looking at one.
    #[inline]
    pub fn any_is_bound(binding: Binding) -> bool {
        BOUND[binding as usize].load(Ordering::Relaxed) != 0
    }

    /// Whether something is bound.
    #[inline]
    pub fn is_bound(&self, binding: Binding) -> bool {
        self.bound.load(Ordering::Relaxed) & 1 << binding as u8 != 0
    }

    /// What is bound.
    pub fn binding(&self, binding: Binding) -> Option<Port> {
        match self.is_bound(binding) {
            true => self.bindings.lock()[binding as usize].clone(),
            false => None,
        }
    }

    /// Threads that wait for its end.
    pub fn waiters(&self) -> SpinGuard<'_, Parked, rank::Endpoint> {
        self.waiters.lock()
    }

    /// Whether its end is over: its memory and its handles are back.
    pub fn is_buried(&self) -> bool {
        self.buried.load(Ordering::SeqCst)
    }

    /// Threads that wait for its map.
    pub fn parked(&self) -> SpinGuard<'_, Parked, rank::Endpoint> {
        self.parked.lock()
    }

    /// Signal dispositions.
    pub fn dispositions(&self) -> &Dispositions {
        &self.dispositions
    }

    /// Whether it is ending: its threads do not return to EL0.
    #[inline]
    pub fn is_dying(&self) -> bool {
        self.dying.load(Ordering::Relaxed)
    }

    /// Ticks that its threads have run, up to their last switch.
    pub fn runtime(&self) -> u64 {
        self.runtime.load(Ordering::Relaxed)
    }

    /// A thread has run for `ticks`.
    pub fn add_runtime(&self, ticks: u64) {
        self.runtime.fetch_add(ticks, Ordering::Relaxed);
    }

    /// A thread record has come (+1) or gone (-1).
    pub fn count_thread(&self, change: i32) {
        self.records.fetch_add(change as u32, Ordering::AcqRel);
    }

    /// Whether no thread record is left: only then nobody but its last owner knows the process.
    pub fn is_deserted(&self) -> bool {
        self.records.load(Ordering::Acquire) == 0
    }

    /// Number of its threads.
    pub fn thread_count(&self) -> usize {
        self.threads.lock().len()
    }

    /// Whether `holds` is true of every thread.
    pub fn all_threads(&self, holds: &dyn Fn(&Thread) -> bool) -> bool {
        self.threads.lock().iter().all(|thread| holds(thread))
    }

    /// Takes a new thread in. The first one gives the process its number.
    ///
    /// # Errors
    /// `EAGAIN`: too many threads, no memory for the list, or the process is ending.
    pub fn add_thread(&self, thread: &Ref<Thread>) -> Result<(), Errno> {
        let mut threads = self.threads.lock();
        let most = self.limits.of(Resource::Threads);
        let most = most.min(THREADS_MAX as u64) as usize;
        let full = threads.len() >= most || threads.try_reserve(1).is_err();
        if full || self.is_dying() {
            return Err(Errno::EAGAIN);
        }
        threads.push(thread.clone());
        let _first =
            self.pid
                .compare_exchange(0, thread.tid(), Ordering::Relaxed, Ordering::Relaxed);
        Ok(())
    }

    /// The thread with this number.
    pub fn thread(&self, tid: u32) -> Option<Ref<Thread>> {
        self.threads
            .lock()
            .iter()
            .find(|thread| thread.tid() == tid)
            .cloned()
    }

    /// Takes out a thread that has left its CPU for good; the last one takes the process with it.
    pub fn remove_thread(&self, thread: &Ref<Thread>) {
        let mut threads = self.threads.lock();
        let at = threads.iter().position(|other| Ref::ptr_eq(other, thread));
        let removed = at.map(|at| threads.swap_remove(at));
        let last = threads.is_empty();
        drop(threads);
        if removed.is_some() && last {
            let status = self.last_status.load(Ordering::Relaxed);
            self.end.lock().get_or_insert(End::Exited(status));
            self.dying.store(true, Ordering::SeqCst);
            Self::begin_end(thread.process());
        }
        drop(removed);
    }

    /// Remembers what a thread's own exit said: if all threads end one by one, the last one's is
    /// the status of the process (as on Linux since 5.17).
    pub fn set_last_status(&self, status: u32) {
        self.last_status.store(status, Ordering::Relaxed);
    }

    /// How it ended.
    pub fn end(&self) -> Option<End> {
        *self.end.lock()
    }

    /// Ends the process: the first reason counts. Threads that run on other CPUs are interrupted,
    /// parked ones are woken to die, the current one dies on its way out of the kernel.
    pub fn finish(process: &Ref<Self>, end: End) {
        process.end.lock().get_or_insert(end);
        if process.dying.swap(true, Ordering::SeqCst) {
            return;
        }
        // Pairs with the barrier in `ParkWord::begin`.
        fence(Ordering::SeqCst);
        sched::this().attend();
        sched::interrupt_others();
        let count = process.thread_count();
        match count {
            0 => return Self::begin_end(process),
            count => process.to_wake.store(count as u32, Ordering::Relaxed),
        }
        work::add(process.clone());
    }

    /// No thread is left: what remains is a matter of [`Self::work`].
    fn begin_end(process: &Ref<Self>) {
        if !process.ends.swap(true, Ordering::AcqRel) {
            *process.ending.lock() = Some(Ending::Children);
            work::add(process.clone());
        }
    }

    /// One step of what it has to do. Several CPUs may be at it at once; each part is done by one.
    pub fn work(process: &Ref<Self>) -> Progress {
        let mut progress = Progress::Done;
        if process.wakes_parked.swap(false, Ordering::AcqRel) && process.wake_some_parked() {
            process.wakes_parked.store(true, Ordering::Release);
            progress = Progress::More;
        }
        let left = process.to_wake.swap(0, Ordering::AcqRel);
        if left != 0 {
            let left = process.wake_to_die(left as usize);
            process.to_wake.store(left as u32, Ordering::Release);
            if left != 0 {
                progress = Progress::More;
            }
        }
        let Some(ending) = process.take_ending() else {
            return progress;
        };
        let (next, when) = ending.step(process);
        if next.is_some() {
            *process.ending.lock() = next;
        }
        match progress {
            Progress::More => progress,
            _ => when,
        }
    }

    fn take_ending(&self) -> Option<Ending> {
        self.ending.lock().take()
    }

    /// Ends all processes below, and whether there are none any more.
    pub fn end_children(&self) -> bool {
        let mut at = 0;
        loop {
            let child = self.children.lock().get(at).cloned();
            let Some(child) = child else { return at == 0 };
            let pc = 0;
            let (signal, code, addr) = (signal::KILL, "PARENT_ENDED", 0);
            let ended = End::Killed {
                signal,
                code,
                addr,
                pc,
            };
            if !child.is_dying() {
                Self::finish(&child, ended);
            }
            at += 1;
        }
    }

    /// The last step of the end of a process that has one above it: nobody above has to wait for it, or
    /// count for it, any more.
    pub fn bury(&self) {
        if let Some(parent) = &self.parent {
            parent.take_back(self);
            let removed = {
                let mut children = parent.children.lock();
                let me = self.space.id();
                let at = children.iter().position(|child| child.space.id() == me);
                at.map(|at| children.swap_remove(at))
            };
            self.buried.store(true, Ordering::SeqCst);
            ending::announce(self);
            for binding in Binding::ALL {
                self.bind(binding, None);
            }
            self.wake_waiters();
            drop(removed);
        }
    }

    /// Wakes those who wait for its end. There are few.
    fn wake_waiters(&self) {
        loop {
            let next = self
                .waiters
                .lock()
                .remove_first(|thread| thread.park().claim_any());
            let Some(thread) = next else { return };
            self.tell_end(thread.context());
            // Who has waited does not keep the record.
            drop(thread.ipc().take_waits_for());
            wait::finish_dequeued(thread);
        }
    }

    /// Writes how it ended to the registers of who waits for it.
    pub fn tell_end(&self, context: &Context) {
        let words = match self.end().unwrap_or(End::Exited(0)) {
            End::Exited(status) => [0, 0, u64::from(status & 0xff), 0, 0],
            End::Killed {
                signal, addr, pc, ..
            } => [0, 1, signal.into(), addr, pc],
        };
        for (n, word) in words.into_iter().enumerate() {
            context.set(n, word);
        }
    }

    /// Wakes some parked threads of an ending process: those in the list before `end`, from the
    /// back, so that threads that leave meanwhile make none be missed. Returns where to go on.
    pub fn wake_to_die(&self, end: usize) -> usize {
        let mut at = end;
        for _ in 0..BATCH {
            let threads = self.threads.lock();
            at = at.min(threads.len());
            let Some(next) = at.checked_sub(1) else {
                return 0;
            };
            at = next;
            let sleeper = Some(&threads[at])
                .filter(|thread| thread.park().claim_any())
                .cloned();
            drop(threads);
            if let Some(thread) = sleeper {
                wait::finish(thread);
            }
        }
        at
    }

    /// Wakes the threads that wait for the map, some now and the rest as a work item.
    pub fn wake_parked(process: &Ref<Self>) {
        if process.wake_some_parked() {
            process.wakes_parked.store(true, Ordering::Release);
            work::add(process.clone());
        }
    }

    /// Wakes a batch of them; whether there are more.
    pub fn wake_some_parked(&self) -> bool {
        for _ in 0..BATCH {
            // Claimed under the lock: as long as it is queued, its sleep is the one that it queued
            // for. One that somebody else has claimed is on its way out of the queue.
            let next = self
                .parked
                .lock()
                .remove_first(|thread| thread.park().claim_any());
            let Some(thread) = next else { return false };
            wait::finish_dequeued(thread);
        }
        true
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for binding in Binding::ALL {
            self.bind(binding, None);
        }
        if let Some(parent) = &self.parent {
            parent.take_back(self);
        }
    }
}

impl core::fmt::Debug for Process {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Process({})", self.pid())
    }
}
