//! Which CPU is this, how does it wait politely, and how far apart must per-CPU data lie.
//!
//! This file holds the only assembly outside `kernel/src/arch`: `yield`, which `core` has no name
//! for (its `spin_loop` is `isb` on arm64, a full pipeline flush), and the read of `TPIDR_EL1`.
//! Both have a host twin, so that everything above runs unchanged in host tests.

use core::ops::{Deref, DerefMut};

/// The number of CPUs the kernel can run on.
///
/// On the host a CPU is a thread of the test program. Test runners start many of them; under loom
/// and Miri there are few, and every one costs time.
pub const MAX_CPUS: usize = match () {
    () if cfg!(target_os = "none") => 16,
    () if cfg!(loom) => 4,
    () if cfg!(miri) => 8,
    () => 64,
};

/// Keeps `T` in cache lines of its own: 64 bytes on every core that QEMU models.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct CachePadded<T>(T);

impl<T> CachePadded<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for CachePadded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for CachePadded<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Whether the running test is failing already, so that a destructor should not complain as well.
/// The kernel ends at its first panic.
#[inline(always)]
pub fn panicking() -> bool {
    #[cfg(not(target_os = "none"))]
    return std::thread::panicking();
    #[cfg(target_os = "none")]
    false
}

/// Tells the CPU (or loom, or the host) that this is a wait loop.
#[inline(always)]
pub fn relax() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(all(not(loom), target_os = "none"))]
    // SAFETY: YIELD is a hint; it changes no register and no memory.
    unsafe {
        core::arch::asm!("yield", options(nomem, nostack, preserves_flags));
    }
    #[cfg(all(not(loom), not(target_os = "none")))]
    host::pause();
}

/// The index of the running CPU, below [`MAX_CPUS`].
///
/// No two CPUs have the same index at the same time, and code of the kernel does not migrate: it
/// is not preempted and has one stack per CPU (D3). So data that only the CPU of its index touches
/// needs no lock. On the host an index belongs to a thread for as long as that thread lives.
///
/// In the kernel, `TPIDR_EL1` must hold the address of the CPU's block, whose first word is the
/// index, before anything calls this; the boot code sets it before the first Rust function.
#[inline(always)]
#[cfg(target_os = "none")]
pub fn cpu_index() -> usize {
    let block: *const u32;
    // SAFETY: reads a register. `pure` holds because the value never changes once the CPU runs
    // Rust code and that code does not migrate.
    unsafe {
        core::arch::asm!("mrs {}, tpidr_el1", out(reg) block,
            options(pure, nomem, nostack, preserves_flags));
    }
    // SAFETY: the boot code pointed the register at the CPU's block, whose first word is the
    // index; it is written before the register is and never again.
    let index = unsafe { block.read() };
    index as usize
}

/// The index of the running thread, below [`MAX_CPUS`] and unique among living threads.
#[cfg(not(target_os = "none"))]
pub fn cpu_index() -> usize {
    host::index()
}

#[cfg(all(not(target_os = "none"), not(loom)))]
mod host {
    //! Threads as CPUs: a thread claims the lowest free index at its first use and gives it back
    //! when it ends. The bitmap's acquire and release order the users of one index.

    use super::MAX_CPUS;
    use core::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    static TAKEN: AtomicU64 = AtomicU64::new(0);
    const PATIENCE: Duration = Duration::from_secs(30);

    struct Claim(usize);

    std::thread_local! {
        static CLAIM: Claim = Claim::lowest_free();
    }

    impl Claim {
        fn lowest_free() -> Self {
            let start = Instant::now();
            loop {
                let taken = TAKEN.load(Ordering::Relaxed);
                let index = taken.trailing_ones() as usize;
                if index >= MAX_CPUS {
                    assert!(
                        start.elapsed() < PATIENCE,
                        "more than {MAX_CPUS} threads act as CPUs"
                    );
                    std::thread::yield_now();
                } else if TAKEN
                    .compare_exchange(
                        taken,
                        taken | 1 << index,
                        Ordering::Acquire,
                        Ordering::Relaxed,
                    )
                    .is_ok()
                {
                    return Self(index);
                }
            }
        }
    }

    impl Drop for Claim {
        fn drop(&mut self) {
            TAKEN.fetch_and(!(1 << self.0), Ordering::Release);
        }
    }

    pub(super) fn index() -> usize {
        CLAIM.with(|claim| claim.0)
    }

    pub(super) fn pause() {
        // A host lock holder may have been preempted: spinning alone could starve it.
        std::thread::yield_now();
    }
}

#[cfg(loom)]
mod host {
    //! Under loom the threads of one execution are numbered in the order of their first use.

    use core::sync::atomic::{AtomicUsize, Ordering};

    loom::lazy_static! {
        // Core's atomic on purpose: numbering is no part of what is explored.
        static ref NEXT: AtomicUsize = AtomicUsize::new(0);
    }

    loom::thread_local! {
        static INDEX: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn index() -> usize {
        INDEX.with(|index| *index)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::{sync::Barrier, thread, vec::Vec};

    #[test]
    fn living_threads_have_different_indices() {
        let barrier = Barrier::new(4);
        let indices: Vec<usize> = thread::scope(|scope| {
            let all: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mine = cpu_index();
                        barrier.wait();
                        assert_eq!(mine, cpu_index());
                        mine
                    })
                })
                .collect();
            all.into_iter().map(|t| t.join().unwrap()).collect()
        });
        for (i, a) in indices.iter().enumerate() {
            assert!(*a < MAX_CPUS);
            assert!(!indices[..i].contains(a), "index {a} given twice");
        }
    }

    #[test]
    fn padded_values_do_not_share_a_line() {
        let pair = [CachePadded::new(1u8), CachePadded::new(2u8)];
        let distance = &raw const pair[1] as usize - &raw const pair[0] as usize;
        assert!(distance >= 64);
    }
}
