//! The hardware's own hand in the tables: walks by simulated CPUs that set the access flag and the
//! dirty state, by compare-and-exchange, as the real walker does.

use arm64::addr::PhysAddr;
use arm64::geometry::Level;
use arm64::pte::Pte;
use sync::atomic::Ordering;

use crate::descriptor::{Desc, Leaf, right, touched};
use crate::machine::ModelMachine;
use crate::mmu::Mmu;
use crate::walker::Found;

/// How the hardware manages what it records in entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records {
    /// It sets the access flag.
    pub access: bool,
    /// It records writes.
    pub dirty: bool,
}

/// What came of an access by a simulated CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// It went through, at this physical address.
    Done(u64),
    /// No valid leaf.
    Translation,
    /// The access flag is clear and the hardware does not set it.
    AccessFlag,
    /// The leaf does not allow it (or only after software has recorded the write).
    Permission,
}

impl ModelMachine {
    /// An EL0 access of `cpu` that misses every TLB: the walker reads the tables, and sets access
    /// flag and dirty state by compare-and-exchange, in the entry of `va` or, of a contiguous block,
    /// in entry `elsewhere` of it.
    pub fn touch(&self, cpu: usize, va: u64, write: bool, elsewhere: u64) -> Touch {
        // One lock for the entry and its shadow: software finds both changed or neither.
        let mut mmu = self.mmu();
        let Some((root, level)) = mmu.loaded_root(cpu) else {
            return Touch::Translation;
        };
        let found = self.tables().walk(root, level, va);
        let Desc::Leaf(leaf) = found.desc else {
            return Touch::Translation;
        };
        if let Err(fault) = self.allowed(&leaf, write) {
            return fault;
        }
        let at = match self.recorder(&found, leaf, elsewhere, write) {
            Some(at) => at,
            None => found.at,
        };
        self.record_access(&mut mmu, at, found.level, write);
        Touch::Done(leaf.pa + va % leaf.size)
    }

    fn allowed(&self, leaf: &Leaf, write: bool) -> Result<(), Touch> {
        let needed = match (write, self.records().dirty) {
            (false, _) => 0,
            (true, true) => right::WRITE,
            (true, false) => right::UNRECORDED,
        } | right::EL0;
        if leaf.rights & needed != needed {
            return Err(Touch::Permission);
        }
        match leaf.young || self.records().access {
            true => Ok(()),
            false => Err(Touch::AccessFlag),
        }
    }

    /// Another entry of the block in which the access may be recorded.
    fn recorder(&self, found: &Found, leaf: Leaf, elsewhere: u64, write: bool) -> Option<u64> {
        let at = (found.at & !(16 * 8 - 1)) + 8 * (elsewhere % 16);
        let other = self.tables().read(at, found.level).desc.as_leaf()?;
        let fits = leaf.contiguous && other.contiguous && self.allowed(&other, write).is_ok();
        fits.then_some(at)
    }

    fn record_access(&self, mmu: &mut Mmu, at: u64, level: Level, write: bool) {
        let found = self.tables().read(at, level);
        // An entry that software is changing at this moment, and has not told of, is left alone:
        // the walker would come a little later.
        let told = mmu.shadow(PhysAddr::new(at)).map(Pte::raw) == Some(found.word);
        if !told || found.desc.as_leaf().is_none() {
            return;
        }
        let new = touched(found.word, write && self.records().dirty);
        let cell = self.tables().entry(at);
        let order = Ordering::AcqRel;
        let relaxed = Ordering::Relaxed;
        if cell
            .compare_exchange(found.word, new, order, relaxed)
            .is_ok()
        {
            mmu.touched_by_hardware(at, new);
        }
    }
}
