//! Pinning and reading user memory by a lockless walk (GUP-13).

use arm64::UserAddr;
use arm64::attrs::MemType;
use frame::UserFrame;
use sync::planted::{self, Fault};

use crate::gup::Seen;
use crate::leaf::NotAllowed;
use crate::machine::{Machine, Pause};
use crate::slot::ReadSide;
use crate::space::{PageTable, User};
use crate::value::Value;
use crate::walk::Walked;

impl<M: Machine> PageTable<User, M> {
    /// Reads user memory of one page without a lock: reference if not zero, load again, same or
    /// give up. `bytes` must not cross a page. How many bytes: fewer where a tag that is compared
    /// differs.
    ///
    /// # Errors
    /// No readable, young page there: the fault path decides.
    pub fn read_user(
        &self,
        at: UserAddr,
        bytes: &mut [u8],
        section: &ReadSide<'_>,
    ) -> Result<usize, NotAllowed> {
        let (frame, value) = self.pin_if(at.va(), readable, section)?;
        let offset = (at.va() & 0xfff) as usize;
        let reach = reach(&frame, value.mem_type(), at.read_tag(), offset, bytes.len());
        frame.read(offset, &mut bytes[..reach]);
        Ok(reach)
    }

    /// Loads a 32-bit word of user memory, atomically and without a lock. None: a tag differs.
    ///
    /// # Errors
    /// As [`Self::read_user`].
    pub fn load_user_u32(
        &self,
        at: UserAddr,
        section: &ReadSide<'_>,
    ) -> Result<Option<u32>, NotAllowed> {
        let (frame, value) = self.pin_if(at.va(), readable, section)?;
        let offset = (at.va() & 0xfff) as usize;
        let reached = reach(&frame, value.mem_type(), at.read_tag(), offset, 4) == 4;
        Ok(reached.then(|| frame.load_u32(offset)))
    }

    /// Takes a reference to the readable page at `va`. The second look compares the leaf, and the
    /// entry that names its table.
    ///
    /// # Errors
    /// As [`Self::read_user`].
    pub fn pin(&self, va: u64, section: &ReadSide<'_>) -> Result<UserFrame, NotAllowed> {
        self.pin_if(va, readable, section).map(|(frame, _)| frame)
    }

    /// As [`Self::pin`], of the page that is mapped at `va` whatever its entry allows, accessed or
    /// not: for the fault path, which decides about the access itself.
    ///
    /// # Errors
    /// No page that is counted is mapped there.
    pub fn pin_mapped(&self, va: u64, section: &ReadSide<'_>) -> Result<UserFrame, NotAllowed> {
        self.pin_if(va, mapped, section).map(|(frame, _)| frame)
    }

    fn pin_if(
        &self,
        va: u64,
        is_wanted: impl Fn(Walked) -> Option<Value>,
        section: &ReadSide<'_>,
    ) -> Result<(UserFrame, Value), NotAllowed> {
        let machine = self.machine();
        let (walked, place) = self.walk_to_place(va, section);
        let seen = Seen {
            va,
            value: is_wanted(walked).ok_or(NotAllowed)?,
            level: walked.level(),
            pages: 1,
        };
        machine.pause(Pause::PinBeforeReference);
        let frame = self.reference(&seen).ok_or(NotAllowed)?;
        machine.pause(Pause::PinBeforeRecheck);
        match place.is_still(&seen) && place.is_linked(machine.format(), va) {
            true => Ok((frame, seen.value)),
            false => Err(NotAllowed),
        }
    }
}

/// How many of `len` bytes from byte `offset` of a page on an access reaches by a mapping of this type:
/// all, where nothing is compared.
#[inline(always)]
pub(crate) fn reach(
    frame: &UserFrame,
    mem: MemType,
    tag: Option<u8>,
    offset: usize,
    len: usize,
) -> usize {
    match tag {
        Some(tag) if mem == MemType::Tagged && !planted::is(Fault::CopyUnchecked) => {
            frame.match_tags(offset, len, tag)
        }
        _ => len,
    }
}

/// The leaf, if programs may read by it and have.
#[inline(always)]
fn readable(walked: Walked) -> Option<Value> {
    mapped(walked).filter(|value| value.user_readable() && value.young())
}

/// The leaf.
#[inline(always)]
fn mapped(walked: Walked) -> Option<Value> {
    match walked {
        Walked::Seen { value, .. } => Some(value),
        Walked::Miss { .. } => None,
    }
}
