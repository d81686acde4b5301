//! What the reader may find wrong.

use std::fmt;

/// The rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A root, table or next-level pointer leads outside RAM.
    TableOutsideRam,
    /// A table's frame has no record.
    TableUnrecorded,
    /// A reachable table's frame is not of class table.
    TableClass,
    /// A reachable table is not in state constructed.
    TableState,
    /// A table's record names another level than the one it is used at.
    TableLevel,
    /// A table's record names another space than the one it is reached from.
    TableOwner,
    /// A table's record names another kind of space than its root's.
    TableKind,
    /// A table is reached twice.
    TableShared,
    /// A table descriptor has hierarchical attributes.
    TableAttributes,
    /// A constructed table is reached from no root.
    TableUnreachable,
    /// A table can be written through a mapping of the kernel's, though tables are protected.
    TableWritable,
    /// The root in TTBR1 was not announced as the kernel's, or another root claims to be.
    KernelRoot,
    /// A descriptor has no meaning at its level, or an index lies beyond the address range.
    Corrupt,
    /// A mapping is writable and executable.
    WriteExecute,
    /// The direct map is executable.
    DirectMapExecute,
    /// Device memory is executable.
    DeviceExecute,
    /// Memory is mapped as registers of a device.
    DeviceOverRam,
    /// What is no memory is mapped as if it were.
    NormalOutsideRam,
    /// A mapping of a kernel space is open to EL0.
    KernelOpenToUser,
    /// A mapping of a user space is closed to EL0 or executable at EL1.
    UserPrivileged,
    /// A mapping of a user space is global.
    UserGlobal,
    /// A user mapping names a frame that is not of class user, nor data in tag storage.
    UserFrameClass,
    /// A program sees tags of a page that has none, or of tag storage, which never has (law 13).
    TagsWithoutStorage,
    /// The direct map shows a frame that holds tags.
    TagsInSight,
    /// A frame has fewer references than mappings.
    References,
    /// The contiguous hint in a kernel space.
    ContiguousInKernel,
    /// A contiguous block does not start at an aligned address, or its members do not follow.
    ContiguousAddress,
    /// A contiguous block has a member that is not valid, or lacks the hint.
    ContiguousHole,
    /// The members of a contiguous block differ in attributes.
    ContiguousAttributes,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// Where, and what was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}
