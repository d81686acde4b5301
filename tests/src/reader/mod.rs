//! The independent reader: judges the kernel's tables from outside, by its own decoding.
//!
//! Nothing here comes from the kernel's crates: what both sides share is the Arm architecture, the
//! `snapshot` control line and the layout of frame records ([`meta`]). While the guest waits, the
//! reader walks every announced root and checks the laws that can be seen in memory. It errs on
//! the strict side: a permission that only another bit takes back still counts.

mod contiguous;
pub mod descriptor;

#[cfg(test)]
mod fake;
pub mod memory;
pub mod meta;
pub mod snapshot;
#[cfg(test)]
mod tests;
mod violation;
mod walk;

use std::collections::HashMap;
use std::fmt;

pub use snapshot::Snapshot;
pub use violation::{Rule, Violation};

use descriptor::Decoder;
use memory::{Memory, PAGE};
use meta::{CLASS_TABLE, CLASS_USER, KIND_KERNEL, STATE_CONSTRUCTED, Vmemmap};

/// What a reading found.
#[derive(Debug, Default)]
pub struct Inspection {
    /// What is wrong; empty when all is well.
    pub violations: Vec<Violation>,
    /// Tables reached, of all spaces.
    pub tables: usize,
    /// Table frames the kernel records as constructed.
    pub constructed: usize,
    /// Table frames recorded in another state: made but not yet linked, or waiting to be freed.
    pub unlinked: usize,
    /// Valid mappings in user spaces.
    pub user_mappings: usize,
    /// Valid mappings elsewhere.
    pub kernel_mappings: usize,
    /// Entries that hold something of the kernel's own in user spaces.
    pub software_entries: usize,
    /// Pages in contiguous blocks.
    pub contiguous: usize,
    /// Bytes of the direct map that are a second, writable name of memory executable elsewhere.
    pub writable_text_aliases: u64,
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "tables: {} reached, {} constructed, {} unlinked; mappings: {} user, {} kernel; \
             {} software entries, {} contiguous pages; {} KiB of text writable through an alias",
            self.tables,
            self.constructed,
            self.unlinked,
            self.user_mappings,
            self.kernel_mappings,
            self.software_entries,
            self.contiguous,
            self.writable_text_aliases / 1024,
        )?;
        self.violations
            .iter()
            .try_for_each(|violation| writeln!(f, "  {violation}"))
    }
}

/// Reads `memory` as `snapshot` describes it and checks everything.
pub fn inspect(memory: &dyn Memory, snapshot: &Snapshot) -> Inspection {
    let decoder = Decoder {
        lpa2: snapshot.lpa2,
    };
    let vmemmap = Vmemmap {
        memory,
        decoder,
        ttbr1: snapshot.ttbr1,
        base: snapshot.vmemmap,
    };
    let mut inspector = Inspector {
        memory,
        decoder,
        vmemmap,
        seen: HashMap::new(),
        mappings: HashMap::new(),
        executable: Vec::new(),
        writable: Vec::new(),
        stored: Vec::new(),
        found: Inspection::default(),
    };
    inspector.kernel_root(snapshot);
    for root in &snapshot.roots {
        inspector.space(root);
    }
    inspector.references();
    inspector.unreachable();
    inspector.aliases();
    if snapshot.protected {
        inspector.protected_tables();
    }
    inspector.found
}

/// The state of one reading.
struct Inspector<'a> {
    memory: &'a dyn Memory,
    decoder: Decoder,
    vmemmap: Vmemmap<'a>,
    /// Tables reached, with the space each was first reached from.
    seen: HashMap<u64, u32>,
    /// User pages mapped, per address of the frame that counts the references.
    mappings: HashMap<u64, u32>,
    /// Physical ranges executable at EL1.
    executable: Vec<(u64, u64)>,
    /// Physical ranges writable through the direct map.
    writable: Vec<(u64, u64)>,
    /// Physical ranges writable through the kernel's own space.
    stored: Vec<(u64, u64)>,
    found: Inspection,
}

/// Findings kept; a broken kernel can have millions.
const MOST_VIOLATIONS: usize = 200;

impl Inspector<'_> {
    fn violation(&mut self, rule: Rule, what: impl FnOnce() -> String) {
        if self.found.violations.len() < MOST_VIOLATIONS {
            self.found.violations.push(Violation { rule, what: what() });
        }
    }

    /// The root that TTBR1 holds is the kernel's, space 1, and no other root claims its kind.
    fn kernel_root(&mut self, snapshot: &Snapshot) {
        let announced = |root: &&snapshot::Root| root.table == snapshot.ttbr1;
        if snapshot
            .roots
            .iter()
            .find(announced)
            .is_none_or(|root| root.space != 1)
        {
            self.violation(Rule::KernelRoot, || {
                format!(
                    "TTBR1 holds {:#x}, which was not announced as space 1",
                    snapshot.ttbr1
                )
            });
        }
        for root in &snapshot.roots {
            let kind = self.vmemmap.meta(root.table).map(|meta| meta.kind);
            if (kind == Some(KIND_KERNEL)) != (root.table == snapshot.ttbr1) {
                self.violation(Rule::KernelRoot, || {
                    format!(
                        "space {} with root {:#x} has kind {kind:?}",
                        root.space, root.table
                    )
                });
            }
        }
    }

    /// A frame mapped n times has at least n references, and so has a folio of which n pages are.
    fn references(&mut self) {
        let mut counts: Vec<_> = std::mem::take(&mut self.mappings).into_iter().collect();
        counts.sort_unstable();
        for (frame, mapped) in counts {
            let Some(meta) = self.vmemmap.meta(frame) else {
                continue;
            };
            if meta.class == CLASS_USER && meta.references < mapped {
                self.violation(Rule::References, || {
                    format!(
                        "frame {frame:#x} has {} references, {mapped} mappings",
                        meta.references
                    )
                });
            }
        }
    }

    /// Every constructed table was reached.
    fn unreachable(&mut self) {
        let mut lost = Vec::new();
        let (seen, found) = (&self.seen, &mut self.found);
        self.vmemmap.for_each(|frame, meta| {
            if meta.class != CLASS_TABLE {
                return;
            }
            if meta.state != STATE_CONSTRUCTED {
                found.unlinked += 1;
                return;
            }
            found.constructed += 1;
            if !seen.contains_key(&frame) {
                lost.push((frame, meta));
            }
        });
        for (frame, meta) in lost {
            self.violation(Rule::TableUnreachable, || {
                format!(
                    "{frame:#x}, level {:?} of space {}, is reached from no root",
                    meta.level, meta.owner
                )
            });
        }
    }

    /// No table is in memory that the kernel's space maps writable.
    fn protected_tables(&mut self) {
        let holds = |&(start, end): &(u64, u64), table: u64| (start..end).contains(&table);
        let mut open: Vec<_> = self.seen.keys().copied().collect();
        open.retain(|&table| self.stored.iter().any(|range| holds(range, table)));
        open.sort_unstable();
        for table in open {
            self.violation(Rule::TableWritable, || format!("{table:#x}"));
        }
    }

    /// Counts executable memory that has a writable name; that is a figure, not a finding.
    fn aliases(&mut self) {
        for &(start, end) in &self.executable {
            for &(from, to) in &self.writable {
                let overlap = end.min(to).saturating_sub(start.max(from));
                self.found.writable_text_aliases += overlap / PAGE * PAGE;
            }
        }
    }
}
