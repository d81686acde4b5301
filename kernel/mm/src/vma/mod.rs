//! Areas of a map: what may be where, and what fills it.

mod index;

use arm64::addr::PAGE_SIZE;
use arm64::attrs::Prot;
use bitflags::bitflags;
use frame::slab::Ref;

use crate::layout::STACK_GAP;
use crate::object::MemObject;

pub(crate) use index::AreaNodes;
pub use index::VmaIndex;

bitflags! {
    /// Properties of an area beside its rights. Areas that differ in any of them do not merge.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VmaFlags: u32 {
        /// Grows down to a fault below it, within the stack limit.
        const GROWSDOWN = 1;
        /// The main stack.
        const STACK = 1 << 1;
        /// The area moved by `brk`.
        const HEAP = 1 << 2;
        /// `MAP_NORESERVE`.
        const NORESERVE = 1 << 3;
        /// `MAP_SHARED`.
        const SHARED = 1 << 4;
        /// Its pages count as promised memory (`VM_ACCOUNT`): Linux keeps that of an area that was
        /// once writable, and does not merge it with one that never was.
        const ACCOUNT = 1 << 5;
        /// `MADV_HUGEPAGE`.
        const HUGEPAGE = 1 << 6;
        /// `MADV_NOHUGEPAGE`.
        const NOHUGEPAGE = 1 << 7;
        /// `MADV_RANDOM`.
        const RAND_READ = 1 << 8;
        /// `MADV_SEQUENTIAL`.
        const SEQ_READ = 1 << 9;
        /// `MADV_DONTFORK`.
        const DONTCOPY = 1 << 10;
        /// `MADV_DONTDUMP`.
        const DONTDUMP = 1 << 11;
        /// `MADV_WIPEONFORK`.
        const WIPEONFORK = 1 << 12;
        /// A userfaultfd decides about pages that are not there.
        const UFFD_MISSING = 1 << 13;
        /// A userfaultfd decides about writes to pages that it has marked.
        const UFFD_WP = 1 << 14;
        /// A userfaultfd decides about pages that the object has and the space has not mapped.
        const UFFD_MINOR = 1 << 15;
        /// `MADV_MERGEABLE`.
        const MERGEABLE = 1 << 18;
        /// Readable although nobody asked for that: what is written or executed can be read. It is
        /// shown as asked for, and other processes may not read it.
        const UNREAD = 1 << 19;
        /// Must not become writable: a shared mapping of an object that is sealed against writes.
        const NEVER_WRITE = 1 << 17;
        /// Must not become executable: a mapping through a handle without that right.
        const NEVER_EXEC = 1 << 16;

        /// `PROT_MTE`: its pages carry allocation tags. Never taken away (TAG-12).
        const MTE = 1 << 20;

        /// All modes of a userfaultfd.
        const UFFD = Self::UFFD_MISSING.bits() | Self::UFFD_WP.bits() | Self::UFFD_MINOR.bits();
    }
}

impl VmaFlags {
    /// Whether what others see is or may become writable through the area.
    pub const fn may_write_shared(self) -> bool {
        self.contains(Self::SHARED) && !self.contains(Self::NEVER_WRITE)
    }
}

/// The anonymous object of an area (D14): frames name it with their offset, and areas merge only
/// within one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnonOrigin {
    /// Number of the object in its space; 0 as long as no page was written. An area takes over the
    /// number of a neighbour that it continues.
    pub id: u32,
    /// How far the area has moved since its first page was written, wrapping: the page at `va` was
    /// first mapped at `va - shift`.
    pub shift: u64,
}

/// What fills the pages of an area.
#[derive(Clone, Debug)]
pub enum Backing {
    /// Zeros.
    Anon(AnonOrigin),
    /// A memory object: shared, or privately by copies.
    Object {
        /// The object.
        object: Ref<MemObject>,
        /// Offset in it of the area's first byte; a multiple of the page size.
        offset: u64,
        /// Where its private copies come from.
        copies: AnonOrigin,
    },
    /// Registers of a device, always shared: no pages that are counted, and none of the kernel's
    /// business.
    Device {
        /// Physical address of the area's first byte; a multiple of the page size.
        base: u64,
    },
}

impl Backing {
    /// Anonymous memory that nobody has touched.
    pub const ANON: Self = Self::Anon(AnonOrigin { id: 0, shift: 0 });

    /// An object from `offset` on.
    pub fn object(object: Ref<MemObject>, offset: u64) -> Self {
        let copies = AnonOrigin::default();
        Self::Object {
            object,
            offset,
            copies,
        }
    }

    /// Whether it is anonymous memory.
    #[inline(always)]
    pub fn is_anon(&self) -> bool {
        matches!(self, Self::Anon(_))
    }

    /// Which anonymous object its own pages belong to.
    #[inline(always)]
    pub fn origin(&self) -> AnonOrigin {
        match self {
            Self::Anon(origin) => *origin,
            Self::Object { copies, .. } => *copies,
            Self::Device { .. } => AnonOrigin::default(),
        }
    }

    /// As [`Self::origin`], to be changed; registers have none.
    pub(crate) fn origin_mut(&mut self) -> Option<&mut AnonOrigin> {
        match self {
            Self::Anon(origin) => Some(origin),
            Self::Object { copies, .. } => Some(copies),
            Self::Device { .. } => None,
        }
    }

    /// Gives its own pages the anonymous object `id`.
    pub(crate) fn set_origin(&mut self, id: u32) {
        if let Some(origin) = self.origin_mut() {
            origin.id = id;
        }
    }

    /// Whether its pages may carry tags: those of anonymous memory and of memory files, but not of
    /// images and of pagers, which Linux would call files.
    pub(crate) fn may_carry_tags(&self) -> bool {
        match self {
            Self::Anon(_) => true,
            Self::Object { object, .. } => object.is_plain(),
            Self::Device { .. } => false,
        }
    }

    /// Whether registers of a device are behind it.
    #[inline(always)]
    pub fn is_device(&self) -> bool {
        matches!(self, Self::Device { .. })
    }

    /// Lets it begin `by` bytes later.
    fn advance(&mut self, by: u64) {
        match self {
            Self::Anon(_) => {}
            Self::Object { offset: at, .. } | Self::Device { base: at } => *at += by,
        }
    }

    /// The backing of an area that begins `by` bytes later.
    fn advanced(&self, by: u64) -> Self {
        let mut later = self.clone();
        later.advance(by);
        later
    }

    /// Whether `next` goes on where this one ends after `len` bytes, private pages left aside.
    fn continues(&self, len: u64, next: &Self) -> bool {
        match (self, next) {
            (Self::Anon(_), Self::Anon(_)) => true,
            (
                Self::Object {
                    object: a,
                    offset: x,
                    ..
                },
                Self::Object {
                    object: b,
                    offset: y,
                    ..
                },
            ) => Ref::ptr_eq(a, b) && x + len == *y,
            (Self::Device { base: x }, Self::Device { base: y }) => x + len == *y,
            _ => false,
        }
    }
}

/// One area: `[start, end)`, page aligned, never empty. A published one does not change; a change
/// replaces it.
#[derive(Clone, Debug)]
pub struct Vma {
    /// First byte.
    pub start: u64,
    /// First byte behind.
    pub end: u64,
    /// Rights of the program.
    pub prot: Prot,
    /// Properties.
    pub flags: VmaFlags,
    /// What fills it.
    pub backing: Backing,
}

impl Vma {
    /// Whether another program, or another mapping, sees what is written.
    #[inline(always)]
    pub fn is_shared(&self) -> bool {
        self.flags.contains(VmaFlags::SHARED)
    }

    /// Whether a userfaultfd decides about any of its faults (`userfaultfd_armed`).
    #[inline(always)]
    pub fn userfaultfd_armed(&self) -> bool {
        self.flags.intersects(VmaFlags::UFFD)
    }

    /// The rights that entries get when they are changed without looking at their pages: the pages
    /// of an object that is mapped privately are not written in place.
    pub fn entry_prot(&self) -> Prot {
        entry_prot(self.prot, self.flags, &self.backing)
    }

    /// The object's page behind `va`.
    #[inline(always)]
    pub fn page_index(&self, offset: u64, va: u64) -> u64 {
        (offset + (va - self.start)) / PAGE_SIZE
    }

    /// The part of the area from `start` on.
    pub(crate) fn from(&self, start: u64) -> Self {
        Self {
            start,
            backing: self.backing.advanced(start - self.start),
            ..*self
        }
    }

    /// Ends the area at `at`; the part from there on.
    fn cut(&mut self, at: u64) -> Self {
        let upper = self.from(at);
        self.end = at;
        upper
    }

    /// Lets the area begin later, at `start`.
    fn begin_at(&mut self, start: u64) {
        self.backing.advance(start - self.start);
        self.start = start;
    }

    /// An area that goes on behind this one, as yet without an end of its own.
    pub(crate) fn behind(&self) -> Self {
        Self {
            start: self.end,
            backing: self.backing.advanced(self.bytes()),
            ..*self
        }
    }

    /// Bytes.
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }

    fn origins_agree(&self, next: &Self) -> bool {
        let (a, b) = (self.backing.origin(), next.backing.origin());
        a.shift == b.shift && (a.id == b.id || a.id == 0 || b.id == 0)
    }

    /// Whether `next` could belong to the same anonymous object: it differs in its rights at most.
    pub(crate) fn shares_origin_with(&self, next: &Self) -> bool {
        let differing = (self.flags ^ next.flags).difference(VmaFlags::UNREAD);
        self.end == next.start
            && differing.is_empty()
            && self.backing.origin().shift == next.backing.origin().shift
            && self.backing.continues(self.bytes(), &next.backing)
    }

    fn merges_with(&self, next: &Self) -> bool {
        self.shares_origin_with(next)
            && self.prot == next.prot
            && self.flags == next.flags
            && self.origins_agree(next)
    }

    /// Takes in `next`, which it merges with.
    fn absorb(&mut self, next: &Self) {
        self.end = next.end;
        if let Some(origin) = self.backing.origin_mut()
            && origin.id == 0
        {
            origin.id = next.backing.origin().id;
        }
    }

    /// Lowest address that others keep away from.
    fn guarded_start(&self) -> u64 {
        match self.flags.contains(VmaFlags::GROWSDOWN) {
            true => self.start.saturating_sub(STACK_GAP),
            false => self.start,
        }
    }
}

/// Whether mappings with these rights show tags (TAG-08): programs may read through them, and asked for
/// more than execution.
pub(crate) fn shows_tags(prot: Prot, flags: VmaFlags) -> bool {
    let exec_only = flags.contains(VmaFlags::UNREAD) && !prot.contains(Prot::WRITE);
    flags.contains(VmaFlags::MTE) && prot.contains(Prot::READ) && !exec_only
}

/// The rights that an area gets which was asked for with these, and the flag that goes with them.
pub(crate) fn rights(asked: Prot) -> (Prot, VmaFlags) {
    match asked.is_empty() || asked.contains(Prot::READ) {
        true => (asked, VmaFlags::empty()),
        false => (asked | Prot::READ, VmaFlags::UNREAD),
    }
}

/// As [`Vma::entry_prot`], for an area with other rights.
pub(crate) fn entry_prot(prot: Prot, flags: VmaFlags, backing: &Backing) -> Prot {
    match backing.is_anon() || flags.contains(VmaFlags::SHARED) {
        true => prot,
        false => prot.difference(Prot::WRITE),
    }
}
