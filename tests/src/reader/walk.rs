//! The walk over one space, and the checks of each table and each mapping it meets.

use super::descriptor::{Entry, FINEST, Leaf, entry_size};
use super::memory::PAGE;
use super::meta::{
    CLASS_TABLE, CLASS_TAGS, CLASS_UNTAGGABLE, CLASS_USER, FrameMeta, KIND_KERNEL, KIND_USER,
    STATE_CONSTRUCTED,
};
use super::snapshot::Root;
use super::{Inspector, Rule};

/// The space that is being walked.
#[derive(Clone, Copy)]
pub(super) struct Space {
    pub(super) root: Root,
    /// Kind that the root's record claims.
    pub(super) kind: u8,
}

/// A table where it hangs.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) level: i8,
    /// First virtual address below the table.
    pub(super) va: u64,
}

/// First address of the kernel's half (T1SZ = 16).
const KERNEL_BASE: u64 = 0xffff_0000_0000_0000;
/// Where the direct map ends at the latest: the frame records follow.
const DIRECT_MAP_END: u64 = 0xffff_7000_0000_0000;
/// MAIR index of Device-nGnRnE.
const DEVICE: u8 = 0;
/// MAIR index of Normal-Tagged.
const TAGGED: u8 = 2;

impl Inspector<'_> {
    /// Walks everything below `root`.
    pub(super) fn space(&mut self, root: &Root) {
        // Without a record its tables are judged all the same: as the kernel's, or nobody's.
        let unrecorded = if root.table == self.vmemmap.ttbr1 {
            KIND_KERNEL
        } else {
            0
        };
        let kind = self
            .vmemmap
            .meta(root.table)
            .map_or(unrecorded, |meta| meta.kind);
        let space = Space { root: *root, kind };
        let va = if space.kind == KIND_KERNEL {
            KERNEL_BASE
        } else {
            0
        };
        self.table(
            space,
            Place {
                level: root.level(),
                va,
            },
            root.table,
        );
    }

    fn table(&mut self, space: Space, place: Place, address: u64) {
        if !self.enter(space, place, address) {
            return;
        }
        let Some(words) = self.memory.page(address) else {
            return;
        };
        let used = if place.level < 0 { 16 } else { 512 };
        for (index, &raw) in words.iter().enumerate() {
            let va = place
                .va
                .wrapping_add(index as u64 * entry_size(place.level));
            let here = Place {
                level: place.level,
                va,
            };
            match self.decoder.decode(raw, place.level) {
                Entry::Empty => {}
                _ if index >= used => self.corrupt(space, here, raw),
                Entry::Corrupt(_) => self.corrupt(space, here, raw),
                Entry::Software(_) => {
                    self.found.software_entries += usize::from(space.kind == KIND_USER)
                }
                Entry::Leaf(leaf) => self.leaf(space, here, leaf),
                Entry::Table {
                    address,
                    attributes,
                } => {
                    if attributes != 0 {
                        self.violation(Rule::TableAttributes, || at(space, here, raw));
                    }
                    self.table(
                        space,
                        Place {
                            level: place.level + 1,
                            va,
                        },
                        address,
                    );
                }
            }
        }
        self.contiguous_blocks(space, place, &words);
    }

    fn corrupt(&mut self, space: Space, place: Place, raw: u64) {
        self.violation(Rule::Corrupt, || at(space, place, raw));
    }

    /// Checks the table's frame; false when the table cannot or need not be walked.
    fn enter(&mut self, space: Space, place: Place, address: u64) -> bool {
        if !self.memory.has_page(address) {
            self.violation(Rule::TableOutsideRam, || at(space, place, address));
            return false;
        }
        if let Some(first) = self.seen.insert(address, space.root.space) {
            self.violation(Rule::TableShared, || {
                format!(
                    "{}; first reached from space {first}",
                    at(space, place, address)
                )
            });
            return false;
        }
        self.found.tables += 1;
        match self.vmemmap.meta(address) {
            None => self.violation(Rule::TableUnrecorded, || at(space, place, address)),
            Some(meta) => self.record(space, place, address, meta),
        }
        true
    }

    /// The record of a table says what the walk says.
    fn record(&mut self, space: Space, place: Place, address: u64, meta: FrameMeta) {
        if meta.class != CLASS_TABLE {
            self.violation(Rule::TableClass, || {
                format!("{}, class {}", at(space, place, address), meta.class_name())
            });
            return;
        }
        let checks = [
            (Rule::TableState, meta.state == STATE_CONSTRUCTED),
            (Rule::TableLevel, meta.level == Some(place.level)),
            (Rule::TableOwner, meta.owner == space.root.space),
            (
                Rule::TableKind,
                meta.kind == space.kind && (1..=3).contains(&meta.kind),
            ),
        ];
        for (rule, holds) in checks {
            if !holds {
                self.violation(rule, || format!("{}, {meta:?}", at(space, place, address)));
            }
        }
    }

    fn leaf(&mut self, space: Space, place: Place, leaf: Leaf) {
        if leaf.writable && (leaf.el1_exec || leaf.el0_exec) {
            self.violation(Rule::WriteExecute, || at(space, place, leaf.address));
        }
        if leaf.memory_type == DEVICE && (leaf.el1_exec || leaf.el0_exec) {
            self.violation(Rule::DeviceExecute, || at(space, place, leaf.address));
        }
        let last = leaf.address + leaf.size - PAGE;
        let in_ram = [leaf.address, last].map(|page| self.memory.has_page(page));
        if leaf.memory_type == DEVICE && in_ram.contains(&true) {
            self.violation(Rule::DeviceOverRam, || at(space, place, leaf.address));
        }
        // In user spaces the class of the frame says the same.
        let of_kernel = space.kind != KIND_USER;
        if of_kernel && leaf.memory_type != DEVICE && in_ram.contains(&false) {
            self.violation(Rule::NormalOutsideRam, || at(space, place, leaf.address));
        }
        if space.kind == KIND_USER {
            self.found.user_mappings += 1;
            self.user_leaf(space, place, leaf);
        } else {
            self.found.kernel_mappings += 1;
            self.kernel_leaf(space, place, leaf);
        }
    }

    fn kernel_leaf(&mut self, space: Space, place: Place, leaf: Leaf) {
        // EL0 may execute what it cannot read, so UXN counts on its own.
        if leaf.el0 || leaf.el0_exec {
            self.violation(Rule::KernelOpenToUser, || at(space, place, leaf.address));
        }
        let range = (leaf.address, leaf.address + leaf.size);
        if leaf.el1_exec {
            self.executable.push(range);
        }
        if space.kind != KIND_KERNEL {
            return;
        }
        if leaf.writable {
            self.stored.push(range);
        }
        if place.va >= DIRECT_MAP_END {
            return;
        }
        if leaf.el1_exec {
            self.violation(Rule::DirectMapExecute, || at(space, place, leaf.address));
        }
        if leaf.writable {
            self.writable.push(range);
        }
        let page = place.level == FINEST;
        let shown = || self.vmemmap.meta(leaf.address);
        if page && shown().is_some_and(|meta| meta.class == CLASS_TAGS) {
            self.violation(Rule::TagsInSight, || at(space, place, leaf.address));
        }
    }

    fn user_leaf(&mut self, space: Space, place: Place, leaf: Leaf) {
        if !leaf.el0 || leaf.el1_exec {
            self.violation(Rule::UserPrivileged, || at(space, place, leaf.address));
        }
        if leaf.global {
            self.violation(Rule::UserGlobal, || at(space, place, leaf.address));
        }
        if leaf.memory_type == DEVICE {
            // Registers are nobody's frame.
            return;
        }
        for frame in (leaf.address..leaf.address + leaf.size).step_by(PAGE as usize) {
            let meta = self.vmemmap.meta(frame);
            let mappable = |meta: &FrameMeta| matches!(meta.class, CLASS_USER | CLASS_UNTAGGABLE);
            let Some(meta) = meta.filter(mappable) else {
                let class = meta.map_or("none", |meta| meta.class_name());
                self.violation(Rule::UserFrameClass, || {
                    format!("{}, class {class}", at(space, place, frame))
                });
                break;
            };
            if leaf.memory_type == TAGGED && !meta.is_tagged() {
                self.violation(Rule::TagsWithoutStorage, || at(space, place, frame));
            }
            // The references of a folio are counted on its first frame: one for each page mapped.
            let head = frame.wrapping_sub(u64::from(meta.head_offset) * PAGE);
            *self.mappings.entry(head).or_default() += 1;
        }
    }
}

/// Names a place for a person.
pub(super) fn at(space: Space, place: Place, what: u64) -> String {
    let level = if place.level == FINEST {
        "page".into()
    } else {
        format!("level {}", place.level)
    };
    format!(
        "space {}, {level}, va {:#x}: {what:#x}",
        space.root.space, place.va
    )
}
