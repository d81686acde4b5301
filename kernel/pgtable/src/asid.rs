//! The identifier under which a space's translations are in the TLB.

use core::sync::atomic::Ordering;

use sync::atomic::AtomicU64;

/// The identifier of one space.
#[derive(Debug)]
pub struct AsidCell(AtomicU64);

impl AsidCell {
    sync::const_fn! {
        /// No identifier yet.
        pub const fn new() -> Self {
            Self(AtomicU64::new(0))
        }
    }

    /// The identifier that CPUs use, or used last, for the space.
    #[inline]
    pub fn current(&self) -> u16 {
        self.0.load(Ordering::Relaxed) as u16
    }

    /// Gives the space an identifier.
    pub fn set(&self, asid: u16) {
        self.0.store(asid.into(), Ordering::Relaxed);
    }
}

impl Default for AsidCell {
    fn default() -> Self {
        Self::new()
    }
}
