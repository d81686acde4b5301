//! Where things are in the kernel's half of the address space.
//!
//! Each area has level-0 entries of its own, so that they share no table but the root.

/// All RAM in use, at this plus its physical address.
pub const DIRECT_MAP: u64 = 0xffff_0000_0000_0000;
/// Bytes that the direct map can span; RAM above that is not used.
pub const DIRECT_MAP_LEN: u64 = 1 << 46;
/// Frame metadata: that of frame 0 is here.
pub const VMEMMAP: u64 = 0xffff_7000_0000_0000;
/// The image. `linker.ld` links it here, whatever its physical address is.
pub const KIMAGE: u64 = 0xffff_8000_0000_0000;
/// The last 2 MiB of the image's first 1 GiB: single pages mapped for a moment during boot.
pub const FIXMAP: u64 = KIMAGE + (1 << 30) - (2 << 20);
/// Below the fixmap: 4 MiB through which the device tree is read before RAM is known.
pub const TREE_WINDOW: u64 = FIXMAP - (4 << 20);
