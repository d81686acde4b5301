//! A machine over an arena of host memory.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use arm64::addr::PhysAddr;
use arm64::geometry::Level;
use arm64::pte::{Format, Pte};
use frame::{Class, Frames, arena};
use pgtable::{
    Conversion, Invalidation, Machine, Pause, ReadSide, SpaceKind, TableDesc, TableError,
    TableStats,
};
use sync::atomic::{AtomicBool, AtomicU64, Ordering};
use sync::grace::Grace;

thread_local! {
    /// Open write windows of this thread, which plays a CPU.
    static OPEN: Cell<u32> = const { Cell::new(0) };
}

/// Something the engine did, in the order of a [`HostMachine::take_log`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An entry changed.
    Stored {
        /// Where it is.
        at: PhysAddr,
        /// The level of its table.
        level: Level,
        /// What it was.
        old: Pte,
        /// What it is.
        new: Pte,
    },
    /// An invalidation was asked for.
    Invalidated(Invalidation),
    /// A write window was opened.
    Opened,
    /// It was closed.
    Closed,
}

/// What another CPU does when this one comes to a place.
type Step = (Pause, Box<dyn FnOnce() + Send>);

/// Memory, hooks and a record of what the engine asked for. Lives until the test program ends.
pub struct HostMachine {
    frames: &'static Frames,
    format: Format,
    grace: &'static Grace,
    stats: &'static TableStats,
    constructed: AtomicU64,
    destructed: AtomicU64,
    /// Constructions that still succeed.
    patience: AtomicU64,
    invalidations: Mutex<Vec<Invalidation>>,
    conversions: Mutex<Vec<Converted>>,
    log: Mutex<Option<Vec<Event>>>,
    script: Mutex<VecDeque<Step>>,
    synced: AtomicU64,
    records_access: AtomicBool,
    repaints_without_flush: AtomicBool,
}

/// A block that was made or taken apart: what, in which space, from where on, how many bytes.
pub type Converted = (Conversion, u32, u64, u64);

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics while holding it")
}

impl HostMachine {
    /// A machine with `pages` free frames, CPU `cpus` online, descriptors as `format` has them.
    pub fn new(pages: u64, format: Format, cpus: usize) -> &'static Self {
        Self::over(arena::frames(pages), format, cpus)
    }

    /// A machine with `pages` frames, of which a thirty-second is tag storage for all of them.
    pub fn with_tag_storage(pages: u64, format: Format, cpus: usize) -> &'static Self {
        Self::over(arena::frames_with_tag_storage(pages, 1), format, cpus)
    }

    /// A machine whose first `reserved` of `pages` frames are the boot image's, as boot tables are.
    pub fn with_reserved(pages: u64, format: Format, reserved: u64) -> &'static Self {
        let frames = arena::offline(pages);
        let all = arena::range(pages);
        let image = all.start..all.start.add(reserved);
        // SAFETY: the arena's records exist, zeroed, and nothing uses its memory.
        unsafe { frames.add_bank(all.clone()).expect("the first bank") };
        frames.set_class(image.clone(), Class::Image);
        // SAFETY: as above.
        unsafe { frames.release(image.end..all.end) };
        Self::over(frames, format, 1)
    }

    fn over(frames: &'static Frames, format: Format, cpus: usize) -> &'static Self {
        let grace: &'static Grace = Box::leak(Box::new(Grace::new()));
        (0..cpus).for_each(|cpu| grace.online(cpu));
        Box::leak(Box::new(Self {
            frames,
            format,
            grace,
            stats: Box::leak(Box::default()),
            constructed: AtomicU64::new(0),
            destructed: AtomicU64::new(0),
            patience: AtomicU64::new(u64::MAX),
            invalidations: Mutex::new(Vec::new()),
            conversions: Mutex::new(Vec::new()),
            log: Mutex::new(None),
            script: Mutex::new(VecDeque::new()),
            synced: AtomicU64::new(0),
            records_access: AtomicBool::new(false),
            repaints_without_flush: AtomicBool::new(false),
        }))
    }

    /// Calls of the constructor and the destructor hook.
    pub fn hook_calls(&self) -> (u64, u64) {
        (
            self.constructed.load(Ordering::Relaxed),
            self.destructed.load(Ordering::Relaxed),
        )
    }

    /// Lets the constructor hook refuse after `more` further tables.
    pub fn refuse_after(&self, more: u64) {
        self.patience.store(more, Ordering::Relaxed);
    }

    /// Takes what the engine has told of blocks.
    pub fn take_conversions(&self) -> Vec<Converted> {
        std::mem::take(&mut held(&self.conversions))
    }

    /// Says that the hardware sets access flag and dirty state by itself.
    pub fn set_records_access(&self, on: bool) {
        self.records_access.store(on, Ordering::Relaxed);
    }

    /// Says that contiguous blocks may be made and unmade without an invalidation in between.
    pub fn set_repaints_without_flush(&self, on: bool) {
        self.repaints_without_flush.store(on, Ordering::Relaxed);
    }

    /// The invalidations since the last call.
    pub fn take_invalidations(&self) -> Vec<Invalidation> {
        std::mem::take(&mut *held(&self.invalidations))
    }

    /// From here on everything is logged.
    pub fn start_log(&self) {
        *held(&self.log) = Some(Vec::new());
    }

    /// What was logged since [`Self::start_log`]; the log ends.
    pub fn take_log(&self) -> Vec<Event> {
        held(&self.log).take().unwrap_or_default()
    }

    fn note(&self, event: Event) {
        if let Some(log) = &mut *held(&self.log) {
            log.push(event);
        }
    }

    /// Adds a step to the script: when an operation comes to `at` and all earlier steps are done,
    /// `act` runs there, as another CPU's doing.
    pub fn script(&self, at: Pause, act: impl FnOnce() + Send + 'static) {
        held(&self.script).push_back((at, Box::new(act)));
    }

    /// Steps of the script that are still to come.
    pub fn script_left(&self) -> usize {
        held(&self.script).len()
    }

    /// Runs the next step of the script if `at` is its place.
    fn play(&self, at: Pause) {
        let next = held(&self.script).pop_front_if(|(place, _)| *place == at);
        if let Some((_, act)) = next {
            let windows_of_this_cpu = OPEN.replace(0);
            act();
            OPEN.set(windows_of_this_cpu);
        }
    }

    /// Pages made visible to instruction fetches.
    pub fn synced_pages(&self) -> u64 {
        self.synced.load(Ordering::Relaxed)
    }

    /// Lets every CPU up to `cpus` pass a quiescent state.
    pub fn pass_grace_period(&self, cpus: usize) {
        (0..cpus).for_each(|cpu| self.grace.quiescent(cpu));
    }

    /// Free frames, those in per-CPU lists included.
    pub fn free_frames(&self) -> u64 {
        self.frames.stats().free
    }
}

impl Machine for HostMachine {
    fn frames(&self) -> &'static Frames {
        self.frames
    }

    fn format(&self) -> Format {
        self.format
    }

    fn publish(&self, _kind: SpaceKind) {}

    fn before_invalidate(&self) {}

    fn repaints_without_flush(&self) -> bool {
        self.repaints_without_flush.load(Ordering::Relaxed)
    }

    fn records_access(&self) -> bool {
        self.records_access.load(Ordering::Relaxed)
    }

    fn open_tables(&self) -> usize {
        let open = OPEN.get();
        assert_eq!(open, 0, "XC-07: a write window inside a write window");
        OPEN.set(1);
        self.note(Event::Opened);
        0
    }

    fn close_tables(&self) {
        assert_eq!(OPEN.replace(0), 1, "XC-07: no write window to close");
        self.note(Event::Closed);
    }

    fn invalidate(&self, what: Invalidation) {
        held(&self.invalidations).push(what);
        self.note(Event::Invalidated(what));
    }

    fn sync_instructions(&self, _pa: PhysAddr) {
        self.synced.fetch_add(1, Ordering::Relaxed);
    }

    fn read_side<'g, T>(&self, stay: &'g T) -> ReadSide<'g> {
        // SAFETY: law 8: tests let CPUs pass quiescent states between operations only.
        unsafe { ReadSide::enter(stay) }
    }

    fn grace(&self) -> &'static Grace {
        self.grace
    }

    fn stats(&self) -> &'static TableStats {
        self.stats
    }

    fn on_construct(&self, _table: &TableDesc) -> Result<(), TableError> {
        let take = |left: u64| match left {
            u64::MAX => Some(left),
            _ => left.checked_sub(1),
        };
        let allowed = self
            .patience
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        allowed.map_err(|_| TableError::Refused)?;
        self.constructed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn on_destruct(&self, _table: &TableDesc) {
        self.destructed.fetch_add(1, Ordering::Relaxed);
    }

    fn stored(&self, at: PhysAddr, level: Level, old: Pte, new: Pte) {
        self.note(Event::Stored {
            at,
            level,
            old,
            new,
        });
    }

    fn converted(&self, what: Conversion, space: u32, va: u64, bytes: u64) {
        held(&self.conversions).push((what, space, va, bytes));
    }

    fn pause(&self, at: Pause) {
        self.play(at);
    }
}
