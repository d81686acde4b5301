//! CTOR-05: a special space is changed by its only holder.

use arm64::addr::VaRange;
use pgtable::{Machine, PageTable, ReadSide, Special};

fn case<M: Machine>(
    shared: &PageTable<Special, M>,
    own: &mut PageTable<Special, M>,
    range: VaRange,
    section: &ReadSide<'_>,
) {
    let _ = (shared, &own);
    //= let _ = own.cursor(range, section).at();
    let _ = shared.cursor(range, section).at(); //~ E0596
}
