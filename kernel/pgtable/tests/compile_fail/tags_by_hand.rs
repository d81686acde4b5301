//! TAG-24: the proof that a page has tags is made by who makes the tags.

use frame::{TagBacked, UserFrame};

fn case(proof: TagBacked<UserFrame>, other: UserFrame) {
    let _ = (&proof, &other);
    //= let _ = TagBacked::into_inner(proof);
    let _ = TagBacked(other); //~ E0423
}
