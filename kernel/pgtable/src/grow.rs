//! Growing a space by a level while walkers run and CPUs are at EL0 in it (D12).

use core::sync::atomic::Ordering;

use sync::planted::{self, Fault};

use crate::TableError;
use crate::machine::{Machine, Pause};
use crate::slot::TableRef;
use crate::space::{PageTable, RootWord, User};
use crate::table::link;
use crate::writer::Writer;

impl<M: Machine> PageTable<User, M> {
    /// Adds a level: a new root whose entry 0 is the old one. The lower range translates as before,
    /// for walkers that have the old word, CPUs that have the old root loaded, and everyone
    /// after. Several callers may race; each finds at least one more level than it saw.
    ///
    /// # Errors
    /// [`TableError::BadRange`]: there are no more levels (five need LPA2). No memory, or a refusal:
    /// nothing was changed.
    pub fn grow(&self) -> Result<RootWord, TableError> {
        let machine = self.machine();
        let old = self.root_word();
        let shape = self.shape(old).grown().ok_or(TableError::BadRange)?;
        if shape.va_bits() > machine.format().pa_bits() as u8 {
            return Err(TableError::BadRange);
        }
        let level = shape.root_level();
        let frame = self.construct(&shape, level)?;
        let new = RootWord::new(frame.address(), shape.levels() as u8);
        let root = self.root_of(new);
        let late = planted::is(Fault::GrowBeforeLink);
        if !late {
            self.hang_under(&root, old);
        }
        // A CPU that reads the new word loads it at once, and its walker must see the entry.
        machine.before_invalidate();
        machine.pause(Pause::BeforeGrow);
        let published =
            self.word()
                .compare_exchange(old.raw(), new.raw(), Ordering::AcqRel, Ordering::Acquire);
        match published {
            Ok(_) => {
                machine.pause(Pause::BeforeGrow);
                if late {
                    self.hang_under(&root, old);
                }
                let _now_the_words = link(frame);
                self.stats().count_grown();
                Ok(new)
            }
            Err(_) => {
                root.add_entries(-1);
                self.discard(frame, level);
                Ok(self.root_word())
            }
        }
    }

    /// Makes the old root entry 0 of the new one, which nobody else changes yet.
    fn hang_under(&self, root: &TableRef<'_>, old: RootWord) {
        let writer = Writer::open(self.machine());
        // SAFETY: law 3: nobody else knows the new root, or (in the planted fault) its entry 0.
        let slot = unsafe { root.locked_slot(0) };
        slot.put(&writer, self.machine().format().table(old.root()));
        root.add_entries(1);
    }
}
