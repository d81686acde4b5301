//! GUP-02: nobody else holds a table to look an entry up in.

fn case() {
    //= use pgtable::slot::LockedSlot;
    use pgtable::slot::TableRef; //~ E0603
}
