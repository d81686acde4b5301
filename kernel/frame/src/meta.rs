//! The record of one frame.
//!
//! The layout is fixed, little endian, because a reader outside of the kernel decodes it from a
//! dump of RAM with code of its own (DESIGN §5, T5):
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 4 | references to a user frame; 0 for every other class |
//! | 4 | 1 | class: see [`Class`] |
//! | 5 | 1 | order of the block the frame belongs to |
//! | 6 | 1 | level of a table plus 2 (level −1 is 1 … level 3 is 5); 0 otherwise |
//! | 7 | 1 | state of a table: see [`TableState`] |
//! | 8 | 4 | id of the space that owns a table: 0 none, 1 `init_mm`; of the first frame of a block of user frames: number of the memory object they are pages of, 0 none |
//! | 12 | 1 | kind of that space: see [`SpaceKind`]; 0 none; of a frame of class user: 128 if an entry for it was dirty when it was taken away, until somebody asks; 64 if its allocation tags may be shown, 32 while they are being made |
//! | 13 | 1 | a free frame: 1 heads a block in the buddy lists, 2 is in a per-CPU list; of free tag storage: 3 is in its pool |
//! | 14 | 2 | frames between the head of an allocated block and this one |
//! | 16 | 4 | lock word of a table: 0 free, else CPU + 1 |
//! | 20 | 4 | live entries of a table; of the first frame of a block of tag storage: 0 data, 1 changing, 1 + n the tags of n pages |
//! | 24 | 8 | frame number of the previous block in a free list; all ones: none |
//! | 32 | 8 | frame number of the next one; all ones: none |
//! | 40 | 8 | first frame of a chunk of tables: place of its first spare frame, and how many in the upper half; a page in tag storage: its index in its object |
//! | 48 | 8 | first frame of a chunk: frame number of the previous chunk with spare frames; all ones: none |
//! | 56 | 8 | first frame of a chunk: frame number of the next one; all ones: none |
//!
//! The last three are zero in all other records, and are there for folios and the reverse map.
//!
//! All fields are atomics: a record may be looked at by anyone at any time (a lockless walker, a
//! report), and a shared reference to it is all that anyone ever has.

use arm64::geometry::Level;
use sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use sync::{LockWord, RefCount, const_fn, rank};

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// No such frame.
    Absent = 0,
    /// Known, but not the allocator's (yet).
    Reserved = 1,
    /// Free.
    Free = 2,
    /// The kernel image and what it was booted with.
    Image = 3,
    /// A translation table.
    Table = 4,
    /// A page that EL0 may map.
    User = 5,
    /// Small kernel objects.
    Slab = 6,
    /// A kernel stack.
    Stack = 7,
    /// The small kernel heap.
    KernelHeap = 8,
    /// Frame records.
    MemMap = 9,
    /// The initial RAM disk.
    Initrd = 10,
    /// The kernel's, for another purpose.
    Kernel = 11,
    /// A user page in tag storage: it can never carry tags itself.
    Untaggable = 12,
    /// Present, but withheld (a bank not online).
    Offline = 13,
    /// In a chunk set aside for tables, and no table at this moment.
    Spare = 14,
    /// Tag storage that holds nothing.
    TagFree = 15,
    /// Tag storage that holds tags.
    Tags = 16,
}

/// The number of classes.
pub const CLASSES: usize = 17;

impl Class {
    /// Every class, in the order of their numbers.
    pub const ALL: [Self; CLASSES] = [
        Self::Absent,
        Self::Reserved,
        Self::Free,
        Self::Image,
        Self::Table,
        Self::User,
        Self::Slab,
        Self::Stack,
        Self::KernelHeap,
        Self::MemMap,
        Self::Initrd,
        Self::Kernel,
        Self::Untaggable,
        Self::Offline,
        Self::Spare,
        Self::TagFree,
        Self::Tags,
    ];

    /// The class's name in statistics and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Reserved => "reserved",
            Self::Free => "free",
            Self::Image => "image",
            Self::Table => "table",
            Self::User => "user",
            Self::Slab => "slab",
            Self::Stack => "stack",
            Self::KernelHeap => "heap",
            Self::MemMap => "memmap",
            Self::Initrd => "initrd",
            Self::Kernel => "kernel",
            Self::Untaggable => "untaggable",
            Self::Offline => "offline",
            Self::Spare => "spare",
            Self::TagFree => "tag-free",
            Self::Tags => "tags",
        }
    }

    /// Whether the class is given by hand to ranges of a bank, not by an allocation.
    pub(crate) const fn is_set_by_hand(self) -> bool {
        matches!(
            self,
            Self::Reserved
                | Self::Image
                | Self::MemMap
                | Self::Initrd
                | Self::Kernel
                | Self::Stack
                | Self::KernelHeap
                | Self::Offline
        )
    }
}

/// The life of a translation table (requirements CTOR-01, CTOR-02).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TableState {
    /// Not a table.
    None = 0,
    /// Allocated and zeroed; nobody's yet, or destructed.
    Allocated = 1,
    /// Constructed: level, owner and kind are valid.
    Constructed = 2,
    /// Unlinked from its parent, waiting for the grace period before its destructor.
    Detached = 3,
}

/// The kinds of address space (CTOR-07); they differ in how their tables are serialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SpaceKind {
    /// A program's.
    User = 1,
    /// The kernel's (`init_mm`).
    Kernel = 2,
    /// The identity map and the window onto protected tables.
    Special = 3,
}

/// No frame, in list links.
pub(crate) const NONE: u64 = u64::MAX;
/// Values of byte 13.
pub(crate) const IN_BUDDY: u32 = 1 << 8;
pub(crate) const IN_CPU_LIST: u32 = 2 << 8;
pub(crate) const IN_POOL: u32 = 3 << 8;
/// Bits of byte 12 of a user frame.
const WRITTEN: u32 = 0x80;
const TAGGED: u32 = 0x40;
const INITIALISING: u32 = 0x20;

/// The record of a frame: 64 bytes, laid out as the head of `meta.rs` says.
#[repr(C, align(64))]
pub struct FrameMeta {
    pub(crate) refs: RefCount,
    /// Bytes 4 to 7: class, order, table level, table state. One word, so that a reader sees the
    /// four of them from one moment.
    kind: AtomicU32,
    owner: AtomicU32,
    /// Bytes 12 to 15: space kind, free state, offset from the head.
    place: AtomicU32,
    lock: LockWord<rank::Table>,
    live: AtomicU32,
    pub(crate) prev: AtomicU64,
    pub(crate) next: AtomicU64,
    /// Of the first frame of a chunk of tables: see `chunks.rs`.
    pub(crate) chunk: [AtomicU64; 3],
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<FrameMeta>() == 64 && align_of::<FrameMeta>() == 64);
    assert!(core::mem::offset_of!(FrameMeta, kind) == 4);
    assert!(core::mem::offset_of!(FrameMeta, owner) == 8);
    assert!(core::mem::offset_of!(FrameMeta, place) == 12);
    assert!(core::mem::offset_of!(FrameMeta, lock) == 16);
    assert!(core::mem::offset_of!(FrameMeta, live) == 20);
    assert!(core::mem::offset_of!(FrameMeta, prev) == 24);
    assert!(core::mem::offset_of!(FrameMeta, next) == 32);
    assert!(core::mem::offset_of!(FrameMeta, chunk) == 40);
    assert!(cfg!(target_endian = "little"));
};

impl FrameMeta {
    const_fn! {
        /// The record of a frame that is not there: all bytes are zero.
        pub const fn absent() -> Self {
            Self {
                refs: RefCount::new(0),
                kind: AtomicU32::new(0),
                owner: AtomicU32::new(0),
                place: AtomicU32::new(0),
                lock: LockWord::new(),
                live: AtomicU32::new(0),
                prev: AtomicU64::new(0),
                next: AtomicU64::new(0),
                chunk: [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)],
            }
        }
    }

    /// What the frame is at this moment.
    #[inline(always)]
    pub fn class(&self) -> Class {
        let number = (self.kind.load(Relaxed) & 0xff) as usize;
        assert!(number < CLASSES, "a frame record is damaged");
        Class::ALL[number]
    }

    /// Whether the frame is of `class`: one compare, where [`class`](Self::class) looks up a name.
    #[inline(always)]
    pub fn is(&self, class: Class) -> bool {
        self.kind.load(Relaxed) as u8 == class as u8
    }

    /// Whether the frame can be held as a [`UserFrame`](crate::UserFrame).
    #[inline(always)]
    pub fn is_user(&self) -> bool {
        let class = self.kind.load(Relaxed) as u8;
        class == Class::User as u8 || class == Class::Untaggable as u8
    }

    /// Whether the frame is a block of `class` by itself.
    #[inline(always)]
    pub(crate) fn is_single(&self, class: Class) -> bool {
        self.kind.load(Relaxed) == class as u32
    }

    /// The order of the block that the frame belongs to.
    #[inline(always)]
    pub fn order(&self) -> u8 {
        (self.kind.load(Relaxed) >> 8) as u8
    }

    /// The level of the table in this frame, if it has been constructed.
    pub fn table_level(&self) -> Option<Level> {
        match (self.kind.load(Relaxed) >> 16) as u8 {
            0 => None,
            coded => Level::from_number(coded as i8 - 2),
        }
    }

    /// Where the table in this frame is in its life.
    pub fn table_state(&self) -> TableState {
        match self.kind.load(Relaxed) >> 24 {
            1 => TableState::Allocated,
            2 => TableState::Constructed,
            3 => TableState::Detached,
            _ => TableState::None,
        }
    }

    /// The id of the space that owns the table in this frame, or, in the record of the first of a
    /// block of user frames, the number of the object whose pages they are; 0: none.
    #[inline]
    pub fn owner(&self) -> u32 {
        self.owner.load(Relaxed)
    }

    /// The kind of that space.
    pub fn space_kind(&self) -> Option<SpaceKind> {
        match self.place.load(Relaxed) as u8 {
            1 => Some(SpaceKind::User),
            2 => Some(SpaceKind::Kernel),
            3 => Some(SpaceKind::Special),
            _ => None,
        }
    }

    /// The lock of the table in this frame.
    #[inline(always)]
    pub fn table_lock(&self) -> &LockWord<rank::Table> {
        &self.lock
    }

    /// How many entries of the table in this frame are in use: the page-table engine's to keep.
    #[inline(always)]
    pub fn table_live(&self) -> &AtomicU32 {
        &self.live
    }

    /// The number of references to a user frame. For a frame inside a larger block, its head's
    /// record has the number.
    pub fn references(&self) -> u32 {
        self.refs.get()
    }

    /// Frames between the head of the allocated block and this one.
    #[inline(always)]
    pub fn head_offset(&self) -> u64 {
        u64::from(self.place.load(Relaxed) >> 16)
    }

    /// Remembers that the user frame was written by an entry that is none any more, or otherwise
    /// than by one.
    #[inline]
    pub(crate) fn set_written(&self) {
        if !self.is_written() {
            self.place.fetch_or(WRITTEN, Relaxed);
        }
    }

    /// Whether that is remembered.
    #[inline]
    pub(crate) fn is_written(&self) -> bool {
        self.place.load(Relaxed) & WRITTEN != 0
    }

    /// Forgets it; whether it was remembered.
    #[inline]
    pub(crate) fn take_written(&self) -> bool {
        self.is_written() && self.place.fetch_and(!WRITTEN, Relaxed) & WRITTEN != 0
    }

    /// Whether the tags of the user frame may be shown: they were written before.
    #[inline(always)]
    pub(crate) fn is_tagged(&self) -> bool {
        self.place.load(Acquire) & TAGGED != 0
    }

    /// Says so.
    #[inline(always)]
    pub(crate) fn set_tagged(&self) {
        self.place.fetch_or(TAGGED, Release);
    }

    /// As [`Self::is_tagged`], for who frees the frame.
    #[inline(always)]
    pub(crate) fn was_tagged(&self) -> bool {
        self.place.load(Relaxed) & TAGGED != 0
    }

    pub(crate) fn clear_tagged(&self) {
        self.place.fetch_and(!(TAGGED | INITIALISING), Relaxed);
    }

    /// Makes this the record of a frame of tag storage; `state` is 0 or [`IN_POOL`].
    pub(crate) fn set_storage(&self, class: Class, state: u32) {
        self.kind.store(class as u32, Relaxed);
        self.place.store(state, Relaxed);
    }

    pub(crate) fn set_index(&self, index: u64) {
        self.chunk[0].store(index, Relaxed);
    }

    pub(crate) fn index(&self) -> u64 {
        self.chunk[0].load(Relaxed)
    }

    pub(crate) fn is_in_pool(&self) -> bool {
        self.place.load(Relaxed) == IN_POOL
    }

    /// As [`Self::set_tagged`] for a frame that nobody else has: no atomic change.
    #[inline(always)]
    pub(crate) fn set_fresh_tagged(&self) {
        let place = self.place.load(Relaxed);
        self.place.store(place | TAGGED, Release);
    }

    /// Takes the right to write the tags of the user frame for the first time: one holder gets it.
    pub(crate) fn begin_tags(&self) -> bool {
        self.place.fetch_or(INITIALISING, Acquire) & (INITIALISING | TAGGED) == 0
    }

    /// Gives that right back.
    pub(crate) fn end_tags(&self) {
        self.place.fetch_and(!INITIALISING, Release);
    }

    /// Makes this the record of frame `offset` of an allocated block.
    #[inline(always)]
    pub(crate) fn set_allocated(&self, class: Class, order: u8, offset: u32) {
        self.kind
            .store(class as u32 | u32::from(order) << 8, Relaxed);
        self.place.store(offset << 16, Relaxed);
    }

    #[inline(always)]
    pub(crate) fn set_class(&self, class: Class) {
        self.kind.store(class as u32, Relaxed);
    }

    /// Makes this the record of a free frame; `state` is 0, [`IN_BUDDY`] or [`IN_CPU_LIST`].
    #[inline(always)]
    pub(crate) fn set_free(&self, order: u8, state: u32) {
        self.kind
            .store(Class::Free as u32 | u32::from(order) << 8, Relaxed);
        self.place.store(state, Relaxed);
    }

    /// Whether the frame heads a free block of `order` in the buddy lists.
    #[inline(always)]
    pub(crate) fn heads_free_block(&self, order: u8) -> bool {
        self.place.load(Relaxed) == IN_BUDDY && self.order() == order
    }

    #[inline(always)]
    pub(crate) fn is_in_cpu_list(&self) -> bool {
        self.place.load(Relaxed) == IN_CPU_LIST
    }

    /// Only the holder of the table frame calls this and its siblings, so nothing is lost between
    /// load and store.
    pub(crate) fn set_table_state(&self, state: TableState) {
        let rest = self.kind.load(Relaxed) & 0x00ff_ffff;
        self.kind.store(rest | (state as u32) << 24, Relaxed);
    }

    pub(crate) fn set_table_level(&self, level: Level) {
        let rest = self.kind.load(Relaxed) & 0xff00_ffff;
        let coded = (level.number() + 2) as u32;
        self.kind.store(rest | coded << 16, Relaxed);
    }

    pub(crate) fn set_owner(&self, space: u32, kind: SpaceKind) {
        self.owner.store(space, Relaxed);
        self.place.store(kind as u32, Relaxed);
    }

    /// Says which object the pages of a block of user frames are; 0: none.
    #[inline(always)]
    pub(crate) fn set_object(&self, number: u32) {
        self.owner.store(number, Relaxed);
    }

    /// Undoes all of the above before the frame goes back.
    pub(crate) fn clear_table(&self) {
        self.owner.store(0, Relaxed);
        self.live.store(0, Relaxed);
    }
}

impl core::fmt::Debug for FrameMeta {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} order {}", self.class().name(), self.order())?;
        if let Some(level) = self.table_level() {
            let (state, owner) = (self.table_state(), self.owner());
            write!(
                f,
                ", table level {} {state:?} of space {owner}",
                level.number()
            )?;
        }
        write!(f, ", {} references", self.references())
    }
}
