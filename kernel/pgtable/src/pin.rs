//! Pinning and reading user memory by a lockless walk (GUP-13).

use arm64::addr::{PAGE_SIZE, PhysAddr};
use arm64::geometry::Level;
use arrayvec::ArrayVec;
use frame::UserFrame;
use sync::planted::{self, Fault};

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

    /// Takes a reference to the readable page at `va`. The second walk, from the root, compares
    /// leaf and parents at once: a table that was unlinked is not met again.
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
        is_wanted: impl Fn(Walked) -> Option<Seen>,
        section: &ReadSide<'_>,
    ) -> Result<UserFrame, NotAllowed> {
        let machine = self.machine();
        let seen = is_wanted(self.walk(va, section)).ok_or(NotAllowed)?;
        machine.pause(Pause::PinBeforeReference);
        let frame = self.reference(va, seen).ok_or(NotAllowed)?;
        machine.pause(Pause::PinBeforeRecheck);
        match still(seen, self.walk(va, section)) {
            true => Ok(frame),
            false => Err(NotAllowed),
        }
    }

    /// As [`Self::pin`], for `count` pages from the one at `va` on, or as many as `pins` has room for,
    /// up to the first that cannot be. Both walks go over all of them.
    pub fn pin_many<const N: usize>(
        &self,
        va: u64,
        count: u64,
        pins: &mut ArrayVec<UserFrame, N>,
        section: &ReadSide<'_>,
    ) {
        let machine = self.machine();
        let start = va & !(PAGE_SIZE - 1);
        pins.clear();
        let end = start.saturating_add(count.min(N as u64) * PAGE_SIZE);
        let mut seen = ArrayVec::<Seen, N>::new();
        let mut next = start;
        self.walk_range(start, end, section, |va, walked| {
            // A block is many pages.
            while let Some(page) = readable(walked)
                && va <= next
                && next < end.min(span_end(va, page.level))
                && seen.try_push(page).is_ok()
            {
                next += PAGE_SIZE;
            }
        });
        machine.pause(Pause::PinBeforeReference);
        let pages = (start..).step_by(PAGE_SIZE as usize).zip(&seen);
        pins.extend(pages.map_while(|(va, &page)| self.reference(va, page)));
        machine.pause(Pause::PinBeforeRecheck);
        let (mut next, mut kept) = (start, 0);
        let end = start + pins.len() as u64 * PAGE_SIZE;
        self.walk_range(start, end, section, |va, walked| {
            while va <= next
                && next < end.min(span_end(va, walked.level()))
                && still(seen[kept], walked)
            {
                next += PAGE_SIZE;
                kept += 1;
            }
        });
        pins.truncate(kept);
    }

    /// A reference to the page at `va`, if it has any, as seen.
    #[inline(always)]
    fn reference(&self, va: u64, seen: Seen) -> Option<UserFrame> {
        let machine = self.machine();
        let into = va & (seen.level.size() - 1);
        let pa = machine.format().pa(seen.value.pte(), seen.level).raw() + into;
        machine.frames().try_pin_user(PhysAddr::new(pa).pfn())
    }
}

/// What a readable page was seen by.
#[derive(Clone, Copy)]
struct Seen {
    value: Value,
    level: Level,
}

/// The leaf, if programs may read by it and have.
#[inline(always)]
fn readable(walked: Walked) -> Option<Seen> {
    match walked {
        Walked::Seen { value, level, .. } if value.user_readable() && value.young() => {
            Some(Seen { value, level })
        }
        _ => None,
    }
}

/// The leaf.
#[inline(always)]
fn mapped(walked: Walked) -> Option<Seen> {
    match walked {
        Walked::Seen { value, level, .. } => Some(Seen { value, level }),
        Walked::Miss { .. } => None,
    }
}

/// Whether a walk met the same again.
#[inline(always)]
fn still(seen: Seen, again: Walked) -> bool {
    let same = match again {
        Walked::Seen { value, level, .. } => value.same_but_ad(seen.value) && level == seen.level,
        Walked::Miss { .. } => false,
    };
    same || planted::is(Fault::PinWithoutRecheck)
}

/// Where the entry of `level` ends that translates `va`.
#[inline(always)]
fn span_end(va: u64, level: Level) -> u64 {
    (va | (level.size() - 1)) + 1
}
