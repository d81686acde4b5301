//! The kernel's record of each frame, read from RAM through its own virtual address.
//!
//! Layout (64 bytes, little endian): 0 u32 references · 4 u8 class · 5 u8 order · 6 u8 table level
//! plus two · 7 u8 table state · 8 u32 owning space · 12 u8 kind of that space, of a page 64: its tags
//! may be shown · 14 u16 frames
//! between the head of its block and this one · 16 u32 lock · 20 u32 live entries · 24..40 list
//! links · rest reserved.

use super::descriptor::{Decoder, Entry, entry_size};
use super::memory::{Memory, PAGE};

/// Bytes of one record.
pub const META_SIZE: u64 = 64;

/// Class of a frame that holds a translation table.
pub const CLASS_TABLE: u8 = 4;
/// Class of a frame that EL0 may map.
pub const CLASS_USER: u8 = 5;
/// Class of a frame of tag storage that holds a page which EL0 may map.
pub const CLASS_UNTAGGABLE: u8 = 12;
/// Class of a frame of tag storage that holds tags.
pub const CLASS_TAGS: u8 = 16;

/// Bit of byte 12 of a page whose tags may be shown.
const TAGGED: u8 = 0x40;

/// State of a table between its constructor and its destructor.
pub const STATE_CONSTRUCTED: u8 = 2;

/// Kind of a space that belongs to a program.
pub const KIND_USER: u8 = 1;
/// Kind of the kernel's own space.
pub const KIND_KERNEL: u8 = 2;
/// Kind of the identity map and of the empty root.
pub const KIND_SPECIAL: u8 = 3;

/// One frame's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameMeta {
    /// References held.
    pub references: u32,
    /// What the frame is used for.
    pub class: u8,
    /// Level of the table it holds; `None` when it holds none.
    pub level: Option<i8>,
    /// 0 none, 1 allocated, 2 constructed, 3 detached.
    pub state: u8,
    /// Space that owns the table.
    pub owner: u32,
    /// 1 user, 2 kernel, 3 special.
    pub kind: u8,
    /// Frames between the head of the allocated block, which counts its references, and this one.
    pub head_offset: u16,
}

impl FrameMeta {
    /// Decodes the first bytes of a record.
    pub fn decode(bytes: &[u8; META_SIZE as usize]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self {
            references: word(0),
            class: bytes[4],
            level: (1..=5).contains(&bytes[6]).then(|| bytes[6] as i8 - 2),
            state: bytes[7],
            owner: word(8),
            kind: bytes[12],
            head_offset: u16::from_le_bytes([bytes[14], bytes[15]]),
        }
    }

    /// Whether a program may see the page's tags.
    pub fn is_tagged(&self) -> bool {
        self.class == CLASS_USER && self.kind & TAGGED != 0
    }

    /// The class in words.
    pub fn class_name(&self) -> &'static str {
        const NAMES: [&str; 17] = [
            "absent",
            "reserved",
            "free",
            "image",
            "table",
            "user",
            "slab",
            "stack",
            "kernel heap",
            "memmap",
            "initrd",
            "kernel",
            "untaggable data",
            "offline",
            "spare",
            "free tag storage",
            "tags",
        ];
        NAMES
            .get(usize::from(self.class))
            .copied()
            .unwrap_or("unknown")
    }
}

/// Finds frame records the way the kernel does: at `vmemmap + frame number * 64`, translated
/// through the tables that TTBR1 names (48 address bits, so four levels).
#[derive(Clone, Copy)]
pub struct Vmemmap<'a> {
    /// Guest RAM.
    pub memory: &'a dyn Memory,
    /// Descriptor format.
    pub decoder: Decoder,
    /// Physical address of the kernel's root table.
    pub ttbr1: u64,
    /// Virtual address of the record of frame 0.
    pub base: u64,
}

impl Vmemmap<'_> {
    /// The record of the frame at `address`; `None` where the kernel keeps none.
    pub fn meta(&self, address: u64) -> Option<FrameMeta> {
        let at = self.translate(self.address_of(address))?;
        let mut bytes = [0; META_SIZE as usize];
        self.memory
            .read(at, &mut bytes)
            .then(|| FrameMeta::decode(&bytes))
    }

    /// Calls `visit` with every RAM frame that has a record.
    pub fn for_each(&self, mut visit: impl FnMut(u64, FrameMeta)) {
        let per_page = PAGE / META_SIZE * PAGE;
        let end = self.memory.base() + self.memory.len();
        let mut group = self.memory.base() / per_page * per_page;
        while group < end {
            self.visit_group(group, &mut visit);
            group += per_page;
        }
    }

    fn visit_group(&self, group: u64, visit: &mut impl FnMut(u64, FrameMeta)) {
        let Some(at) = self.translate(self.address_of(group)) else {
            return;
        };
        let mut page = [0; PAGE as usize];
        if !self.memory.read(at, &mut page) {
            return;
        }
        for (frame, bytes) in page
            .as_chunks::<{ META_SIZE as usize }>()
            .0
            .iter()
            .enumerate()
        {
            let address = group + frame as u64 * PAGE;
            if self.memory.has_page(address) {
                visit(address, FrameMeta::decode(bytes));
            }
        }
    }

    fn address_of(&self, frame: u64) -> u64 {
        self.base.wrapping_add(frame / PAGE * META_SIZE)
    }

    /// Walks TTBR1 for a kernel virtual address.
    pub fn translate(&self, va: u64) -> Option<u64> {
        let mut table = self.ttbr1;
        for level in 0..=3 {
            let size = entry_size(level);
            let index = (va / size % 512) as usize;
            match self.decoder.decode(self.memory.page(table)?[index], level) {
                Entry::Table { address, .. } => table = address,
                Entry::Leaf(leaf) => return Some(leaf.address + va % size),
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_decoded_at_its_documented_offsets() {
        let mut bytes = [0xee; 64];
        bytes[..4].copy_from_slice(&7_u32.to_le_bytes());
        bytes[4] = CLASS_TABLE;
        bytes[6] = 1;
        bytes[7] = STATE_CONSTRUCTED;
        bytes[8..12].copy_from_slice(&0x0102_0304_u32.to_le_bytes());
        bytes[12] = KIND_SPECIAL;
        bytes[14..16].copy_from_slice(&0x0102_u16.to_le_bytes());
        let expected = FrameMeta {
            references: 7,
            class: CLASS_TABLE,
            level: Some(-1),
            state: STATE_CONSTRUCTED,
            owner: 0x0102_0304,
            kind: KIND_SPECIAL,
            head_offset: 0x0102,
        };
        assert_eq!(FrameMeta::decode(&bytes), expected);
        bytes[6] = 0;
        assert_eq!(FrameMeta::decode(&bytes).level, None);
    }
}
