//! Kernel access to user memory: by a walk and the direct map, never through the user's address
//! (D4, law 17).

use arm64::UserAddr;
use arm64::addr::{PAGE_SIZE, VaRange, VirtAddr};
use arrayvec::ArrayVec;
use frame::{Bytes, UserFrame};
use pgtable::{Machine, NotAllowed, ReadSide, User, Visit};
use sync::planted::{self, Fault};

use crate::error::MmError;
use crate::fault::facts::Access;
use crate::fault::{FaultInput, FaultOutcome, Mode, SegvCode};
use crate::space::Space;
use crate::vma::{Backing, VmaFlags};

/// Pages that are read at one time.
pub type Pins = ArrayVec<UserFrame, PINS>;
/// How many.
pub const PINS: usize = 16;

/// Why a copy stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyStop {
    /// The program has no such memory, or its pointer not the tag: EFAULT.
    Fault,
    /// A change owns the map: park, then go on.
    Busy,
    /// No memory for the page.
    OutOfMemory,
    /// The page is not there, and the call was told not to fetch it.
    Miss,
}

/// `count` of `wanted` bytes: none are copied only where none were to be, or the first has another tag.
#[inline(always)]
fn some_of(count: usize, wanted: usize) -> Result<usize, CopyStop> {
    match count {
        0 if wanted != 0 => Err(CopyStop::Fault),
        _ => Ok(count),
    }
}

/// Bytes from `va` to the end of its page, at most `len`.
pub(crate) fn in_page(va: u64, len: u64) -> u64 {
    len.min(PAGE_SIZE - va % PAGE_SIZE)
}

impl<M: Machine> Space<M> {
    /// Copies from user memory at `at` into the front of `bytes`: at most to the end of the page, or to
    /// a tag that differs. Returns how many bytes, at least one unless `bytes` is empty.
    ///
    /// # Errors
    /// [`CopyStop`]; nothing was copied.
    pub fn copy_in(&self, at: impl Into<UserAddr>, bytes: &mut [u8]) -> Result<usize, CopyStop> {
        let at = at.into();
        let count = in_page(at.va(), bytes.len() as u64) as usize;
        let bytes = &mut bytes[..count];
        let copied = self.with_page(at.va(), Access::Read, || {
            let stay = ();
            let section = self.machine().read_side(&stay);
            self.table().read_user(at, bytes, &section)
        });
        some_of(copied?, count)
    }

    /// Copies the front of `bytes` to user memory at `at`: at most to the end of the page, or to a tag
    /// that differs. Returns how many bytes, at least one unless `bytes` is empty.
    ///
    /// # Errors
    /// [`CopyStop`]; nothing was copied.
    pub fn copy_out(&self, at: impl Into<UserAddr>, bytes: &[u8]) -> Result<usize, CopyStop> {
        let at = at.into();
        let bytes = &bytes[..in_page(at.va(), bytes.len() as u64) as usize];
        let copied = self.with_page(at.va(), Access::Write, || {
            let stay = ();
            let section = self.machine().read_side(&stay);
            match self.lock_present(at.va(), &section) {
                Some(Visit::Table(leaf)) => leaf.write_user(at, bytes),
                Some(Visit::Block(block)) => block.write_user(at, bytes),
                Some(Visit::Absent(_)) | None => Err(NotAllowed),
            }
        });
        some_of(copied?, bytes.len())
    }

    /// Copies a part of a page to user memory at `at`: at most to the end of the page there, or to a
    /// tag that differs. Returns how many bytes, at least one unless the part is empty.
    ///
    /// # Errors
    /// [`CopyStop`]; nothing was copied. [`CopyStop::Miss`]: a fault is needed, and `may_fault` is
    /// not said.
    pub fn copy_bytes_out(
        &self,
        at: impl Into<UserAddr>,
        bytes: Bytes<'_>,
        may_fault: bool,
    ) -> Result<usize, CopyStop> {
        let at = at.into();
        let len = in_page(at.va(), bytes.len as u64) as usize;
        let bytes = Bytes { len, ..bytes };
        let attempt = || {
            let stay = ();
            let section = self.machine().read_side(&stay);
            match self.lock_present(at.va(), &section) {
                Some(Visit::Table(leaf)) => leaf.copy_user(at, bytes),
                Some(Visit::Block(block)) => block.copy_user(at, bytes),
                Some(Visit::Absent(_)) | None => Err(NotAllowed),
            }
        };
        let copied = match may_fault {
            true => self.with_page(at.va(), Access::Write, attempt)?,
            false => attempt().map_err(|NotAllowed| CopyStop::Miss)?,
        };
        some_of(copied, len)
    }

    /// How many of `len` bytes at `at`, whose pages from the first on are `pages`, the program's own
    /// reads would get: those up to a tag that differs. They are of one area at most.
    ///
    /// # Errors
    /// [`CopyStop::Fault`]: none.
    pub fn reach_of(&self, at: UserAddr, len: u64, pages: &[UserFrame]) -> Result<u64, CopyStop> {
        let Some(tag) = at.read_tag() else {
            return Ok(len);
        };
        let area = match self.area_at(at.va()) {
            Ok(area) => area,
            Err(MmError::Busy) => return Err(CopyStop::Busy),
            Err(_) => return Err(CopyStop::Fault),
        };
        let len = len.min(area.end - at.va());
        if !area.flags.contains(VmaFlags::MTE) {
            return Ok(len);
        }
        let mut reached = 0;
        for page in pages {
            let (start, left) = ((at.va() + reached) % PAGE_SIZE, len - reached);
            let count = in_page(start, left);
            let matched = page.match_tags(start as usize, count as usize, tag) as u64;
            reached += matched;
            if matched < count || reached == len {
                break;
            }
        }
        match reached {
            0 if len != 0 => Err(CopyStop::Fault),
            _ => Ok(reached),
        }
    }

    /// Whether the rights that were asked for the area at `va` are enough for this access: others
    /// are bound by them, not by what the CPU allows; and no stack grows for the question. Returns
    /// the first address behind the area.
    ///
    /// # Errors
    /// What a fault would come to.
    pub fn ask_rights(&self, va: u64, access: Access) -> Result<u64, FaultOutcome> {
        let area = self.area_at(va).map_err(|error| match error {
            MmError::Busy => FaultOutcome::Busy,
            _ => FaultOutcome::Segv {
                code: SegvCode::MapErr,
            },
        })?;
        let unread = access == Access::Read && area.flags.contains(VmaFlags::UNREAD);
        match unread || !area.prot.contains(access.right()) {
            true => Err(FaultOutcome::Segv {
                code: SegvCode::AccErr,
            }),
            false => Ok(area.end),
        }
    }

    /// Whether another process, or a call that acts like one, may access the page at `va` like this,
    /// and so all up to the address that is returned.
    ///
    /// # Errors
    /// [`CopyStop`].
    pub fn foreign_access(&self, va: u64, access: Access) -> Result<u64, CopyStop> {
        self.ask_rights(va, access)
            .map_err(|outcome| match outcome {
                FaultOutcome::Busy => CopyStop::Busy,
                _ => CopyStop::Fault,
            })
    }

    /// Loads an aligned word without faulting it in.
    ///
    /// # Errors
    /// [`CopyStop::Miss`]: [`Self::touch`] it and start over. [`CopyStop::Fault`]: a tag differs.
    pub fn load_u32(&self, at: impl Into<UserAddr>) -> Result<u32, CopyStop> {
        let stay = ();
        let section = self.machine().read_side(&stay);
        match self.table().load_user_u32(at.into(), &section) {
            Ok(word) => word.ok_or(CopyStop::Fault),
            Err(NotAllowed) => Err(CopyStop::Miss),
        }
    }

    /// Where other spaces find the byte at `va` too: number of the object that a shared mapping shows
    /// there, and offset in it. `None`: the memory is this space's alone.
    ///
    /// # Errors
    /// [`CopyStop`]: there is no area, or a change is about it.
    pub fn shared_place(&self, va: u64) -> Result<Option<(u32, u64)>, CopyStop> {
        let map = self.map().lock();
        let Some(area) = map.areas.find(va) else {
            return Err(CopyStop::Fault);
        };
        if map.is_busy(va) {
            return Err(CopyStop::Busy);
        }
        Ok(match &area.backing {
            _ if planted::is(Fault::SharedByAddress) => None,
            Backing::Object { object, offset, .. } if area.flags.contains(VmaFlags::SHARED) => {
                Some((object.number(), offset + (va - area.start)))
            }
            _ => None,
        })
    }

    /// Compares and exchanges an aligned word; returns what was found.
    ///
    /// # Errors
    /// [`CopyStop`]; nothing was changed.
    pub fn cas_u32(&self, at: impl Into<UserAddr>, old: u32, new: u32) -> Result<u32, CopyStop> {
        let at = at.into();
        let found = self.with_page(at.va(), Access::Write, || {
            let stay = ();
            let section = self.machine().read_side(&stay);
            match self.lock_present(at.va(), &section) {
                Some(Visit::Table(leaf)) => leaf.cas_user_u32(at, old, new),
                Some(Visit::Block(block)) => block.cas_user_u32(at, old, new),
                Some(Visit::Absent(_)) | None => Err(NotAllowed),
            }
        });
        found?.ok_or(CopyStop::Fault)
    }

    /// Makes the page at `va` accessible as `access` asks, as the program's own access would.
    ///
    /// # Errors
    /// [`CopyStop`].
    pub fn touch(&self, va: u64, access: Access) -> Result<(), CopyStop> {
        if va >= self.task_size() {
            return Err(CopyStop::Fault);
        }
        self.begin_fault();
        match self.fault(FaultInput {
            va,
            access,
            mode: Mode::Kernel,
        }) {
            FaultOutcome::Done | FaultOutcome::Again => Ok(()),
            FaultOutcome::Busy => Err(CopyStop::Busy),
            FaultOutcome::OutOfMemory => Err(CopyStop::OutOfMemory),
            FaultOutcome::Segv { .. } | FaultOutcome::Bus => Err(CopyStop::Fault),
        }
    }

    /// Locks what translates `va`, if anything does: nearly always a table of pages.
    fn lock_present<'g>(
        &'g self,
        va: u64,
        section: &'g ReadSide<'g>,
    ) -> Option<Visit<'g, User, M>> {
        if let Some(leaf) = self.table().lock_existing(va, section) {
            return Some(Visit::Table(leaf));
        }
        let page = VaRange::from_len(VirtAddr::new(va & !(PAGE_SIZE - 1)), PAGE_SIZE)?;
        self.table().cursor(page, section).visit()
    }

    /// Tries, lets the fault path decide, tries again. Another CPU may undo what the fault path
    /// did, each time by a change or a protection of its own.
    fn with_page<R>(
        &self,
        va: u64,
        access: Access,
        mut attempt: impl FnMut() -> Result<R, NotAllowed>,
    ) -> Result<R, CopyStop> {
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(NotAllowed) => self.touch(va, access)?,
            }
        }
    }
}
