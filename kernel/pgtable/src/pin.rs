//! Pinning and reading user memory by a lockless walk (GUP-13).

use frame::UserFrame;
use sync::planted::{self, Fault};

use crate::leaf::NotAllowed;
use crate::machine::{Machine, Pause};
use crate::slot::ReadSide;
use crate::space::{PageTable, User};
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

    /// Takes a reference to the readable page at `va`. The second walk, from the root, compares
    /// leaf and parents at once: a table that was unlinked is not met again.
    ///
    /// # Errors
    /// As [`Self::read_user`].
    pub fn pin(&self, va: u64, section: &ReadSide<'_>) -> Result<UserFrame, NotAllowed> {
        let seen = self.walk(va, section);
        let Walked::Seen { value, level, .. } = seen else {
            return Err(NotAllowed);
        };
        if !(value.user_readable() && value.young()) {
            return Err(NotAllowed);
        }
        let machine = self.machine();
        machine.pause(Pause::PinBeforeReference);
        let page = seen.address(va, machine.format()).ok_or(NotAllowed)?;
        let frame = machine
            .frames()
            .try_pin_user(page.pfn())
            .ok_or(NotAllowed)?;
        machine.pause(Pause::PinBeforeRecheck);
        let same = match self.walk(va, section) {
            Walked::Seen {
                value: again,
                level: same_level,
                ..
            } => again.same_but_ad(value) && same_level == level,
            Walked::Miss { .. } => false,
        };
        match same || planted::is(Fault::PinWithoutRecheck) {
            true => Ok(frame),
            false => Err(NotAllowed),
        }
    }
}
