//! GUP-12: to take a table from its entry is to vouch that the entry is gone.

use arm64::addr::Pfn;
use frame::Frames;

fn case(frames: &'static Frames, pfn: Pfn) {
    // SAFETY: never run.
    //= let _ = unsafe { frames.table_from_entry(pfn) };
    let _ = frames.table_from_entry(pfn); //~ E0133
}
