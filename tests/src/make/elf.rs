//! A tiny ELF writer for programs that no compiler would make.

/// `e_type` of a program with fixed addresses.
pub const EXEC: u16 = 2;
/// `e_type` of a position-independent program.
pub const DYN: u16 = 3;
/// `p_type` of a segment to load.
pub const LOAD: u32 = 1;
/// `p_type` of the name of an interpreter.
pub const INTERP: u32 = 3;
/// Permission bits of a segment.
pub const X: u32 = 1;
/// See [`X`].
pub const W: u32 = 2;
/// See [`X`].
pub const R: u32 = 4;

/// Where the one segment of [`Elf::exits`] is loaded.
pub const BASE: u64 = 0x40_0000;
/// Bytes of the ELF header.
pub const HEADER: usize = 64;
/// Bytes of a program header.
pub const PHDR: usize = 56;

/// A program header.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    /// `p_type`.
    pub kind: u32,
    /// `p_flags`.
    pub flags: u32,
    /// `p_offset`.
    pub offset: u64,
    /// `p_vaddr`.
    pub address: u64,
    /// `p_filesz`.
    pub in_file: u64,
    /// `p_memsz`.
    pub in_memory: u64,
    /// `p_align`.
    pub align: u64,
}

/// An ELF file as its parts; every field may be made wrong.
#[derive(Clone, Debug)]
pub struct Elf {
    /// `EI_CLASS`: 1 for 32 bits, 2 for 64.
    pub class: u8,
    /// `EI_DATA`: 1 little endian, 2 big.
    pub data: u8,
    /// `e_type`.
    pub kind: u16,
    /// `e_machine`: 183 for AArch64.
    pub machine: u16,
    /// `e_entry`.
    pub entry: u64,
    /// `e_phoff`.
    pub table: u64,
    /// `e_phentsize`.
    pub entry_size: u16,
    /// `e_phnum`; `None` counts `segments`.
    pub count: Option<u16>,
    /// The program headers, written after the header.
    pub segments: Vec<Segment>,
    /// The bytes after the program headers.
    pub body: Vec<u8>,
}

impl Elf {
    /// A good program that calls exit_group with this status: one read-execute segment that holds
    /// the whole file.
    pub fn exits(status: u16) -> Self {
        Self::runs(&exit_code(status))
    }

    /// A program that stores a word behind its own code first, for which its segment has to be
    /// writable, and then exits.
    pub fn writes_and_exits(status: u16) -> Self {
        /// `adr x1, .` and `str wzr, [x1, #256]`.
        const STORE: [u32; 2] = [0x1000_0001, 0xb901_003f];
        let code: Vec<u32> = STORE.into_iter().chain(exit_code(status)).collect();
        Self::runs(&code)
    }

    /// A good program that runs these instructions.
    pub fn runs(code: &[u32]) -> Self {
        let body: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
        let start = (HEADER + PHDR) as u64;
        let len = start + body.len() as u64;
        let segment = Segment {
            kind: LOAD,
            flags: R | X,
            offset: 0,
            address: BASE,
            in_file: len,
            in_memory: len,
            align: 4096,
        };
        Self {
            class: 2,
            data: 1,
            kind: EXEC,
            machine: 183,
            entry: BASE + start,
            table: HEADER as u64,
            entry_size: PHDR as u16,
            count: None,
            segments: vec![segment],
            body,
        }
    }

    /// With a further segment; the code moves with the table, and entry and first segment follow.
    pub fn with(mut self, segment: Segment) -> Self {
        self.segments.push(segment);
        self.entry += PHDR as u64;
        self.segments[0].in_file += PHDR as u64;
        self.segments[0].in_memory += PHDR as u64;
        self
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0x7f, b'E', b'L', b'F', self.class, self.data, 1];
        out.resize(16, 0);
        out.extend(self.kind.to_le_bytes());
        out.extend(self.machine.to_le_bytes());
        out.extend(1_u32.to_le_bytes());
        out.extend(
            [self.entry, self.table, 0]
                .iter()
                .flat_map(|word| word.to_le_bytes()),
        );
        out.extend(0_u32.to_le_bytes());
        let count = self.count.unwrap_or(self.segments.len() as u16);
        let sizes = [HEADER as u16, self.entry_size, count, 64, 0, 0];
        out.extend(sizes.iter().flat_map(|half| half.to_le_bytes()));
        for segment in &self.segments {
            out.extend(segment.kind.to_le_bytes());
            out.extend(segment.flags.to_le_bytes());
            let Segment {
                offset,
                address,
                in_file,
                in_memory,
                align,
                ..
            } = *segment;
            let words = [offset, address, address, in_file, in_memory, align];
            out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        out.extend(&self.body);
        out
    }
}

/// `exit_group(status)`.
pub fn exit_code(status: u16) -> Vec<u32> {
    vec![movz(0, status), movz(8, 94), SVC, 0]
}

/// `svc #0`.
pub const SVC: u32 = 0xd400_0001;

/// `movz xD, #value`.
pub const fn movz(register: u32, value: u16) -> u32 {
    0xd280_0000 | (value as u32) << 5 | register
}

/// `movk xD, #value, lsl #16`.
pub const fn movk16(register: u32, value: u16) -> u32 {
    0xf2a0_0000 | (value as u32) << 5 | register
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask::image::is_aarch64_elf;

    #[test]
    fn the_good_program_has_its_entry_at_its_code() {
        for elf in [Elf::exits(7), Elf::exits(7).with(Segment::default())] {
            let bytes = elf.bytes();
            assert!(is_aarch64_elf(&bytes));
            let code = (elf.entry - BASE) as usize;
            assert_eq!(&bytes[code..code + 4], &movz(0, 7).to_le_bytes());
            assert_eq!(elf.segments[0].in_file, bytes.len() as u64);
        }
    }

    #[test]
    fn instructions_are_encoded_as_the_architecture_says() {
        assert_eq!(movz(8, 94), 0xd280_0bc8);
        assert_eq!(movk16(0, 0x4800), 0xf2a9_0000);
    }
}
