//! Faulting pages in ahead of their use: `MAP_POPULATE`, `MADV_POPULATE_READ` and `_WRITE`.

use pgtable::{Machine, Walked};

use crate::fault::facts::Access;
use crate::fault::{FaultInput, FaultOutcome, Mode};
use crate::space::Space;

impl<M: Machine> Space<M> {
    /// Makes the page at `va` accessible as `access` asks, or goes on making it so; returns where
    /// the next page to look at is.
    ///
    /// # Errors
    /// What became of the fault, if it is not resolved; [`FaultOutcome::Again`] never.
    pub fn populate(&self, va: u64, access: Access) -> Result<u64, FaultOutcome> {
        let stay = ();
        let section = self.machine().read_side(&stay);
        if let Walked::Seen { value, span, .. } = self.table().walk(va, &section) {
            let wanted = match access {
                Access::Write => value.writable() && value.dirty(),
                Access::Read | Access::Exec => value.user_readable(),
            };
            if wanted {
                return Ok((va & !(span - 1)) + span);
            }
        }
        let mode = Mode::Populate;
        match self.fault(FaultInput { va, access, mode }) {
            FaultOutcome::Done | FaultOutcome::Again => Ok(va),
            other => Err(other),
        }
    }
}
