//! A machine over an arena of host memory.

use std::sync::Mutex;

use arm64::addr::PhysAddr;
use arm64::pte::Format;
use frame::{Class, Frames, arena};
use pgtable::{Invalidation, Machine, ReadSide, SpaceKind, TableDesc, TableError, TableStats};
use sync::atomic::{AtomicBool, AtomicU64, Ordering};
use sync::grace::Grace;

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
    synced: AtomicU64,
    records_access: AtomicBool,
}

impl HostMachine {
    /// A machine with `pages` free frames, CPU `cpus` online, descriptors as `format` has them.
    pub fn new(pages: u64, format: Format, cpus: usize) -> &'static Self {
        Self::over(arena::frames(pages), format, cpus)
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
            synced: AtomicU64::new(0),
            records_access: AtomicBool::new(false),
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

    /// Says that the hardware sets access flag and dirty state by itself.
    pub fn set_records_access(&self, on: bool) {
        self.records_access.store(on, Ordering::Relaxed);
    }

    /// The invalidations since the last call.
    pub fn take_invalidations(&self) -> Vec<Invalidation> {
        std::mem::take(
            &mut *self
                .invalidations
                .lock()
                .expect("no test panics while holding it"),
        )
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
        false
    }

    fn records_access(&self) -> bool {
        self.records_access.load(Ordering::Relaxed)
    }

    fn open_tables(&self) -> usize {
        0
    }

    fn close_tables(&self) {}

    fn invalidate(&self, what: Invalidation) {
        self.invalidations
            .lock()
            .expect("no test panics while holding it")
            .push(what);
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
}
