//! CTOR-05: the edit token cannot be forged.

use pgtable::{Kernel, KernelEdit, Machine, PageTable};

fn case<'s, M: Machine>(
    edit: KernelEdit<'s, M>,
    space: &'s PageTable<Kernel, M>,
) -> KernelEdit<'s, M> {
    let _ = space;
    //= edit
    KernelEdit { space, ..edit } //~ E0451
}
