//! GUP-12: the destructor is the engine's.

fn case() {
    //= use pgtable::table::TableDesc;
    use pgtable::table::destruct; //~ E0603
}
