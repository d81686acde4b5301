//! The window through which table pages are written (D16): private tables in TTBR0 that show the
//! chunks of tables at their physical addresses, for this CPU and for as long as a batch takes.
//!
//! Opening and closing write TTBR0 and nothing else: the window has an identifier of its own, so
//! no translation of it outlives its end, and none of the user's has to be dropped. An exception
//! at EL1 ends it at once, before anything else happens (`vectors.rs`; XC-07).

use core::arch::asm;

use aarch64_cpu::registers::{Readable, TCR_EL1, TTBR0_EL1, Writeable};
use arm64::geometry::Geometry;
use arm64::regs::{self, USER_T0SZ};
use pgtable::{Machine, RootWord};
use sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::mmu::hw;
use super::{events, memory_ops};
use crate::early::layout::DIRECT_MAP;
use crate::percpu::{self, PerCpu};

/// The identifier of the window's translations. No space is ever given it, as none is given 0,
/// the reserved root's.
pub const WINDOW_ASID: u16 = 1;

/// TTBR0 for the window by number of levels: 3, 4 or 5, whatever T0SZ is on this CPU (D12).
static ROOTS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// From where tables are read to where they are written (wrapping); 0 while they are not protected.
static DISTANCE: AtomicUsize = AtomicUsize::new(0);

/// Where in [`ROOTS`] the root for a T0SZ is: for those that spaces have.
const fn place(t0sz: u64) -> usize {
    3 - (t0sz >> 3 & 3) as usize
}

const _: () = {
    assert!(place(USER_T0SZ as u64) == 0 && Geometry::for_va_bits(64 - USER_T0SZ).levels() == 3);
    assert!(place(16) == 1 && Geometry::for_va_bits(48).levels() == 4);
    assert!(place(12) == 2 && Geometry::for_va_bits(52).levels() == 5);
};

/// From now on tables are written through a window with these roots.
pub fn install(roots: impl Iterator<Item = RootWord>) {
    for word in roots {
        let ttbr = regs::ttbr(hw().format(), word.root(), WINDOW_ASID);
        ROOTS[usize::from(word.levels()) - 3].store(ttbr, Ordering::Relaxed);
    }
    DISTANCE.store((DIRECT_MAP as usize).wrapping_neg(), Ordering::Release);
}

/// Whether tables are written through the window.
pub fn is_installed() -> bool {
    DISTANCE.load(Ordering::Relaxed) != 0
}

/// Opens the window on this CPU: the distance from where tables are read to where they are
/// written. 0 where tables are not protected; then nothing is opened.
#[inline(always)]
pub fn open() -> usize {
    let distance = DISTANCE.load(Ordering::Relaxed);
    if distance != 0 {
        let cpu = percpu::this();
        debug_assert!(!is_open(), "D16: a window in a window");
        cpu.outside.store(TTBR0_EL1.get(), Ordering::Relaxed);
        let windows = cpu.windows.load(Ordering::Relaxed);
        cpu.windows.store(windows + 1, Ordering::Relaxed);
        match cpu.window.load(Ordering::Relaxed) {
            0 => load(find_root(cpu)),
            root => load(root),
        }
    }
    distance
}

/// The root for the T0SZ of this CPU, kept until that changes.
#[cold]
#[inline(never)]
fn find_root(cpu: &PerCpu) -> u64 {
    let root = ROOTS[place(TCR_EL1.get() & 0x3f)].load(Ordering::Relaxed);
    cpu.window.store(root, Ordering::Relaxed);
    root
}

/// Closes the window that is open on this CPU: what TTBR0 held before is back.
#[inline(always)]
pub fn close() {
    if is_installed() {
        let outside = &percpu::this().outside;
        load(outside.load(Ordering::Relaxed));
        outside.store(0, Ordering::Relaxed);
    }
}

/// Whether the window is open on this CPU.
#[inline]
pub fn is_open() -> bool {
    percpu::this().outside.load(Ordering::Relaxed) != 0
}

#[inline(always)]
fn load(ttbr0: u64) {
    TTBR0_EL1.set(ttbr0);
    events::isb();
    // SAFETY: a barrier, which the compiler moves no access across. What TTBR0 names is the
    // window's root, which lives for ever, or what it named before the window was opened.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

/// Runs `change`, which opens the window for itself, whether it is open or not.
pub fn outside<T>(change: impl FnOnce() -> T) -> T {
    let was_open = is_open();
    if was_open {
        close();
    }
    let result = change();
    if was_open {
        open();
    }
    result
}

/// Clears the table page that the direct map shows at `page`.
///
/// # Safety
/// It is a page of a chunk of tables, and nobody else's.
pub unsafe fn zero_page(page: *mut u8) {
    let was_open = is_open();
    let distance = if was_open {
        DISTANCE.load(Ordering::Relaxed)
    } else {
        open()
    };
    let page = core::ptr::with_exposed_provenance_mut(page.addr().wrapping_add(distance));
    // SAFETY: by this function's contract; the window shows the page there, writable, until it is
    // closed. At distance 0 nothing is protected yet.
    unsafe { memory_ops::zero_page(page) };
    if !was_open {
        close();
    }
}

/// Windows opened so far, on all CPUs.
pub fn opened() -> u64 {
    (0..sync::MAX_CPUS)
        .map(|cpu| percpu::of(cpu).windows.load(Ordering::Relaxed))
        .sum()
}
