//! What a cursor hands out of a table: a part of it, with the right to change it.

use crate::lock::Guard;
use crate::machine::Machine;
use crate::slot::TableRef;
use crate::space::{Kind, PageTable};

/// The part of a range that one table or one of its entries translates, the table's serialiser
/// held.
pub struct Part<'g, K: Kind, M: Machine> {
    pub(crate) space: &'g PageTable<K, M>,
    pub(crate) table: TableRef<'g>,
    pub(crate) guard: Guard<'g>,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl<'g, K: Kind, M: Machine> Part<'g, K, M> {
    /// First byte of the part.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// First byte behind it.
    pub fn to(&self) -> u64 {
        self.to
    }

    /// What is held.
    #[inline(always)]
    pub fn guard(&self) -> &Guard<'g> {
        &self.guard
    }
}
