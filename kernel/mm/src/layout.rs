//! Where things are in a 39-bit user space (D12: three levels; growing is the engine's business).

/// Address bits of a fresh space.
pub const VA_BITS: u8 = 39;
/// First address behind the space.
pub const TASK_SIZE: u64 = 1 << VA_BITS;
/// Lowest address that can be mapped (`vm.mmap_min_addr`).
pub const MMAP_MIN_ADDR: u64 = 0x1_0000;
/// First address behind the main stack.
pub const STACK_TOP: u64 = TASK_SIZE - (16 << 12);
/// How far a growing stack may reach below its top (`RLIMIT_STACK`).
pub const STACK_LIMIT: u64 = 8 << 20;
/// Distance that mappings keep from the low end of a growing stack (`stack_guard_gap`).
pub const STACK_GAP: u64 = 256 << 12;
/// Mappings are placed below this address, highest first: room for the stack is left above.
pub const MMAP_BASE: u64 = TASK_SIZE - (128 << 20);
/// Most areas in one space (`vm.max_map_count`).
pub const MAX_MAP_COUNT: usize = 65_530;
