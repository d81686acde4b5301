//! Values that are set once, and the wait strategy given to `spin`.

/// Waits with [`relax`](crate::relax): the strategy of every `spin` type used here.
#[derive(Debug)]
pub struct Relax;

impl spin::RelaxStrategy for Relax {
    #[inline(always)]
    fn relax() {
        crate::relax();
    }
}

/// A cell that is written once and read ever after (`spin`'s, with our wait strategy).
///
/// Loom does not see inside it. Set it before the threads of a model start.
pub type Once<T> = spin::once::Once<T, Relax>;
