//! Law 6: the contiguous hint only on an aligned, fully valid, contiguous block of equal
//! attributes in a user space. QEMU ignores the hint, so nothing else would notice.

use super::descriptor::{Entry, Leaf, entry_size};
use super::meta::KIND_USER;
use super::walk::{Place, Space, at};
use super::{Inspector, Rule};

/// Entries in a contiguous block of the 4 KiB granule, at every level.
const BLOCK: usize = 16;

impl Inspector<'_> {
    /// Checks each aligned group of 16 entries of a table that holds the hint anywhere.
    pub(super) fn contiguous_blocks(&mut self, space: Space, place: Place, words: &[u64; 512]) {
        for (group, words) in words.as_chunks::<BLOCK>().0.iter().enumerate() {
            let entries = words.map(|raw| self.decoder.decode(raw, place.level));
            if !entries
                .iter()
                .any(|entry| matches!(entry, Entry::Leaf(leaf) if leaf.contiguous))
            {
                continue;
            }
            let va = place
                .va
                .wrapping_add((group * BLOCK) as u64 * entry_size(place.level));
            let here = Place {
                level: place.level,
                va,
            };
            if let Some(rule) = judge(space, &entries) {
                self.violation(rule, || at(space, here, words[0]));
            } else {
                self.found.contiguous += BLOCK;
            }
        }
    }
}

/// The rule that a group with the hint breaks, if any.
fn judge(space: Space, entries: &[Entry; BLOCK]) -> Option<Rule> {
    if space.kind != KIND_USER {
        return Some(Rule::ContiguousInKernel);
    }
    let leaves: Vec<&Leaf> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Leaf(leaf) if leaf.contiguous => Some(leaf),
            _ => None,
        })
        .collect();
    if leaves.len() != BLOCK {
        return Some(Rule::ContiguousHole);
    }
    let first = leaves[0];
    let aligned = first.address.is_multiple_of(BLOCK as u64 * first.size);
    let follows =
        |(index, leaf): (usize, &&Leaf)| leaf.address == first.address + index as u64 * first.size;
    if !aligned || !leaves.iter().enumerate().all(follows) {
        return Some(Rule::ContiguousAddress);
    }
    let equal = leaves
        .iter()
        .all(|leaf| leaf.shared_bits == first.shared_bits);
    (!equal).then_some(Rule::ContiguousAttributes)
}
