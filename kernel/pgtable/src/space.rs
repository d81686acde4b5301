//! Page tables as owned objects: kinds of space, root word, ownership of tables.

use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use arm64::addr::PhysAddr;
use arm64::geometry::{Geometry, Level};
use frame::TableFrame;
use sync::SpinLock;
use sync::atomic::AtomicU64;
use sync::rank;

use crate::TableError;
use crate::machine::Machine;
use crate::slot::{ReadSide, TableRef};
use crate::stats::TableStats;
use crate::table;
use crate::tlb::Torn;

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

/// The translation tables of one space: owns every table under its root.
pub struct PageTable<K: Kind, M: Machine> {
    machine: &'static M,
    owner: Owner,
    geometry: Geometry,
    word: AtomicU64,
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
        let root = table::construct(machine, level, space.owner)?;
        space.stats.count_made(level);
        let word = RootWord::new(table::link(root), geometry.levels() as u8);
        space.word.store(word.0, Ordering::Release);
        Ok(space)
    }

    fn empty(machine: &'static M, id: u32, geometry: Geometry, word: RootWord) -> Self {
        Self {
            machine,
            owner: Owner { id, kind: K::KIND },
            geometry,
            word: AtomicU64::new(word.0),
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
            table::adopt_tree(
                machine,
                &space.stats,
                space.owner,
                root,
                geometry.root_level(),
            )?
        };
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

    /// Index widths and range.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Root and levels, read together.
    #[inline]
    pub fn root_word(&self) -> RootWord {
        RootWord(self.word.load(Ordering::Acquire))
    }

    /// Tables made and detached in this space.
    pub fn stats(&self) -> &TableStats {
        &self.stats
    }

    pub(crate) fn serial(&self) -> &K::Serial {
        &self.serial
    }

    #[inline(always)]
    pub(crate) fn root<'g>(&self, _section: &ReadSide<'g>) -> TableRef<'g> {
        let word = self.root_word();
        // SAFETY: law 8: the root lives as long as its space, and the caller borrows the space
        // during a read-side section, which a root's destructor waits for.
        unsafe { TableRef::new(self.machine.frames(), word.root(), word.root_level()) }
    }

    pub(crate) fn construct(&self, level: Level) -> Result<TableFrame, TableError> {
        let frame = table::construct(self.machine, level, self.owner)?;
        self.stats.count_made(level);
        Ok(frame)
    }

    /// Destructs a table that was never linked.
    pub(crate) fn discard(&self, frame: TableFrame, level: Level) {
        self.stats.count_freed(level);
        table::destruct(self.machine, frame);
    }
}

impl<M: Machine> PageTable<User, M> {
    /// Ends the space: its root, the last table, goes the way of every table. The space must be
    /// empty (all ranges zapped) and loaded on no CPU.
    pub fn retire(&mut self, torn: &mut Torn) {
        let stay = ();
        let section = self.machine.read_side(&stay);
        let root = self.root(&section);
        debug_assert_eq!(root.entry_count(), 0, "law 8: a root is retired empty");
        self.stats.count_freed(root.level());
        // SAFETY: law 8: the space owns its root, and `&mut self` says that it ends here.
        torn.push_table(unsafe { table::detach(self.machine, root.pa()) });
    }
}

impl<K: Kind, M: Machine> core::fmt::Debug for PageTable<K, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PageTable")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}
