//! Page tables as owned objects: kinds of space, root word, ownership of tables.

use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use arm64::addr::PhysAddr;
use arm64::geometry::{Geometry, Level, MAX_LEVELS};
use frame::TableFrame;
use sync::SpinLock;
use sync::atomic::AtomicU64;
use sync::planted::{self, Fault};
use sync::rank;

use crate::TableError;
use crate::asid::AsidCell;
use crate::gather::Gather;
use crate::lock::Guard;
use crate::machine::Machine;
use crate::slot::{ReadSide, TableRef};
use crate::stats::TableStats;
use crate::table;

pub use frame::SpaceKind;

mod sealed {
    pub trait Sealed {}
}

/// What a space kind means to the type system: the one place where policy differs between kinds
/// (CTOR-07). User spaces have split locks, grow on demand and are torn down; `init_mm` is
/// serialised by its edit token, never folded and never torn down; special spaces (identity map,
/// reserved root) are private until published and unchanged afterwards.
pub trait Kind: sealed::Sealed + 'static {
    /// The value stored in each table's descriptor.
    const KIND: SpaceKind;
    /// What serialises changes, beside the split locks that only user tables have (CTOR-09).
    type Serial: Sync + Send;
    /// A fresh serialiser.
    fn serial() -> Self::Serial;
}

/// Kind of process spaces.
#[derive(Debug)]
pub enum User {}
/// Kind of `init_mm`.
#[derive(Debug)]
pub enum Kernel {}
/// Kind of spaces which never change once published.
#[derive(Debug)]
pub enum Special {}

impl sealed::Sealed for User {}
impl sealed::Sealed for Kernel {}
impl sealed::Sealed for Special {}

impl Kind for User {
    const KIND: SpaceKind = SpaceKind::User;
    type Serial = ();
    fn serial() {}
}

impl Kind for Kernel {
    const KIND: SpaceKind = SpaceKind::Kernel;
    type Serial = SpinLock<(), rank::Table>;
    fn serial() -> Self::Serial {
        SpinLock::new(())
    }
}

impl Kind for Special {
    const KIND: SpaceKind = SpaceKind::Special;
    type Serial = ();
    fn serial() {}
}

/// Whose table it is: the number of the space and its kind. There is no unknown owner (CTOR-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Number of the space; 1 is `init_mm`.
    pub id: u32,
    /// Its kind.
    pub kind: SpaceKind,
}

/// Root and number of levels as one word, so that they are always read together (D12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootWord(u64);

impl RootWord {
    const LEVELS: u64 = 7;

    /// Packs a page-aligned root and its number of levels, 2 to 5.
    pub const fn new(root: PhysAddr, levels: u8) -> Self {
        Self(root.raw() | levels as u64)
    }

    /// The word.
    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    /// Physical address of the root table.
    pub const fn root(self) -> PhysAddr {
        PhysAddr::new(self.0 & !0xfff)
    }

    /// Number of levels under and with the root.
    pub const fn levels(self) -> u8 {
        (self.0 & Self::LEVELS) as u8
    }

    /// Level of the root table: a walk of `n` levels ends at level 3.
    pub const fn root_level(self) -> Level {
        match self.levels() {
            5 => Level::Lm1,
            4 => Level::L0,
            3 => Level::L1,
            _ => Level::L2,
        }
    }
}

/// How many numbers of levels there are to have a shape for, 0 included.
const SHAPES: usize = MAX_LEVELS + 1;

/// The translation tables of one space: owns every table under its root.
pub struct PageTable<K: Kind, M: Machine> {
    machine: &'static M,
    owner: Owner,
    /// The shape that the space has with so many levels: a space that grows keeps its lower ones.
    shapes: [Geometry; SHAPES],
    /// Levels at the beginning. Roots of fewer levels than now are tables like others, but stay.
    first_levels: u8,
    word: AtomicU64,
    asid: AsidCell,
    stats: TableStats,
    serial: K::Serial,
    _kind: PhantomData<K>,
}

impl<K: Kind, M: Machine> PageTable<K, M> {
    /// A space with an empty root.
    ///
    /// # Errors
    /// [`TableError::NoMemory`] or [`TableError::Refused`]; nothing is left behind.
    pub fn new(machine: &'static M, id: u32, geometry: Geometry) -> Result<Self, TableError> {
        let space = Self::empty(machine, id, geometry, RootWord::new(PhysAddr::new(0), 0));
        let level = geometry.root_level();
        let root = space.construct(&geometry, level)?;
        let word = RootWord::new(table::link(root), geometry.levels() as u8);
        space.word.store(word.0, Ordering::Release);
        Ok(space)
    }

    fn empty(machine: &'static M, id: u32, geometry: Geometry, word: RootWord) -> Self {
        let mut shapes = [geometry; SHAPES];
        let mut next = Some(geometry);
        while let Some(shape) = next {
            shapes[shape.levels()] = shape;
            next = shape.grown();
        }
        Self {
            machine,
            owner: Owner { id, kind: K::KIND },
            shapes,
            first_levels: geometry.levels() as u8,
            word: AtomicU64::new(word.0),
            asid: AsidCell::new(),
            stats: TableStats::new(),
            serial: K::serial(),
            _kind: PhantomData,
        }
    }

    /// Takes over tables made before the allocator existed: constructs a descriptor for every
    /// table under `root` and calls the constructor hook for it (CTOR-11, CTOR-18).
    ///
    /// # Errors
    /// [`TableError::BadRange`] if a table lies outside of RAM or is reached twice.
    ///
    /// # Safety
    /// The tree under `root` is well formed, of this geometry, used by nobody else, and its frames
    /// are classed as boot image, so that nobody owns them (law 8).
    pub unsafe fn adopt(
        machine: &'static M,
        id: u32,
        geometry: Geometry,
        root: PhysAddr,
    ) -> Result<Self, TableError> {
        let space = Self::empty(
            machine,
            id,
            geometry,
            RootWord::new(root, geometry.levels() as u8),
        );
        // SAFETY: law 8, passed on from this function's contract.
        unsafe {
            let level = geometry.root_level();
            table::adopt_tree(machine, &space.stats, &geometry, space.owner, root, level)?;
        }
        Ok(space)
    }

    /// The machine under the space.
    pub fn machine(&self) -> &'static M {
        self.machine
    }

    /// Number and kind.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Index widths and range, with the levels that the space has now.
    #[inline]
    pub fn geometry(&self) -> &Geometry {
        self.shape(self.root_word())
    }

    #[inline(always)]
    pub(crate) fn shape(&self, word: RootWord) -> &Geometry {
        &self.shapes[usize::from(word.levels()) % SHAPES]
    }

    /// Root and levels, read together.
    #[inline]
    pub fn root_word(&self) -> RootWord {
        RootWord(self.word.load(Ordering::Acquire))
    }

    /// The word, for the one who grows the space.
    pub(crate) fn word(&self) -> &AtomicU64 {
        &self.word
    }

    /// The identifier under which the space's translations are in the TLB.
    pub fn asid_cell(&self) -> &AsidCell {
        &self.asid
    }

    /// The identifier as it is now; read after [`Machine::before_invalidate`] where it matters.
    #[inline]
    pub fn asid(&self) -> u16 {
        self.asid.current()
    }

    /// Tables made and detached in this space.
    pub fn stats(&self) -> &TableStats {
        &self.stats
    }

    pub(crate) fn serial(&self) -> &K::Serial {
        &self.serial
    }

    /// The root and its shape, by one load of the word.
    #[inline(always)]
    pub(crate) fn root<'g>(&'g self, _section: &ReadSide<'g>) -> TableRef<'g> {
        self.root_of(self.root_word())
    }

    #[inline(always)]
    pub(crate) fn root_of(&self, word: RootWord) -> TableRef<'_> {
        let (frames, shape) = (self.machine.frames(), self.shape(word));
        // SAFETY: law 8: a root, former ones included, lives as long as its space, and the caller
        // borrows the space during a read-side section, which a root's destructor waits for.
        unsafe { TableRef::new(frames, shape, word.root(), shape.root_level()) }
    }

    pub(crate) fn construct(
        &self,
        shape: &Geometry,
        level: Level,
    ) -> Result<TableFrame, TableError> {
        let frame = table::construct(self.machine, shape, level, self.owner)?;
        self.stats.count_made(level);
        Ok(frame)
    }

    /// Destructs a table that was never linked.
    pub(crate) fn discard(&self, frame: TableFrame, level: Level) {
        self.stats.count_freed(level);
        table::destruct(self.machine, frame);
    }

    /// Whether `table` is, or was before the space grew, the root: CPUs may have it loaded, so it
    /// is unlinked only with the space.
    pub(crate) fn was_root(&self, table: &TableRef<'_>, va: u64) -> bool {
        let first = self.shapes[usize::from(self.first_levels)];
        let old = table.level() <= first.root_level() && first.contains(va);
        old && !planted::is(Fault::FreeFormerRoot) || table.pa() == self.root_word().root()
    }
}

/// The guard of `table` for a holder of the space's serialiser: the split lock of a user table,
/// nothing more for the others.
///
/// # Safety
/// In a kernel or special space the caller holds what serialises the space.
#[inline(always)]
pub(crate) unsafe fn guard<'l, K: Kind>(table: &TableRef<'_>) -> Guard<'l> {
    match K::KIND {
        SpaceKind::User => Guard::lock(table),
        // SAFETY: by this function's contract.
        SpaceKind::Kernel | SpaceKind::Special => unsafe { Guard::whole_space(table) },
    }
}

impl<M: Machine> PageTable<User, M> {
    /// Ends the space: its root, and the former ones under it, go the way of every table. The
    /// space must be empty (all ranges zapped) and loaded on no CPU.
    pub fn retire(&mut self, gather: &mut Gather) {
        let mut table = self.root_of(self.root_word());
        loop {
            let first = table.load(0, Ordering::Relaxed);
            let below = crate::walk::step(self.machine, table, first);
            debug_assert_eq!(
                table.entry_count(),
                u32::from(below.is_some()),
                "law 8: a root is retired empty"
            );
            self.stats.count_freed(table.level());
            // SAFETY: law 8: the space owns its roots, and `&mut self` says that it ends here.
            gather.tear_table(unsafe { table::detach(self.machine, table.pa()) });
            match below {
                Some(below) => table = below,
                None => break,
            }
        }
        gather.drop_all();
        self.machine.stats().events().absorb(self.stats.events());
    }
}

impl<K: Kind, M: Machine> core::fmt::Debug for PageTable<K, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PageTable")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}
