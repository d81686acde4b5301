//! CTOR-08: an operation of user spaces is not done to a kernel space: zap.

use arm64::addr::VaRange;
use pgtable::{Gather, Kernel, Machine, PageTable, ReadSide, User, Zap};

fn case<M: Machine>(
    user: &PageTable<User, M>,
    kernel: &PageTable<Kernel, M>,
    range: VaRange,
    gather: &mut Gather,
    section: &ReadSide<'_>,
) {
    let _ = (user, kernel);
    //= let _ = user.zap(range, Zap::REGION_GONE, gather, section);
    let _ = kernel.zap(range, Zap::REGION_GONE, gather, section); //~ E0599
}
