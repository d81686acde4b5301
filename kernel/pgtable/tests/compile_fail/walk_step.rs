//! GUP-02: the step of a walk, which takes the value that was read, is the engine's.

fn case() {
    //= use pgtable::walk::Walked;
    use pgtable::walk::step; //~ E0603
}
