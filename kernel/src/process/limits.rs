//! What a process and all below it may have: pages of memory, handles, threads.
//!
//! Whoever makes a process sets a part of its own limits aside for it, so that each limit is looked at in
//! one place, and nobody below can use up what is above.

use sync::{SpinLock, rank};

use crate::errno::Errno;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Pages of memory.
    Pages = 0,
    /// Handles.
    Handles = 1,
    /// Threads.
    Threads = 2,
}

/// The limits of one process.
#[derive(Debug)]
pub struct Limits(SpinLock<State, rank::Leaf>);

#[derive(Clone, Copy, Debug)]
struct State {
    limit: [u64; Limits::KINDS],
    set_aside: [u64; Limits::KINDS],
}

impl Limits {
    /// Kinds of resources.
    pub const KINDS: usize = 3;
    /// No limit.
    pub const NONE: u64 = u64::MAX;

    /// No limits.
    pub const fn none() -> Self {
        Self(SpinLock::new(State {
            limit: [Self::NONE; Self::KINDS],
            set_aside: [0; Self::KINDS],
        }))
    }

    /// What there may be of `resource`, beside what is set aside for those below.
    pub fn of(&self, resource: Resource) -> u64 {
        let state = self.0.lock();
        let n = resource as usize;
        match state.limit[n] {
            Self::NONE => Self::NONE,
            limit => limit.saturating_sub(state.set_aside[n]),
        }
    }

    /// Sets aside what is `wanted` for a process below, which gets it as its limits; 0 stands for half
    /// of what is left. `used` is what there is already.
    ///
    /// # Errors
    /// `EDQUOT`: there is not so much left.
    pub fn split(
        &self,
        wanted: [u64; Self::KINDS],
        used: [u64; Self::KINDS],
    ) -> Result<[u64; Self::KINDS], Errno> {
        let mut state = self.0.lock();
        let mut parts = [Self::NONE; Self::KINDS];
        for n in 0..Self::KINDS {
            parts[n] = match (state.limit[n], wanted[n]) {
                (Self::NONE, 0) => Self::NONE,
                (Self::NONE, wanted) => wanted,
                (limit, wanted) => {
                    let left = limit.saturating_sub(state.set_aside[n]);
                    let left = left.saturating_sub(used[n]);
                    let part = if wanted == 0 { left / 2 } else { wanted };
                    if part > left {
                        return Err(Errno::EDQUOT);
                    }
                    part
                }
            };
        }
        for (n, part) in parts.into_iter().enumerate() {
            if state.limit[n] != Self::NONE {
                state.set_aside[n] += part;
            }
        }
        Ok(parts)
    }

    /// Makes `parts` the limits.
    pub fn set(&self, parts: [u64; Self::KINDS]) {
        self.0.lock().limit = parts;
    }

    /// Takes back what was set aside for a process below that has ended.
    pub fn take_back(&self, below: &Self) {
        let parts = core::mem::replace(&mut below.0.lock().limit, [Self::NONE; Self::KINDS]);
        let mut state = self.0.lock();
        for (n, part) in parts.into_iter().enumerate() {
            if state.limit[n] != Self::NONE && part != Self::NONE {
                state.set_aside[n] = state.set_aside[n].saturating_sub(part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_set_aside_and_comes_back() {
        let root = Limits::none();
        let child = Limits::none();
        child.set(root.split([100, 0, 7], [0; 3]).unwrap());
        assert_eq!(child.of(Resource::Pages), 100);
        assert_eq!(child.of(Resource::Handles), Limits::NONE);
        assert_eq!(root.of(Resource::Pages), Limits::NONE);
        let grandchild = Limits::none();
        assert_eq!(
            child.split([60, 0, 5], [50, 0, 0]).unwrap_err(),
            Errno::EDQUOT
        );
        assert_eq!(child.of(Resource::Threads), 7, "nothing is set aside");
        grandchild.set(child.split([60, 0, 0], [0, 0, 3]).unwrap());
        assert_eq!(grandchild.of(Resource::Threads), 2);
        assert_eq!(child.of(Resource::Pages), 40);
        child.take_back(&grandchild);
        assert_eq!(child.of(Resource::Pages), 100);
        child.take_back(&grandchild);
        assert_eq!(child.of(Resource::Pages), 100, "it comes back once");
    }
}
