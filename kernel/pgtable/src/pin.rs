//! Pinning and reading user memory by a lockless walk (GUP-13).

use frame::UserFrame;

use crate::gup::Seen;
use crate::leaf::NotAllowed;
use crate::machine::{Machine, Pause};
use crate::slot::ReadSide;
use crate::space::{PageTable, User};
use crate::value::Value;
use crate::walk::Walked;

impl<M: Machine> PageTable<User, M> {
    /// Reads user memory of one page without a lock: reference if not zero, load again, same or
    /// give up. `bytes` must not cross a page.
    ///
    /// # Errors
    /// No readable, young page there: the fault path decides.
    pub fn read_user(
        &self,
        va: u64,
        bytes: &mut [u8],
        section: &ReadSide<'_>,
    ) -> Result<(), NotAllowed> {
        let frame = self.pin(va, section)?;
        frame.read((va & 0xfff) as usize, bytes);
        Ok(())
    }

    /// Loads a 32-bit word of user memory, atomically and without a lock.
    ///
    /// # Errors
    /// As [`Self::read_user`].
    pub fn load_user_u32(&self, va: u64, section: &ReadSide<'_>) -> Result<u32, NotAllowed> {
        Ok(self.pin(va, section)?.load_u32((va & 0xfff) as usize))
    }

    /// Takes a reference to the readable page at `va`. The second look compares the leaf, and the
    /// entry that names its table.
    ///
    /// # Errors
    /// As [`Self::read_user`].
    pub fn pin(&self, va: u64, section: &ReadSide<'_>) -> Result<UserFrame, NotAllowed> {
        self.pin_if(va, readable, section)
    }

    /// As [`Self::pin`], of the page that is mapped at `va` whatever its entry allows, accessed or
    /// not: for the fault path, which decides about the access itself.
    ///
    /// # Errors
    /// No page that is counted is mapped there.
    pub fn pin_mapped(&self, va: u64, section: &ReadSide<'_>) -> Result<UserFrame, NotAllowed> {
        self.pin_if(va, mapped, section)
    }

    fn pin_if(
        &self,
        va: u64,
        is_wanted: impl Fn(Walked) -> Option<Value>,
        section: &ReadSide<'_>,
    ) -> Result<UserFrame, NotAllowed> {
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
            true => Ok(frame),
            false => Err(NotAllowed),
        }
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
