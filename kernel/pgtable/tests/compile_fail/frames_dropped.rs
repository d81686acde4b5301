//! GUP-12: to drop the references of entries is to vouch that they are gone and flushed.

use arm64::addr::Pfn;
use frame::Frames;

fn case(frames: &'static Frames, pfn: Pfn) {
    // SAFETY: never run.
    //= unsafe { frames.drop_entries(pfn, 1) };
    frames.drop_entries(pfn, 1); //~ E0133
}
