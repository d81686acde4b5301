//! PTE-01, PTE-03: a slot borrows the read-side section in which its table cannot be freed.

use arm64::geometry::Level;
use pgtable::{Machine, PageTable, User};

fn case<M: Machine>(space: &PageTable<User, M>) {
    let outer = ();
    let slot;
    {
        let stay = ();
        //= let section = space.machine().read_side(&outer);
        let section = space.machine().read_side(&stay); //~ E0597
        slot = space.slot_of(0, Level::L3, &section);
    }
    let _ = slot.map(|slot| slot.level());
}
