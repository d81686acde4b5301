//! Physical memory of the guest as the reader sees it: a shared file, or bytes in a test.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes in a page of the 4 KiB granule.
pub const PAGE: u64 = 4096;

/// Guest-physical memory that can be read while the guest waits.
pub trait Memory {
    /// First address of RAM.
    fn base(&self) -> u64;

    /// Bytes of RAM.
    fn len(&self) -> u64;

    /// Whether there is no RAM at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `into.len()` bytes at `address`; false where that is not all RAM.
    fn read(&self, address: u64, into: &mut [u8]) -> bool;

    /// Whether the page at `address` is RAM.
    fn has_page(&self, address: u64) -> bool {
        address.checked_sub(self.base()).is_some_and(|offset| {
            offset
                .checked_add(PAGE)
                .is_some_and(|end| end <= self.len())
        })
    }

    /// The 512 words of the page that holds `address`.
    fn page(&self, address: u64) -> Option<Box<[u64; 512]>> {
        let mut bytes = [0; PAGE as usize];
        if !self.read(address & !(PAGE - 1), &mut bytes) {
            return None;
        }
        let mut words = Box::new([0; 512]);
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        Some(words)
    }
}

/// The file behind `-object memory-backend-file,share=on`.
///
/// It is read with `pread`, not mapped: the page cache is what QEMU maps, so the bytes are the
/// same, and no reference to memory that another process writes ever exists here.
#[derive(Debug)]
pub struct RamFile {
    file: File,
    base: u64,
    len: u64,
}

impl RamFile {
    /// Opens the file that holds RAM starting at guest-physical `base`.
    ///
    /// # Errors
    /// Those of opening the file and asking for its length.
    pub fn open(path: &Path, base: u64) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { file, base, len })
    }
}

impl Memory for RamFile {
    fn base(&self) -> u64 {
        self.base
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        let Some(offset) = address.checked_sub(self.base) else {
            return false;
        };
        self.file.read_exact_at(into, offset).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_ram_file_answers_only_for_the_addresses_it_holds() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = vec![0; 2 * PAGE as usize];
        bytes[4096..4104].copy_from_slice(&0x1122_3344_5566_7788_u64.to_le_bytes());
        file.write_all(&bytes).unwrap();
        let ram = RamFile::open(file.path(), 0x4000_0000).unwrap();
        assert_eq!(ram.page(0x4000_1008).unwrap()[0], 0x1122_3344_5566_7788);
        assert!(ram.has_page(0x4000_1000) && !ram.has_page(0x4000_2000));
        assert!(ram.page(0x4000_2000).is_none());
        assert!(ram.page(0x3fff_f000).is_none());
        assert!(!ram.has_page(0) && !ram.has_page(u64::MAX - 4095));
    }
}
