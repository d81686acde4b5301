//! Kernel mappings outside of the direct map: devices, stacks with guard pages, the heap.
//!
//! Addresses are handed out upwards and never reused: what is mapped here lives as long as the
//! machine.

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::{Attrs, MemType, Prot};
use frame::{Class, KernelFrame};
use sync::atomic::{AtomicU64, Ordering};

use super::{frames, init_mm, memory};

/// First address of the area.
const VMAP: u64 = 0xffff_9000_0000_0000;
const PAGE: u64 = 4096;
const BLOCK: u64 = 2 << 20;
/// Order of a 2 MiB block.
const BLOCK_ORDER: u8 = 9;
/// Order of a kernel stack: 32 KiB.
const STACK_ORDER: u8 = 3;
/// Bytes of a kernel stack.
pub const STACK_SIZE: u64 = PAGE << STACK_ORDER;

static NEXT: AtomicU64 = AtomicU64::new(VMAP);

/// Reserves `len` bytes of addresses, aligned to `align`, with an unmapped page before and behind.
fn reserve(len: u64, align: u64) -> u64 {
    let place = |next: u64| (next + PAGE).next_multiple_of(align);
    let take = |next: u64| Some(place(next) + len.next_multiple_of(PAGE) + PAGE);
    let before = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
    place(before.unwrap_or(VMAP))
}

fn map(va: u64, pa: PhysAddr, len: u64, mem: MemType) -> bool {
    let Some(range) = VaRange::from_len(VirtAddr::new(va), len) else {
        return false;
    };
    let attrs = Attrs::kernel(Prot::READ | Prot::WRITE, mem);
    match init_mm().edit().map(range, pa, attrs) {
        Ok(()) => true,
        Err(error) => {
            log::error!("cannot map {len:#x} bytes at {va:#x}: {error:?}");
            false
        }
    }
}

/// Maps the registers at `pa`; the address of the first of them, or none without memory for a
/// table.
pub fn map_device(pa: u64, len: u64) -> Option<VirtAddr> {
    let first = pa & !(PAGE - 1);
    let len = (pa + len).next_multiple_of(PAGE) - first;
    let va = reserve(len, PAGE);
    map(va, PhysAddr::new(first), len, MemType::Device).then(|| VirtAddr::new(va + pa - first))
}

/// A kernel stack of 32 KiB between two unmapped pages; the address behind its highest byte, or
/// none without memory.
pub fn alloc_kernel_stack() -> Option<VirtAddr> {
    let len = PAGE << STACK_ORDER;
    let stack = frames().alloc_kernel(STACK_ORDER, Class::Stack).ok()?;
    let va = reserve(len, len);
    if !map(va, stack.pfn().start(), len, memory().info.direct_map) {
        return None;
    }
    let _for_good = stack.leak();
    Some(VirtAddr::new(va + len))
}

/// Maps `size` bytes, a multiple of 2 MiB, for the heap.
///
/// # Panics
/// Without memory: nothing can run without a heap.
pub(super) fn map_heap(size: u64) -> VaRange {
    let va = reserve(size, BLOCK);
    for offset in (0..size).step_by(BLOCK as usize) {
        let block: Option<KernelFrame> = frames().alloc_kernel(BLOCK_ORDER, Class::KernelHeap).ok();
        let mapped = block.is_some_and(|block| {
            let pa = block.leak().start();
            map(va + offset, pa, BLOCK, memory().info.direct_map)
        });
        assert!(
            mapped,
            "not enough memory for the kernel heap ({size} bytes)"
        );
    }
    let range = VaRange::from_len(VirtAddr::new(va), size);
    range.unwrap_or_else(|| panic!("the heap wraps around the address space"))
}
