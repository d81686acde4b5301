//! GUP-12: the frames in a gather are not reached past the flush.

use pgtable::Gather;

fn case(gather: &Gather) {
    //= let _ = gather.page_count();
    let _ = gather.runs; //~ E0616
}
