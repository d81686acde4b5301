//! GUP-12: nor are the tables.

use pgtable::Gather;

fn case(gather: &Gather) {
    //= let _ = gather.is_empty();
    let _ = &gather.tables; //~ E0616
}
