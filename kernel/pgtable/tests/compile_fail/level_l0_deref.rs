//! PTE-06: the rule holds at level 0 as at every other.

use arm64::geometry::Level;
use pgtable::{Machine, PageTable, ReadSide, User, ptep_get_lockless};

fn case<M: Machine>(space: &PageTable<User, M>, section: &ReadSide<'_>) {
    let slot = space.slot_of(0, Level::L0, section);
    //= let _ = slot.map(|slot| ptep_get_lockless(&slot, section));
    let _ = slot.map(|slot| *slot); //~ E0614
}
