//! Why a file cannot be run, in words.

use core::fmt;

use super::plan::{HEADERS_MAX, IMAGE_MAX, IMAGE_MIN, SEGMENTS_MAX};

/// Why a file cannot be run. [`reason`](Self::reason) is for machines, `Display` for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// Does not start with the ELF magic number.
    NotElf,
    /// A 32-bit file, with its machine number (0 if the file ends before it).
    Class32(u16),
    /// A big-endian file.
    BigEndian,
    /// Another machine's code, with the machine number.
    Machine(u16),
    /// Neither `ET_EXEC` nor `ET_DYN`, with the type.
    NotExecutable(u16),
    /// Wants a dynamic linker.
    Dynamic,
    /// The file ends before a header or a segment that it announces.
    Truncated,
    /// Program headers of an unknown size, or an unknown ELF version.
    BadHeader,
    /// More headers or segments than are supported.
    TooManyHeaders(u16),
    /// Nothing to load.
    NoSegment,
    /// Segment `.0` takes less memory than it has bytes in the file.
    SegmentSize(u16),
    /// Segment `.0` lies outside of the addresses for programs, or wraps around.
    SegmentRange(u16),
    /// Segment `.0`: file offset and address differ within a page.
    SegmentAlignment(u16),
    /// Segments `.0` and `.1` overlap.
    Overlap(u16, u16),
    /// The entry point lies in no executable segment.
    Entry(u64),
}

impl PlanError {
    /// One word for the `execfail` control line.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotElf => "not-elf",
            Self::Class32(_) => "elf32",
            Self::BigEndian => "big-endian",
            Self::Machine(_) => "wrong-machine",
            Self::NotExecutable(_) => "not-executable",
            Self::Dynamic => "dynamic",
            Self::Truncated => "truncated",
            Self::BadHeader => "bad-header",
            Self::TooManyHeaders(_) => "too-many-headers",
            Self::NoSegment => "no-segment",
            Self::SegmentSize(_) => "segment-size",
            Self::SegmentRange(_) => "segment-range",
            Self::SegmentAlignment(_) => "segment-alignment",
            Self::Overlap(..) => "segment-overlap",
            Self::Entry(_) => "entry",
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotElf => f.write_str("the program is not an ELF file"),
            Self::Class32(machine) => {
                write!(
                    f,
                    "the program is 32-bit code ({}); ",
                    machine_name(machine)
                )?;
                f.write_str("a 64-bit Arm (aarch64) program is needed")
            }
            Self::BigEndian => {
                f.write_str("the program is big-endian; this kernel runs little-endian ones")
            }
            Self::Machine(machine) => {
                write!(
                    f,
                    "the program is for {} (ELF machine {machine}); ",
                    machine_name(machine)
                )?;
                f.write_str("an aarch64 program is needed")
            }
            Self::NotExecutable(kind) => {
                write!(f, "the ELF file is {}, not an executable", type_name(kind))
            }
            Self::Dynamic => f.write_str(
                "the program is dynamically linked and there is no dynamic linker here; build a \
                 static one: `cargo build --target aarch64-unknown-linux-musl` for Rust, \
                 `aarch64-linux-gnu-gcc -static` for C",
            ),
            Self::Truncated => {
                f.write_str("the ELF file is cut off: it ends before what its headers announce")
            }
            Self::BadHeader => {
                f.write_str("the ELF header is damaged (version or header size unknown)")
            }
            Self::TooManyHeaders(n) => {
                write!(f, "the ELF file has {n} program headers or segments; ")?;
                write!(
                    f,
                    "at most {HEADERS_MAX} headers with {SEGMENTS_MAX} segments are supported"
                )
            }
            Self::NoSegment => f.write_str("the ELF file has no segment to load"),
            Self::SegmentSize(i) => {
                write!(
                    f,
                    "program header {i}: more bytes in the file than in memory"
                )
            }
            Self::SegmentRange(i) => {
                write!(
                    f,
                    "program header {i}: addresses outside of {IMAGE_MIN:#x} to {IMAGE_MAX:#x}"
                )
            }
            Self::SegmentAlignment(i) => {
                write!(
                    f,
                    "program header {i}: file offset and address differ within a 4 KiB page"
                )
            }
            Self::Overlap(a, b) => {
                write!(f, "program headers {a} and {b}: their addresses overlap")
            }
            Self::Entry(at) => write!(f, "the entry point {at:#x} is in no executable segment"),
        }
    }
}

/// Name of an ELF machine number, for people.
pub const fn machine_name(machine: u16) -> &'static str {
    match machine {
        3 => "x86 (i386)",
        8 => "MIPS",
        20 => "PowerPC",
        21 => "PowerPC64",
        22 => "s390x",
        40 => "32-bit Arm",
        43 => "SPARC",
        62 => "x86-64",
        183 => "aarch64",
        243 => "RISC-V",
        247 => "BPF",
        258 => "LoongArch",
        _ => "an unknown machine",
    }
}

const fn type_name(kind: u16) -> &'static str {
    match kind {
        1 => "an object file",
        4 => "a core dump",
        _ => "of an unknown type",
    }
}
