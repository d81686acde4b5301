//! Faulting pages in ahead of their use: `MAP_POPULATE`, `MADV_POPULATE_READ` and `_WRITE`.

use arm64::addr::PAGE_SIZE;
use pgtable::{Machine, Walked};

use crate::fault::facts::Access;
use crate::fault::{FaultInput, FaultOutcome, Mode};
use crate::space::Space;

/// What one piece of populating came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Populated {
    /// What lies before this address is accessible.
    To(u64),
    /// It takes a fault, or took one: what is next belongs into another stay.
    Part,
}

impl<M: Machine> Space<M> {
    /// Makes some of the pages from that of `va` on, which lies before `end`, accessible as `access`
    /// asks: those that are already, a run of fresh ones, at most as many as a folio has, or what one
    /// fault brings, which may be a stay's worth (law 16): only with `may_fault`.
    ///
    /// # Errors
    /// What became of the fault, if it is not resolved.
    pub fn populate(
        &self,
        va: u64,
        end: u64,
        access: Access,
        may_fault: bool,
    ) -> Result<Populated, FaultOutcome> {
        let mode = Mode::Populate;
        let input = FaultInput { va, access, mode };
        if access == Access::Write {
            match self.fault_run(input, end)? {
                0 => {}
                pages => return Ok(Populated::To(va + pages as u64 * PAGE_SIZE)),
            }
        }
        if let Some(next) = self.populated(va, access) {
            return Ok(Populated::To(next));
        }
        if !may_fault {
            return Ok(Populated::Part);
        }
        match self.fault(input) {
            FaultOutcome::Done | FaultOutcome::Again => Ok(Populated::Part),
            other => Err(other),
        }
    }

    /// Where the translation ends that makes the page at `va` accessible as `access` asks.
    fn populated(&self, va: u64, access: Access) -> Option<u64> {
        let stay = ();
        let section = self.machine().read_side(&stay);
        let Walked::Seen { value, span, .. } = self.table().walk(va, &section) else {
            return None;
        };
        let wanted = match access {
            Access::Write => value.writable() && value.dirty(),
            Access::Read | Access::Exec => value.user_readable(),
        };
        wanted.then_some((va & !(span - 1)) + span)
    }
}
