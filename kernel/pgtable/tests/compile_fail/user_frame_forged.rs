//! D17: a user frame is a counted reference: it cannot be forged.

use arm64::addr::Pfn;
use frame::UserFrame;

fn case(frame: UserFrame, pfn: Pfn) -> UserFrame {
    let _ = pfn;
    //= frame
    UserFrame { pfn, ..frame } //~ E0451
}
