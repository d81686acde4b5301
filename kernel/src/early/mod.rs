//! Memory before there is an allocator: what is where, what is taken, and the boot tables.
//!
//! Everything here is arithmetic on values and is tested on the host; `arch::start` reads the
//! machine, calls it, and hands the result ([`BootInfo`]) to the memory module.

pub mod handoff;
pub mod layout;
pub mod plan;
pub mod tables;

use core::fmt;
use core::ops::{Deref, Range};

use arm64::addr::{PAGE_SIZE, Pfn, PhysAddr};
use arm64::attrs::MemType;
use arm64::pte::Format;
use frame::MAX_TAG_REGIONS;

use crate::fdt::TagStorage;

/// Most banks of RAM that are used; a device tree with more loses the highest ones.
pub const MAX_BANKS: usize = 16;
/// Most reserved ranges.
pub const MAX_RESERVED: usize = 48;

/// A half-open range of physical addresses, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// First byte after the range.
    pub end: u64,
}

impl Region {
    /// The range from `start` up to and without `end`.
    pub const fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// `len` bytes from `start`; cut off at the top of the address space.
    pub const fn from_len(start: u64, len: u64) -> Self {
        Self {
            start,
            end: start.saturating_add(len),
        }
    }

    /// Bytes; 0 for a range that ends before it starts.
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there is no byte in it.
    pub const fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// Whether both share a byte.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether `address` is in it.
    pub const fn contains(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    /// The whole pages inside: for RAM, where half a page is none.
    pub const fn inward(&self) -> Self {
        let start = self.start.saturating_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
        Self {
            start,
            end: self.end & !(PAGE_SIZE - 1),
        }
    }

    /// The whole pages around: for what is reserved, where half a page is one.
    pub const fn outward(&self) -> Self {
        let end = self.end.saturating_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
        Self {
            start: self.start & !(PAGE_SIZE - 1),
            end,
        }
    }

    /// The first byte as an address.
    pub const fn base(&self) -> PhysAddr {
        PhysAddr::new(self.start)
    }

    /// The frames of a page-aligned range.
    pub const fn pfns(&self) -> Range<Pfn> {
        PhysAddr::new(self.start).pfn()..PhysAddr::new(self.end).pfn()
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

/// What a reserved range is reserved for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReservedKind {
    /// Firmware's, by the device tree; mapped in the direct map.
    #[default]
    Firmware,
    /// Firmware's, and not to be mapped (`no-map`).
    NoMap,
    /// Text, read-only data, data and zeroed data of the kernel.
    Image,
    /// The 2 MiB chunk that boot tables come from. Its direct mapping is Normal, never Tagged, so
    /// its frames must not become user memory.
    BootTables,
    /// The device tree, which boot arguments and the like are read from.
    DeviceTree,
    /// The initial RAM disk.
    Initrd,
    /// Backing of the frame metadata.
    MemMap,
    /// Tag storage. Its direct mapping is of pages, and Normal, never Tagged.
    TagStorage,
}

impl ReservedKind {
    /// The kind in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::NoMap => "no-map",
            Self::Image => "image",
            Self::BootTables => "boot tables",
            Self::DeviceTree => "device tree",
            Self::Initrd => "initrd",
            Self::MemMap => "frame metadata",
            Self::TagStorage => "tag storage",
        }
    }
}

/// A page-aligned range that the frame allocator must not hand out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reserved {
    /// Where.
    pub region: Region,
    /// What for.
    pub kind: ReservedKind,
}

/// A short list without an allocator. Reads as a slice.
#[derive(Clone, Copy)]
pub struct List<T, const N: usize> {
    items: [T; N],
    len: usize,
}

impl<T: Copy + Default, const N: usize> List<T, N> {
    /// Empty.
    pub fn new() -> Self {
        Self {
            items: [T::default(); N],
            len: 0,
        }
    }

    /// Appends; gives the item back when the list is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        match self.items.get_mut(self.len) {
            Some(place) => {
                *place = item;
                self.len += 1;
                Ok(())
            }
            None => Err(item),
        }
    }

    /// Takes the last item off.
    pub fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        Some(self.items[self.len])
    }

    /// The items, changeable.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.items[..self.len]
    }

    /// Keeps only the items that `keep` says yes to, in their order.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        let all = *self;
        self.len = 0;
        for item in all.iter().filter(|item| keep(item)) {
            self.items[self.len] = *item;
            self.len += 1;
        }
    }
}

impl<T: Copy + Default, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug, const N: usize> fmt::Debug for List<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items[..self.len]
    }
}

/// A tree of boot tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    /// Physical address of its root table.
    pub pa: PhysAddr,
    /// Number of levels, the root's and level 3's included.
    pub levels: u8,
}

/// Where the parts of the image are, as physical, page-aligned ranges that follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageLayout {
    /// Instructions; read and execute. The identity-mapped page is in it.
    pub text: Region,
    /// Constants; read only.
    pub rodata: Region,
    /// Data, zeroed data and boot stacks; read and write.
    pub data: Region,
    /// The identity-mapped page of `text`.
    pub idmap: Region,
}

/// What the memory module learns at boot.
#[derive(Clone, Debug)]
pub struct BootInfo {
    /// RAM in use, page-exact, in ascending order. All of it is in the direct map, but for ranges
    /// of [`ReservedKind::NoMap`]; its frame metadata is mapped and zeroed.
    pub banks: List<Region, MAX_BANKS>,
    /// What in the banks is not free, page-aligned. Ranges of different kinds do not overlap.
    pub reserved: List<Reserved, MAX_RESERVED>,
    /// Tag storage in use.
    pub tag_storage: List<TagStorage, MAX_TAG_REGIONS>,
    /// RAM held back by `tessera.hold`, 2 MiB-aligned at its start, not mapped anywhere and
    /// without metadata.
    pub held: Option<Region>,
    /// The initial RAM disk, byte-exact; it is in the direct map.
    pub initrd: Option<Region>,
    /// Where the image is.
    pub image: ImageLayout,
    /// The chunk of boot tables; they are used from its start on, one page each.
    pub boot_tables: Region,
    /// How many tables of the chunk are in use.
    pub boot_tables_used: u32,
    /// Tables in TTBR1.
    pub kernel_root: Root,
    /// The identity map of one page, in TTBR0 when a CPU comes up.
    pub idmap_root: Root,
    /// An empty table, in TTBR0 while no user space is loaded.
    pub reserved_root: Root,
    /// Memory type of the direct map (but for the chunk of boot tables, which is Normal):
    /// Tagged where the machine has usable allocation tags.
    pub direct_map: MemType,
    /// How descriptors are encoded on this machine.
    pub format: Format,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_rounds_inward_and_reservations_outward() {
        let odd = Region::new(0x1001, 0x3fff);
        assert_eq!(odd.inward(), Region::new(0x2000, 0x3000));
        assert_eq!(odd.outward(), Region::new(0x1000, 0x4000));
        assert!(Region::new(0x1001, 0x1fff).inward().is_empty());
    }

    #[test]
    fn a_region_at_the_top_of_the_space_does_not_wrap() {
        let top = Region::from_len(u64::MAX - 10, 100);
        assert_eq!(top.end, u64::MAX);
        assert_eq!(top.inward().len(), 0);
    }

    #[test]
    fn lists_refuse_what_does_not_fit_and_keep_order() {
        let mut list = List::<u32, 3>::new();
        assert_eq!(
            [1, 2, 3, 4].map(|n| list.push(n)),
            [Ok(()), Ok(()), Ok(()), Err(4)]
        );
        list.retain(|&n| n != 2);
        assert_eq!(*list, [1, 3]);
        assert_eq!(list.pop(), Some(3));
        assert_eq!(*list, [1]);
    }
}
