//! Programs: from the bytes of an ELF file to what is to be mapped where. The rules are those of the
//! kernel's own loader, and of Linux's: System V gABI, "Program Loading".

use std::fmt;

use elf::ElfBytes;
use elf::abi;
use elf::endian::LittleEndian;
use elf::segment::ProgramHeader;

use crate::{PAGE, Prot};

const PAGE64: u64 = PAGE as u64;
/// The lowest address of a program, and the end of its addresses: above are mappings and the stack.
const BOUNDS: (u64, u64) = (0x1_0000, 0x60_0000_0000);
/// Where a program goes that may go anywhere.
const PIE_BASE: u64 = 0x55_5555_0000;
/// Largest alignment that such a program gets.
const ALIGN_MAX: u64 = 1 << 30;

/// Why a file is no program that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadElf {
    /// It is no ELF file, or one that is cut off or damaged.
    NotElf,
    /// It is for another machine, or no executable.
    OtherMachine,
    /// It needs a dynamic linker.
    Dynamic,
    /// A segment is in the way of another, misaligned, or at an impossible place.
    Segment(usize),
    /// There is nothing to run at its entry.
    Entry(u64),
}

impl fmt::Display for BadElf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("not an ELF file, or a damaged one"),
            Self::OtherMachine => f.write_str("not an executable for 64-bit Arm"),
            Self::Dynamic => f.write_str("it needs a dynamic linker; static programs only"),
            Self::Segment(n) => write!(f, "segment {n} cannot be where it is to be"),
            Self::Entry(at) => write!(f, "there is nothing to run at its entry {at:#x}"),
        }
    }
}

impl std::error::Error for BadElf {}

/// A part of a program, at its place in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First byte.
    pub address: u64,
    /// Bytes in memory.
    pub len: u64,
    /// Where they begin in the file.
    pub offset: u64,
    /// How many come from the file; zeros follow.
    pub file_len: u64,
    /// What may be done with it.
    pub prot: Prot,
}

impl Segment {
    const fn end(&self) -> u64 {
        self.address + self.len
    }

    const fn file_end(&self) -> u64 {
        self.address + self.file_len
    }

    /// The pages that have bytes of the file: first address, bytes, offset in the file.
    pub const fn file_pages(&self) -> Option<(u64, u64, u64)> {
        if self.file_len == 0 {
            return None;
        }
        let into = self.address % PAGE64;
        let start = self.address - into;
        let len = self.file_end().next_multiple_of(PAGE64) - start;
        Some((start, len, self.offset - into))
    }

    /// The pages of zeros behind them: first address, bytes.
    pub const fn zero_pages(&self) -> Option<(u64, u64)> {
        let start = match self.file_len {
            0 => self.address - self.address % PAGE64,
            _ => self.file_end().next_multiple_of(PAGE64),
        };
        let end = self.end().next_multiple_of(PAGE64);
        if start < end {
            Some((start, end - start))
        } else {
            None
        }
    }

    /// The rest of the last page with bytes of the file, which is to be cleared: address, bytes.
    pub const fn rest_of_page(&self) -> Option<(u64, u64)> {
        let start = self.file_end();
        let end = start.next_multiple_of(PAGE64);
        if self.file_len == 0 || self.len == self.file_len || start == end {
            return None;
        }
        Some((start, end - start))
    }
}

/// A program, and where everything of it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its parts, by address.
    pub segments: Vec<Segment>,
    /// First instruction.
    pub entry: u64,
    /// Where the program headers are in memory; 0 if they are not.
    pub headers: u64,
    /// How many there are.
    pub header_count: u64,
    /// Where the heap begins: behind the last part.
    pub heap: u64,
}

impl Program {
    /// Reads a file's headers.
    ///
    /// # Errors
    /// It is no static program for this machine.
    pub fn parse(file: &[u8]) -> Result<Self, BadElf> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| BadElf::NotElf)?;
        let header = elf.ehdr;
        let executable = matches!(header.e_type, abi::ET_EXEC | abi::ET_DYN);
        if header.e_machine != abi::EM_AARCH64 || !executable {
            return Err(BadElf::OtherMachine);
        }
        let table: Vec<_> = elf.segments().ok_or(BadElf::NotElf)?.iter().collect();
        if table.iter().any(|part| part.p_type == abi::PT_INTERP) {
            return Err(BadElf::Dynamic);
        }
        let bias = match header.e_type {
            abi::ET_DYN => bias(&table),
            _ => 0,
        };
        let segments = segments(file.len() as u64, &table, bias)?;
        let entry = header.e_entry.wrapping_add(bias);
        let runs = |part: &&Segment| {
            part.prot.contains(Prot::EXEC) && (part.address..part.file_end()).contains(&entry)
        };
        if !entry.is_multiple_of(4) || !segments.iter().any(|part| runs(&part)) {
            return Err(BadElf::Entry(entry));
        }
        let has_headers =
            |part: &&Segment| (part.offset..part.offset + part.file_len).contains(&header.e_phoff);
        let headers = segments.iter().find(has_headers);
        Ok(Self {
            entry,
            headers: headers.map_or(0, |part| part.address + header.e_phoff - part.offset),
            header_count: table.len() as u64,
            heap: segments
                .last()
                .map_or(0, Segment::end)
                .next_multiple_of(PAGE64),
            segments,
        })
    }
}

/// What is added to the addresses of a program that may go anywhere.
fn bias(table: &[ProgramHeader]) -> u64 {
    let loaded = || table.iter().filter(|part| part.p_type == abi::PT_LOAD);
    let align = loaded()
        .map(|part| part.p_align)
        .filter(|align| align.is_power_of_two() && *align <= ALIGN_MAX)
        .fold(PAGE64, u64::max);
    let lowest = loaded().map(|part| part.p_vaddr).min().unwrap_or(0);
    PIE_BASE
        .next_multiple_of(align)
        .wrapping_sub(lowest & !(align - 1))
}

fn segments(file: u64, table: &[ProgramHeader], bias: u64) -> Result<Vec<Segment>, BadElf> {
    let mut segments: Vec<Segment> = Vec::new();
    for (n, part) in table.iter().enumerate() {
        if part.p_type != abi::PT_LOAD || part.p_memsz == 0 && part.p_filesz == 0 {
            continue;
        }
        let segment = segment(file, part, bias).ok_or(BadElf::Segment(n))?;
        let pages = |part: &Segment| (part.address & !(PAGE64 - 1), part.end());
        let (start, end) = pages(&segment);
        let clash = |other: &Segment| pages(other).0 < end && start < pages(other).1;
        if segments.iter().any(clash) {
            return Err(BadElf::Segment(n));
        }
        segments.push(segment);
    }
    segments.sort_by_key(|part| part.address);
    Ok(segments)
}

fn segment(file: u64, part: &ProgramHeader, bias: u64) -> Option<Segment> {
    let address = part.p_vaddr.wrapping_add(bias);
    let end = address.checked_add(part.p_memsz)?;
    let in_bounds = BOUNDS.0 <= address && end <= BOUNDS.1;
    let in_file = part.p_offset.checked_add(part.p_filesz)? <= file;
    let congruent = (address ^ part.p_offset).is_multiple_of(PAGE64);
    let possible = part.p_filesz == 0 || in_file && congruent;
    let mut prot = Prot::READ;
    prot.set(Prot::WRITE, part.p_flags & abi::PF_W != 0);
    prot.set(Prot::EXEC, part.p_flags & abi::PF_X != 0);
    (in_bounds && possible && part.p_filesz <= part.p_memsz).then_some(Segment {
        address,
        len: part.p_memsz,
        offset: part.p_offset,
        file_len: part.p_filesz,
        prot,
    })
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
