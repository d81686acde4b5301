//! Where things are in a user space.
//!
//! A space begins with three levels, and everything that is placed without a wish fits their 39
//! bits. It grows (D12) when a program asks for an address above, or when nothing is free below.

use arm64::geometry::Geometry;
use arm64::pte::Format;

/// Address bits of a fresh space.
pub const VA_BITS: u8 = 39;
/// First address behind a fresh space.
pub const FRESH_END: u64 = 1 << VA_BITS;
/// First address behind what is given to programs that do not ask for more by a hint or a fixed
/// address above it, as on Linux: some keep things in the bits above (`DEFAULT_MAP_WINDOW`).
pub const DEFAULT_END: u64 = 1 << 48;
/// Lowest address that can be mapped (`vm.mmap_min_addr`).
pub const MMAP_MIN_ADDR: u64 = if cfg!(loom) { 0 } else { 0x1_0000 };
/// First address behind the main stack.
pub const STACK_TOP: u64 = FRESH_END - (16 << 12);
/// How far a growing stack may reach below its top (`RLIMIT_STACK`).
pub const STACK_LIMIT: u64 = 8 << 20;
/// Distance that mappings keep from the low end of a growing stack (`stack_guard_gap`).
pub const STACK_GAP: u64 = 256 << 12;
/// Mappings are placed below this address, highest first: room for the stack is left above.
pub const MMAP_BASE: u64 = FRESH_END - (128 << 20);
/// Most areas in one space (`vm.max_map_count`).
pub const MAX_MAP_COUNT: usize = 65_530;

/// The tables of a fresh space. Under loom they are toys: two levels of two entries.
pub(crate) fn fresh_geometry() -> Geometry {
    match cfg!(loom) {
        false => Geometry::for_va_bits(VA_BITS),
        true => Geometry::from_index_bits(&[1, 1]).map_or(Geometry::for_va_bits(VA_BITS), |toy| {
            toy.with_cont_entries(2)
        }),
    }
}

/// First address behind the largest space (`TASK_SIZE`): what a pointer of a program may be,
/// whatever the present size of its space.
pub const fn task_size(format: Format) -> u64 {
    match format.lpa2 {
        true => DEFAULT_END << 4,
        false => DEFAULT_END,
    }
}
