//! CTOR-05: a kernel space is changed by the holder of its edit token.

use arm64::addr::VaRange;
use pgtable::{Kernel, Machine, PageTable, ReadSide};

fn case<M: Machine>(kernel: &PageTable<Kernel, M>, range: VaRange, section: &ReadSide<'_>) {
    //= let _ = kernel.edit().cursor(range, section).at();
    let _ = kernel.cursor(range, section); //~ E0599
}
