//! Regions of tag storage as device trees describe them: nodes below `/reserved-memory` that are
//! compatible with `arm,mte-tag-storage` (Linux's proposed binding; requirements B.6, TAG-23).
//!
//! | property | meaning |
//! |---|---|
//! | `reg` | one range of whole pages: the storage |
//! | `block-size` | bytes of storage that change hands at a time; blocks are whole pages of it |
//! | `tagged-memory` | phandle of the memory node, of one range, whose tags the storage holds |
//! | `reusable` | may hold data while it holds no tags; a description without it is firmware's memory |
//!
//! A description that is wrong is refused with its reason, and the range stays reserved.

use core::fmt;

use arm64::addr::PAGE_SIZE;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};
use frame::{MAX_TAG_BLOCK, PAGES_PER_TAG_PAGE};

use crate::early::Region;

/// One region, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TagStorage {
    /// What holds tags or data.
    pub storage: Region,
    /// Whose tags.
    pub tagged: Region,
    /// Bytes of storage that change hands at a time.
    pub block: u64,
}

/// Why a description is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TagRefusal {
    /// No `reg`, or not a whole one.
    NoRange,
    /// More ranges than one.
    ManyRanges,
    /// The range is empty, or does not begin and end with a page.
    Misaligned,
    /// No `block-size`, or not a number.
    NoBlockSize,
    /// It is zero, or its blocks are larger than the kernel takes at a time.
    BadBlockSize,
    /// The range is not whole blocks.
    PartOfBlock,
    /// No `tagged-memory`.
    NoMemory,
    /// Its phandle is no node's.
    NoSuchNode,
    /// Its phandle is that of a node that is no memory.
    NotMemory,
    /// The memory has no range, or several.
    MemoryRanges,
    /// Smaller than a thirty-second of the memory that it serves.
    TooSmall,
    /// Larger than that.
    TooLarge,
    /// Not `reusable`.
    NotReusable,
    /// It shares memory with the storage of another region.
    OverlapsStorage,
    /// Another region serves the same memory.
    ServedTwice,
    /// It is not RAM.
    NotRam,
    /// Something else is there: the kernel, the RAM disk, the device tree, firmware.
    Taken,
    /// More regions than the kernel knows.
    TooMany,
}

impl fmt::Display for TagRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRange => "it has no reg",
            Self::ManyRanges => "its reg has more than one range",
            Self::Misaligned => "its range is empty or not whole pages",
            Self::NoBlockSize => "it has no block-size",
            Self::BadBlockSize => "its block-size is zero or too large",
            Self::PartOfBlock => "its range is not whole blocks",
            Self::NoMemory => "it has no tagged-memory",
            Self::NoSuchNode => "the phandle of tagged-memory is no node's",
            Self::NotMemory => "the node of tagged-memory is not memory",
            Self::MemoryRanges => "the memory of tagged-memory does not have one range",
            Self::TooSmall => "it is smaller than a thirty-second of the memory it serves",
            Self::TooLarge => "it is larger than a thirty-second of the memory it serves",
            Self::NotReusable => "it is not reusable",
            Self::OverlapsStorage => "it overlaps other tag storage",
            Self::ServedTwice => "other tag storage serves the same memory",
            Self::NotRam => "it is not in RAM",
            Self::Taken => "the kernel, the RAM disk, the device tree or firmware is there",
            Self::TooMany => "there are too many",
        })
    }
}

/// Whether the node describes tag storage.
pub(super) fn is_tag_storage(node: &FdtNode<'_>) -> bool {
    let compatible = node.property("compatible");
    compatible.is_some_and(|property| {
        let mut words = property.value().split(|&byte| byte == 0);
        words.any(|word| word == b"arm,mte-tag-storage")
    })
}

/// Reads the description.
///
/// # Errors
/// [`TagRefusal`].
pub(super) fn read(tree: Fdt<'_>, node: &FdtNode<'_>) -> Result<TagStorage, TagRefusal> {
    let storage = one_range(node, TagRefusal::NoRange, TagRefusal::ManyRanges)?;
    if storage.is_empty() || storage.inward() != storage {
        return Err(TagRefusal::Misaligned);
    }
    let block = block_of(cell(node, "block-size").ok_or(TagRefusal::NoBlockSize)?)?;
    if !storage.len().is_multiple_of(block) {
        return Err(TagRefusal::PartOfBlock);
    }
    let tagged = memory(
        tree,
        cell(node, "tagged-memory").ok_or(TagRefusal::NoMemory)?,
    )?;
    let needed = tagged.len().div_ceil(PAGES_PER_TAG_PAGE);
    let needed = needed.checked_next_multiple_of(block).unwrap_or(u64::MAX);
    if storage.len() < needed {
        return Err(TagRefusal::TooSmall);
    }
    if storage.len() > needed {
        return Err(TagRefusal::TooLarge);
    }
    if node.property("reusable").is_none() {
        return Err(TagRefusal::NotReusable);
    }
    Ok(TagStorage {
        storage,
        tagged,
        block,
    })
}

/// Whether `region` goes with those that are known.
///
/// # Errors
/// [`TagRefusal`].
pub(super) fn check(region: &TagStorage, known: &[TagStorage]) -> Result<(), TagRefusal> {
    if known
        .iter()
        .any(|other| other.storage.overlaps(&region.storage))
    {
        return Err(TagRefusal::OverlapsStorage);
    }
    if known
        .iter()
        .any(|other| other.tagged.overlaps(&region.tagged))
    {
        return Err(TagRefusal::ServedTwice);
    }
    Ok(())
}

/// The least common multiple of a block of the hardware and a page.
fn block_of(bytes: u32) -> Result<u64, TagRefusal> {
    let bytes = u64::from(bytes);
    let (mut a, mut b) = (bytes, PAGE_SIZE);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let block = bytes
        .checked_div(a)
        .and_then(|part| part.checked_mul(PAGE_SIZE));
    block
        .filter(|&block| block != 0 && block <= u64::from(MAX_TAG_BLOCK) * PAGE_SIZE)
        .ok_or(TagRefusal::BadBlockSize)
}

/// The one range of the memory node with this phandle.
fn memory(tree: Fdt<'_>, phandle: u32) -> Result<Region, TagRefusal> {
    let node = find(tree.root(), phandle).ok_or(TagRefusal::NoSuchNode)?;
    let kind = node.property("device_type");
    if kind.is_none_or(|kind| kind.value() != b"memory\0") {
        return Err(TagRefusal::NotMemory);
    }
    let range = one_range(&node, TagRefusal::MemoryRanges, TagRefusal::MemoryRanges)?;
    match range.inward() {
        whole if whole.is_empty() => Err(TagRefusal::MemoryRanges),
        whole => Ok(whole),
    }
}

fn find<'a>(node: FdtNode<'a>, phandle: u32) -> Option<FdtNode<'a>> {
    if node.phandle() == Ok(Some(phandle)) {
        return Some(node);
    }
    node.children().find_map(|child| find(child, phandle))
}

fn one_range(node: &FdtNode<'_>, none: TagRefusal, many: TagRefusal) -> Result<Region, TagRefusal> {
    let mut ranges = node.reg().ok().flatten().ok_or(none)?;
    let range = ranges.next().ok_or(none)?;
    if ranges.next().is_some() {
        return Err(many);
    }
    match (range.address(), range.size()) {
        (Ok(start), Ok(len)) => Ok(Region::from_len(start, len)),
        _ => Err(none),
    }
}

fn cell(node: &FdtNode<'_>, name: &str) -> Option<u32> {
    node.property(name)?.value_as::<u32>().ok()
}
