//! D17: nor made of the number of a frame without vouching for the reference.

use arm64::addr::Pfn;
use frame::Frames;

fn case(frames: &'static Frames, pfn: Pfn) {
    // SAFETY: never run.
    //= let _ = unsafe { frames.from_entry(pfn) };
    let _ = frames.from_entry(pfn); //~ E0133
}
