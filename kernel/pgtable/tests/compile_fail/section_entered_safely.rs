//! PTE-03: who opens a section vouches for its CPU.

use pgtable::ReadSide;

fn case() {
    let stay = ();
    // SAFETY: never run.
    //= let _ = unsafe { ReadSide::enter(&stay) };
    let _ = ReadSide::enter(&stay); //~ E0133
}
