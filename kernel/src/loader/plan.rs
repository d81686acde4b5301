//! From the bytes of an ELF file to a load plan: pure checking, no memory is touched.
//!
//! Everything in the file is an allegation. A [`Plan`] exists only when all of it holds together,
//! so that mapping it can fail for want of memory alone. Format: System V gABI, chapters "Object
//! Files" and "Program Loading"; the choices are those of Linux's loader.

use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::segment::{ProgramHeader, SegmentTable};

pub use super::refusal::PlanError;

/// Program headers that a file may have.
pub const HEADERS_MAX: usize = 128;
/// Loadable segments that a file may have.
pub const SEGMENTS_MAX: usize = 32;
/// Lowest address of a segment: Linux's default `vm.mmap_min_addr`.
pub const IMAGE_MIN: u64 = 0x1_0000;
/// End of the addresses that a segment may use; above are the mmap area and the stack.
pub const IMAGE_MAX: u64 = 0x60_0000_0000;
/// Where a position-independent program goes: two thirds of 2^39, as on Linux. There is no
/// address-space randomisation, so that two runs are alike.
pub const PIE_BASE: u64 = 0x55_5555_0000;

const PAGE: u64 = 4096;
const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// Largest alignment that a position-independent program gets.
const PIE_ALIGN_MAX: u64 = 1 << 30;

/// One loadable segment, at its final address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// First byte.
    pub addr: u64,
    /// Bytes in memory; at least `file_len`, never 0.
    pub len: u64,
    /// Offset of the first byte in the file; equal to `addr` within a page if `file_len` is not 0.
    pub offset: u64,
    /// Bytes that come from the file.
    pub file_len: u64,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub exec: bool,
}

impl Segment {
    /// One past the last byte.
    pub const fn end(&self) -> u64 {
        self.addr + self.len
    }

    /// The pages that come from the file: start, end, and the file offset of the start.
    /// `None` when the segment has no byte in the file.
    pub const fn file_pages(&self) -> Option<(u64, u64, u64)> {
        if self.file_len == 0 {
            return None;
        }
        let start = self.addr & !(PAGE - 1);
        let end = page_up(self.addr + self.file_len);
        Some((start, end, self.offset & !(PAGE - 1)))
    }

    /// The pages of zeroes after the file's: start and end. `None` when there are none.
    pub const fn zero_pages(&self) -> Option<(u64, u64)> {
        let start = match self.file_pages() {
            Some((_, end, _)) => end,
            None => self.addr & !(PAGE - 1),
        };
        let end = page_up(self.end());
        if start < end {
            Some((start, end))
        } else {
            None
        }
    }

    /// The bytes to clear in the last page of the file part: start and end. `None` when the file
    /// part ends with its page, or the segment with the file part.
    pub const fn partial_zero(&self) -> Option<(u64, u64)> {
        let start = self.addr + self.file_len;
        if self.file_len == 0 || self.len == self.file_len || start.is_multiple_of(PAGE) {
            return None;
        }
        Some((start, page_up(start)))
    }
}

const fn page_up(n: u64) -> u64 {
    (n + PAGE - 1) & !(PAGE - 1)
}

/// What to map and where to start. All addresses are final: the bias is in them.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    segments: [Segment; SEGMENTS_MAX],
    count: usize,
    /// What was added to the addresses in the file; 0 unless position-independent.
    pub bias: u64,
    /// First instruction.
    pub entry: u64,
    /// Address of the program headers in memory for `AT_PHDR`; 0 if they are not loaded.
    pub headers: u64,
    /// Number of program headers.
    pub header_count: u16,
    /// Where the heap may start: the page after the last segment.
    pub brk: u64,
}

impl Plan {
    /// The segments by rising address.
    pub fn segments(&self) -> &[Segment] {
        &self.segments[..self.count]
    }

    /// Pages that the whole image would take.
    pub fn pages(&self) -> u64 {
        self.segments()
            .iter()
            .map(|s| (page_up(s.end()) - (s.addr & !(PAGE - 1))) / PAGE)
            .sum()
    }

    /// Checks `file` and plans its place in memory.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn new(file: &[u8]) -> Result<Self, PlanError> {
        let header = parse_header(file)?;
        let table = parse_table(file, &header)?;
        refuse_dynamic(&table)?;
        let pie = header.e_type == abi::ET_DYN;
        let bias = if pie { bias_for(&table) } else { 0 };
        let mut plan = Self {
            segments: [Segment::default(); SEGMENTS_MAX],
            count: 0,
            bias,
            entry: header.e_entry.wrapping_add(bias),
            headers: 0,
            header_count: header.e_phnum,
            brk: 0,
        };
        plan.collect(file, &table)?;
        plan.finish(header.e_phoff)
    }

    fn collect(
        &mut self,
        file: &[u8],
        table: &SegmentTable<'_, LittleEndian>,
    ) -> Result<(), PlanError> {
        let mut origin = [0u16; SEGMENTS_MAX];
        for (index, header) in table.iter().enumerate() {
            let index = index as u16;
            if header.p_type != abi::PT_LOAD || header.p_memsz == 0 && header.p_filesz == 0 {
                continue;
            }
            let segment = check_segment(file, &header, self.bias, index)?;
            if self.count == SEGMENTS_MAX {
                return Err(PlanError::TooManyHeaders(self.header_count));
            }
            let clash = |s: &Segment| s.addr < segment.end() && segment.addr < s.end();
            if let Some(i) = self.segments().iter().position(clash) {
                return Err(PlanError::Overlap(origin[i], index));
            }
            let at = self
                .segments()
                .iter()
                .take_while(|s| s.addr < segment.addr)
                .count();
            self.segments.copy_within(at..self.count, at + 1);
            origin.copy_within(at..self.count, at + 1);
            self.segments[at] = segment;
            origin[at] = index;
            self.count += 1;
        }
        Ok(())
    }

    fn finish(mut self, header_offset: u64) -> Result<Self, PlanError> {
        let last = *self.segments().last().ok_or(PlanError::NoSegment)?;
        self.brk = page_up(last.end());
        let entry = self.entry;
        let holds = |s: &&Segment| s.exec && s.addr <= entry && entry < s.addr + s.file_len;
        if self.segments().iter().find(holds).is_none() || !entry.is_multiple_of(4) {
            return Err(PlanError::Entry(entry));
        }
        let loaded =
            |s: &&Segment| s.offset <= header_offset && header_offset < s.offset + s.file_len;
        if let Some(s) = self.segments().iter().find(loaded) {
            self.headers = s.addr + (header_offset - s.offset);
        }
        Ok(self)
    }
}

fn parse_header(file: &[u8]) -> Result<FileHeader<LittleEndian>, PlanError> {
    if file.get(..4) != Some(&abi::ELFMAGIC) {
        return Err(PlanError::NotElf);
    }
    if file.len() < FILE_HEADER {
        return Err(PlanError::Truncated);
    }
    let machine = u16::from_le_bytes([file[18], file[19]]);
    match (file[abi::EI_CLASS], file[abi::EI_DATA]) {
        (abi::ELFCLASS32, _) => return Err(PlanError::Class32(machine)),
        (abi::ELFCLASS64, abi::ELFDATA2MSB) => return Err(PlanError::BigEndian),
        _ => {}
    }
    let ident = parse_ident::<LittleEndian>(file).map_err(|_| PlanError::BadHeader)?;
    let tail = &file[abi::EI_NIDENT..FILE_HEADER];
    let header = FileHeader::parse_tail(ident, tail).map_err(|_| PlanError::BadHeader)?;
    if header.e_machine != abi::EM_AARCH64 {
        return Err(PlanError::Machine(header.e_machine));
    }
    if header.e_type != abi::ET_EXEC && header.e_type != abi::ET_DYN {
        return Err(PlanError::NotExecutable(header.e_type));
    }
    Ok(header)
}

fn parse_table<'a>(
    file: &'a [u8],
    header: &FileHeader<LittleEndian>,
) -> Result<SegmentTable<'a, LittleEndian>, PlanError> {
    let count = usize::from(header.e_phnum);
    if count == 0 {
        return Err(PlanError::NoSegment);
    }
    if count > HEADERS_MAX {
        return Err(PlanError::TooManyHeaders(header.e_phnum));
    }
    if usize::from(header.e_phentsize) != PROGRAM_HEADER {
        return Err(PlanError::BadHeader);
    }
    let start = usize::try_from(header.e_phoff).map_err(|_| PlanError::Truncated)?;
    let end = start
        .checked_add(count * PROGRAM_HEADER)
        .ok_or(PlanError::Truncated)?;
    let bytes = file.get(start..end).ok_or(PlanError::Truncated)?;
    Ok(SegmentTable::new(LittleEndian, Class::ELF64, bytes))
}

fn refuse_dynamic(table: &SegmentTable<'_, LittleEndian>) -> Result<(), PlanError> {
    match table.iter().any(|h| h.p_type == abi::PT_INTERP) {
        true => Err(PlanError::Dynamic),
        false => Ok(()),
    }
}

/// The bias puts the lowest page of the image at [`PIE_BASE`] or, for larger alignments, above.
fn bias_for(table: &SegmentTable<'_, LittleEndian>) -> u64 {
    let loads = || table.iter().filter(|h| h.p_type == abi::PT_LOAD);
    let align = loads()
        .map(|h| h.p_align)
        .filter(|a| a.is_power_of_two() && *a <= PIE_ALIGN_MAX)
        .fold(PAGE, u64::max);
    let lowest = loads().map(|h| h.p_vaddr).min().unwrap_or(0) & !(align - 1);
    PIE_BASE.next_multiple_of(align).wrapping_sub(lowest)
}

fn check_segment(
    file: &[u8],
    header: &ProgramHeader,
    bias: u64,
    index: u16,
) -> Result<Segment, PlanError> {
    if header.p_memsz < header.p_filesz {
        return Err(PlanError::SegmentSize(index));
    }
    let file_end = header
        .p_offset
        .checked_add(header.p_filesz)
        .ok_or(PlanError::Truncated)?;
    if header.p_filesz != 0 && file_end > file.len() as u64 {
        return Err(PlanError::Truncated);
    }
    let addr = header.p_vaddr.wrapping_add(bias);
    let end = addr
        .checked_add(header.p_memsz)
        .ok_or(PlanError::SegmentRange(index))?;
    if addr < IMAGE_MIN || end > IMAGE_MAX {
        return Err(PlanError::SegmentRange(index));
    }
    if header.p_filesz != 0 && (addr ^ header.p_offset) & (PAGE - 1) != 0 {
        return Err(PlanError::SegmentAlignment(index));
    }
    Ok(Segment {
        addr,
        len: header.p_memsz,
        offset: header.p_offset,
        file_len: header.p_filesz,
        read: header.p_flags & abi::PF_R != 0,
        write: header.p_flags & abi::PF_W != 0,
        exec: header.p_flags & abi::PF_X != 0,
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
