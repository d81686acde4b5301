//! The machine of tests that look for what QEMU cannot show: [`HostMachine`] with the model's MMU.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use arm64::addr::{Pfn, PhysAddr};
use arm64::geometry::Level;
use arm64::pte::{Format, Pte};
use frame::Frames;
use pgtable::activation::{Activation, Needs, Step, steps};
use pgtable::{
    Invalidation, Machine, PageTable, Pause, ReadSide, SpaceKind, TableDesc, TableError,
    TableStats, User,
};
use sync::grace::Grace;

use crate::agent::Records;
use crate::host::HostMachine;
use crate::mmu::{Mmu, Setup, Translation};
use crate::report::Violation;
use crate::walker::Tables;

/// What runs at the engine's pause points.
pub type Hook = Box<dyn FnMut(Pause) + Send>;

/// Memory, an MMU and a script for its pause points. Lives until the test program ends.
pub struct ModelMachine {
    host: &'static HostMachine,
    cpus: usize,
    tables: Tables,
    records: Records,
    mmu: Mutex<Mmu>,
    hook: Mutex<Option<Hook>>,
    /// The hook runs now; it is not called for what it does itself.
    hooked: AtomicBool,
    bbm2: bool,
}

impl ModelMachine {
    /// A machine with `pages` free frames.
    pub fn new(pages: u64, setup: Setup, records: Records) -> &'static Self {
        let format = Format { lpa2: setup.lpa2 };
        let host = HostMachine::new(pages, format, setup.cpus);
        Box::leak(Box::new(Self {
            host,
            cpus: setup.cpus,
            tables: Tables::new(host.frames(), setup.lpa2),
            records,
            mmu: Mutex::new(Mmu::new(setup)),
            hook: Mutex::new(None),
            hooked: AtomicBool::new(false),
            bbm2: setup.bbm2,
        }))
    }

    /// The machine without its MMU: counts, refusals, invalidations.
    pub fn host(&self) -> &'static HostMachine {
        self.host
    }

    /// How many CPUs there are.
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// The MMU, to tell it of what the engine does not.
    pub fn mmu(&self) -> MutexGuard<'_, Mmu> {
        self.mmu.lock().expect("no panic while the model is held")
    }

    /// The tables as the hardware's walker sees them.
    pub fn tables(&self) -> Tables {
        self.tables
    }

    /// What the hardware records by itself.
    pub fn records(&self) -> Records {
        self.records
    }

    /// Runs `hook` at every pause point from now on, or nothing.
    pub fn set_hook(&self, hook: Option<Hook>) {
        *self.hook.lock().expect("no panic while the hook is held") = hook;
    }

    /// Runs `operation` as one of a CPU: when it returns, what it took away must be gone.
    pub fn operation<R>(&self, operation: impl FnOnce() -> R) -> R {
        self.mmu().begin_operation();
        let result = operation();
        self.mmu().end_operation();
        result
    }

    /// The CPU carries out the steps towards another root.
    pub fn run(&self, cpu: usize, steps: &[Step]) {
        let mut mmu = self.mmu();
        steps.iter().for_each(|&step| mmu.step(cpu, step));
    }

    /// The CPU comes to the space as it is now, by the engine's steps. `needs` is what its new
    /// identifier asks for.
    pub fn activate(&self, cpu: usize, space: &PageTable<User, Self>, needs: Needs) {
        let word = space.root_word();
        let regrown = space.asid_cell().changes_levels(cpu, word.levels());
        let needs = Needs {
            regrown: needs.regrown || regrown,
            ..needs
        };
        let target = Activation::new(word, space.asid());
        let loaded = self.mmu().t0sz(cpu);
        self.run(cpu, steps(loaded, &target, needs).as_slice());
    }

    /// The CPU is left with the reserved root.
    pub fn deactivate(&self, cpu: usize) {
        self.run(cpu, &[Step::ReservedRoot, Step::Isb]);
    }

    /// The CPU passes a quiescent state.
    pub fn quiescent(&self, cpu: usize) {
        self.host.grace().quiescent(cpu);
        self.mmu().quiescent(cpu);
    }

    /// Every CPU passes a quiescent state.
    pub fn pass_grace_period(&self) {
        (0..self.cpus).for_each(|cpu| self.quiescent(cpu));
    }

    /// Everything that the CPU may translate `va` to.
    pub fn translations(&self, cpu: usize, va: u64) -> Vec<Translation> {
        self.mmu().translations(cpu, va)
    }

    /// What was broken since the last call.
    pub fn take_violations(&self) -> Vec<Violation> {
        self.mmu().take_violations()
    }
}

impl Machine for ModelMachine {
    fn frames(&self) -> &'static Frames {
        self.host.frames()
    }

    fn format(&self) -> Format {
        self.host.format()
    }

    fn publish(&self, kind: SpaceKind) {
        self.host.publish(kind);
    }

    fn before_invalidate(&self) {
        self.mmu().before_invalidate();
    }

    fn invalidate(&self, what: Invalidation) {
        self.host.invalidate(what);
        self.mmu().invalidate(&what);
    }

    fn repaints_without_flush(&self) -> bool {
        self.bbm2
    }

    fn records_access(&self) -> bool {
        self.records.access && self.records.dirty
    }

    fn open_tables(&self) -> usize {
        self.host.open_tables()
    }

    fn close_tables(&self) {
        self.host.close_tables();
    }

    fn sync_instructions(&self, pa: PhysAddr) {
        self.host.sync_instructions(pa);
    }

    fn read_side<'g, T>(&self, stay: &'g T) -> ReadSide<'g> {
        self.host.read_side(stay)
    }

    fn grace(&self) -> &'static Grace {
        self.host.grace()
    }

    fn stats(&self) -> &'static TableStats {
        self.host.stats()
    }

    fn on_construct(&self, table: &TableDesc) -> Result<(), TableError> {
        self.host.on_construct(table)?;
        let entry = |index| {
            self.tables
                .read(table.pa.raw() + 8 * index as u64, table.level)
        };
        self.mmu().constructed(table, |index| entry(index).word);
        Ok(())
    }

    fn on_destruct(&self, table: &TableDesc) {
        self.host.on_destruct(table);
        self.mmu().destructed(table);
    }

    fn stored(&self, at: PhysAddr, level: Level, old: Pte, new: Pte) {
        self.mmu().stored(at, level, old, new);
    }

    fn released(&self, frame: Pfn) {
        self.mmu().released(frame);
    }

    fn pause(&self, at: Pause) {
        if at != Pause::BeforeExchange {
            // Else a block may be half changed.
            self.mmu().check_blocks();
        }
        if self.hooked.swap(true, Ordering::Acquire) {
            return;
        }
        let hook = self
            .hook
            .lock()
            .expect("no panic while the hook is held")
            .take();
        if let Some(mut hook) = hook {
            hook(at);
            let mut place = self.hook.lock().expect("no panic while the hook is held");
            place.get_or_insert(hook);
        }
        self.hooked.store(false, Ordering::Release);
    }
}
