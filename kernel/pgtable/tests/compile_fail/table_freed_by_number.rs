//! GUP-12: a linked table is owned by its entry: the number of its frame frees nothing.

use arm64::addr::Pfn;
use frame::{Frames, TableFrame};

fn case(frames: &'static Frames, table: TableFrame, pfn: Pfn) {
    let _ = (&table, pfn);
    //= frames.free_table(table);
    frames.free_table(pfn); //~ E0308
}
