//! The rules, and where each does not hold.

use super::{Exception, Signs};

const KERNEL: &[&str] = &["kernel/", "boot/"];
/// Cases of the compile-fail suite break rules on purpose.
const REFUSED: &str = "kernel/pgtable/tests/compile_fail/";

/// PTE-11: table memory is reached through slots, not through addresses.
const RAW_ACCESS: Signs = Signs {
    scope: KERNEL,
    signs: &[
        "read_volatile",
        "write_volatile",
        "from_ptr",
        "with_exposed_provenance",
        "with_exposed_provenance_mut",
        ".cells(",
        "as *const u64",
        "as *mut u64",
        "as *const AtomicU64",
        "as *mut AtomicU64",
    ],
    complaint: "memory reached through an address: table entries are reached through slots (PTE-11)",
    exceptions: &[
        Exception {
            path: "kernel/src/arch/",
            signs: &[
                "read_volatile",
                "write_volatile",
                "with_exposed_provenance",
                "with_exposed_provenance_mut",
            ],
            reason: "the machine: device registers, saved frames, and the windows made at boot",
        },
        Exception {
            path: "kernel/src/early/tables.rs",
            signs: &[
                "read_volatile",
                "write_volatile",
                "with_exposed_provenance_mut",
            ],
            reason: "boot tables are written before there is an engine, and nobody else sees them",
        },
        Exception {
            path: "kernel/pgtable/src/slot.rs",
            signs: &[".cells("],
            reason: "the one place where a table's entries come from its frame",
        },
        Exception {
            path: "kernel/pgtable/src/cells.rs",
            signs: &["with_exposed_provenance_mut"],
            reason: "the same entries, at their address in the write window (D16)",
        },
        Exception {
            path: "kernel/frame/src/racy.rs",
            signs: &["from_ptr"],
            reason: "copies of user memory, which races with programs; no table is user memory",
        },
        Exception {
            path: "kernel/frame/src/user.rs",
            signs: &["from_ptr"],
            reason: "a word of user memory, changed atomically; no table is user memory",
        },
        Exception {
            path: "kernel/src/fdt/tests.rs",
            signs: &[".cells("],
            reason: "cells of a device tree",
        },
        Exception {
            path: "kernel/frame/src/cells.rs",
            signs: &[".cells("],
            reason: "where a table frame's memory becomes atomic cells, and the test of that",
        },
        Exception {
            path: "kernel/frame/tests/",
            signs: &[".cells("],
            reason: "tests of the frames of tables, below the engine",
        },
        Exception {
            path: "kernel/pgtable/tests/",
            signs: &[".cells("],
            reason: "tests that change an entry as the hardware does, behind the engine's back",
        },
        Exception {
            path: "kernel/model/",
            signs: &[".cells(", "from_ptr"],
            reason: "a model of the hardware reads and writes entries as the hardware does",
        },
        Exception {
            path: REFUSED,
            signs: &["as *const u64"],
            reason: "the suite shows that the compiler refuses it",
        },
    ],
};

/// UF-31: words of entries, those that are not present above all, are built by the codec.
const WORDS: Signs = Signs {
    scope: KERNEL,
    signs: &["Pte::from_raw"],
    complaint: "a word of an entry that the codec did not build (UF-31)",
    exceptions: &[
        Exception {
            path: "kernel/arm64/tests/",
            signs: &["Pte::from_raw"],
            reason: "tests of the codec go through words that it would not build",
        },
        Exception {
            path: "kernel/pgtable/src/slot.rs",
            signs: &["Pte::from_raw"],
            reason: "a word that was loaded from an entry becomes a value",
        },
        Exception {
            path: "kernel/pgtable/src/cells.rs",
            signs: &["Pte::from_raw"],
            reason: "a word that was loaded from an entry, or exchanged with one",
        },
        Exception {
            path: "kernel/src/early/tables.rs",
            signs: &["Pte::from_raw"],
            reason: "a word that was loaded from a boot table, and the empty one",
        },
        Exception {
            path: "kernel/pgtable/tests/",
            signs: &["Pte::from_raw"],
            reason: "tests that change an entry as the hardware does, behind the engine's back",
        },
        Exception {
            path: "kernel/model/",
            signs: &["Pte::from_raw"],
            reason: "a model of the hardware reads and writes entries as the hardware does",
        },
    ],
};

/// Parts of tables, and of frames as entries see them.
const TABLE_PARTS: &[&str] = &[
    "TableRef",
    "locked_slot",
    "table_lock",
    "table_live",
    "table_from_entry",
    "adopt_table",
    "unchain_table",
    "drop_entries",
    "into_entry(",
    "from_entry(",
];

/// PTE-18: only the engine touches tables; everybody else goes by cursors and walks.
const TABLES: Signs = Signs {
    scope: KERNEL,
    signs: TABLE_PARTS,
    complaint: "a table touched outside of the engine: use a cursor or a walk (PTE-18)",
    exceptions: &[
        Exception {
            path: "kernel/pgtable/",
            signs: TABLE_PARTS,
            reason: "the engine, its tests, and the suite of what the compiler refuses",
        },
        Exception {
            path: "kernel/frame/",
            signs: TABLE_PARTS,
            reason: "where frames of tables, and references that entries hold, are defined",
        },
    ],
};

/// PTE-18 inside of the engine: cells, and the words of locks, have one module each.
const CELLS: Signs = Signs {
    scope: &["kernel/pgtable/src/"],
    signs: &[".cell(", "table_lock", "table_live", "AtomicU64"],
    complaint: "an entry's cell, or a table's lock, outside of its module (PTE-18)",
    exceptions: &[
        Exception {
            path: "kernel/pgtable/src/slot.rs",
            signs: &[".cell(", "AtomicU64"],
            reason: "slots are made of cells",
        },
        Exception {
            path: "kernel/pgtable/src/cells.rs",
            signs: &["AtomicU64"],
            reason: "the cells of a locked table, read and written",
        },
        Exception {
            path: "kernel/pgtable/src/lock.rs",
            signs: &["table_lock"],
            reason: "the split lock is taken here, for user tables only (CTOR-05)",
        },
        Exception {
            path: "kernel/pgtable/src/table.rs",
            signs: &["table_live"],
            reason: "the count of a table's entries belongs to the life of the table",
        },
        Exception {
            path: "kernel/pgtable/src/space.rs",
            signs: &["AtomicU64"],
            reason: "root and levels as one word (D12)",
        },
        Exception {
            path: "kernel/pgtable/src/asid.rs",
            signs: &["AtomicU64"],
            reason: "identifiers with their generation",
        },
        Exception {
            path: "kernel/pgtable/src/stats.rs",
            signs: &["AtomicU64"],
            reason: "counters of tables and events",
        },
    ],
};

/// CTOR-08: what a space is for is asked of its kind.
const COMPARISONS: Signs = Signs {
    scope: &["kernel/pgtable/", "kernel/mm/", "kernel/src/"],
    signs: &[
        "ptr::eq",
        "addr_eq",
        "fn_addr_eq",
        "Arc::ptr_eq",
        "Rc::ptr_eq",
    ],
    complaint: "spaces are told apart by kind and number, not by address (CTOR-08)",
    exceptions: &[Exception {
        path: "kernel/mm/src/object/image.rs",
        signs: &["ptr::eq"],
        reason: "two objects over the same bytes of an image; no space",
    }],
};

/// GUP-17: what orders two loads of a walk is the loads themselves.
const FENCES: Signs = Signs {
    scope: &["kernel/pgtable/src/", "kernel/mm/"],
    signs: &["fence(", "compiler_fence(", "spin_loop("],
    complaint: "a barrier of its own in code that walks tables (GUP-17)",
    exceptions: &[
        Exception {
            path: "kernel/pgtable/src/asid.rs",
            signs: &["fence("],
            reason: "identifiers against a CPU that takes one, a store before a load; no walk",
        },
        Exception {
            path: "kernel/pgtable/src/contpte.rs",
            signs: &["fence("],
            reason: "one release for a batch of new entries, on the side that writes them",
        },
    ],
};

/// PTE-04: raw entries, with their contiguous bit, are shown to people and judged by tests.
const TRACES: Signs = Signs {
    scope: &["kernel/pgtable/src/", "kernel/mm/src/", "kernel/src/"],
    signs: &[".trace("],
    complaint: "raw entries used for more than a report: take values from a walk (PTE-04)",
    exceptions: &[
        Exception {
            path: "kernel/mm/src/space.rs",
            signs: &[".trace("],
            reason: "copies the way to an address for a report",
        },
        Exception {
            path: "kernel/mm/src/fault/mod.rs",
            signs: &[".trace("],
            reason: "keeps the ways before and after the first fault for a report",
        },
        Exception {
            path: "kernel/src/selftest/",
            signs: &[".trace("],
            reason: "self-tests compare raw entries with the hardware's doing",
        },
    ],
};

/// All rules by signs.
pub const ALL: [&Signs; 7] = [
    &TRACES,
    &RAW_ACCESS,
    &WORDS,
    &TABLES,
    &CELLS,
    &COMPARISONS,
    &FENCES,
];
