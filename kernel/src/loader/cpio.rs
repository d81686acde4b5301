//! Reader of the initrd: a cpio archive in the "newc" format.
//!
//! The archive is input from outside, so every number in it is checked before it is used. Entries
//! borrow from the archive: nothing is copied. Format: the `cpio(5)` manual page, "New ASCII
//! Format".

use core::fmt;

const HEADER: usize = 110;
const MAGIC: &[u8] = b"070701";
const MAGIC_WITH_CHECKSUM: &[u8] = b"070702";
const TRAILER: &[u8] = b"TRAILER!!!";
/// Longest name that is read; longer ones mean a damaged archive.
const NAME_MAX: usize = 4096;

/// Why an archive cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpioError {
    /// No entry starts at this byte offset.
    BadMagic(usize),
    /// A header field at this byte offset is not a hexadecimal number, or is absurd.
    BadNumber(usize),
    /// The archive ends within the entry that starts at this byte offset.
    Truncated(usize),
}

impl fmt::Display for CpioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadMagic(at) => write!(f, "no cpio entry (newc) at byte {at}"),
            Self::BadNumber(at) => write!(f, "damaged cpio header at byte {at}"),
            Self::Truncated(at) => write!(f, "the entry at byte {at} is cut off"),
        }
    }
}

/// One file of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Path, without a leading `./`.
    pub name: &'a [u8],
    /// Contents.
    pub data: &'a [u8],
}

/// An archive in memory.
#[derive(Clone, Copy, Debug)]
pub struct Archive<'a> {
    bytes: &'a [u8],
}

impl<'a> Archive<'a> {
    /// An archive over `bytes`. Nothing is checked yet.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// All entries in order, up to the trailer. The first damaged one ends the iteration.
    pub const fn entries(&self) -> Entries<'a> {
        Entries {
            bytes: self.bytes,
            at: 0,
            done: false,
        }
    }

    /// Contents of the file called `name`; the last one wins, as when unpacking.
    ///
    /// # Errors
    /// When the archive is damaged anywhere, so that a cut-off archive is never half believed.
    pub fn find(&self, name: &[u8]) -> Result<Option<&'a [u8]>, CpioError> {
        let mut found = None;
        for entry in self.entries() {
            let entry = entry?;
            if entry.name == name {
                found = Some(entry.data);
            }
        }
        Ok(found)
    }
}

/// Iterator over the entries of an [`Archive`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    at: usize,
    done: bool,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, CpioError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let entry = self.read();
        if !matches!(entry, Ok(Some(_))) {
            self.done = true;
        }
        entry.transpose()
    }
}

impl<'a> Entries<'a> {
    fn read(&mut self) -> Result<Option<Entry<'a>>, CpioError> {
        let start = self.at;
        let header = self
            .slice(start, HEADER)
            .ok_or(CpioError::Truncated(start))?;
        if !header.starts_with(MAGIC) && !header.starts_with(MAGIC_WITH_CHECKSUM) {
            return Err(CpioError::BadMagic(start));
        }
        let size = field(header, 6).ok_or(CpioError::BadNumber(start))?;
        let name_size = field(header, 11).ok_or(CpioError::BadNumber(start))?;
        if name_size == 0 || name_size > NAME_MAX {
            return Err(CpioError::BadNumber(start));
        }
        let name_at = start + HEADER;
        let name = self
            .slice(name_at, name_size)
            .ok_or(CpioError::Truncated(start))?;
        let data_at = align4(name_at + name_size);
        let data = self
            .slice(data_at, size)
            .ok_or(CpioError::Truncated(start))?;
        self.at = align4(data_at + size);
        let name = name
            .strip_suffix(b"\0")
            .ok_or(CpioError::BadNumber(start))?;
        if name == TRAILER {
            return Ok(None);
        }
        Ok(Some(Entry {
            name: name.strip_prefix(b"./").unwrap_or(name),
            data,
        }))
    }

    fn slice(&self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.bytes.get(at..at.checked_add(len)?)
    }
}

const fn align4(n: usize) -> usize {
    (n + 3) & !3
}

/// Field `index` of a header: eight hexadecimal digits after the magic number.
fn field(header: &[u8], index: usize) -> Option<usize> {
    let start = 6 + index * 8;
    let mut value = 0usize;
    for &digit in header.get(start..start + 8)? {
        value = value << 4 | (digit as char).to_digit(16)? as usize;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{format, vec::Vec};

    fn put(out: &mut Vec<u8>, name: &str, data: &[u8]) {
        let head = format!(
            "070701{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
            1,
            0o100644,
            0,
            0,
            1,
            0,
            data.len(),
            0,
            0,
            0,
            0,
            name.len() + 1,
            0
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.resize(align4(out.len()), 0);
        out.extend_from_slice(data);
        out.resize(align4(out.len()), 0);
    }

    fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, "args", b"a\0b c\0");
        put(&mut out, "./bin/x", b"12345");
        put(&mut out, "empty", b"");
        put(&mut out, "TRAILER!!!", b"");
        out
    }

    #[test]
    fn files_are_found_by_name() {
        let bytes = sample();
        let archive = Archive::new(&bytes);
        assert_eq!(archive.find(b"args"), Ok(Some(&b"a\0b c\0"[..])));
        assert_eq!(archive.find(b"bin/x"), Ok(Some(&b"12345"[..])));
        assert_eq!(archive.find(b"empty"), Ok(Some(&b""[..])));
        assert_eq!(archive.find(b"other"), Ok(None));
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = sample();
        let whole = bytes.len();
        for cut in 0..whole - 4 {
            let archive = Archive::new(&bytes[..cut]);
            assert!(archive.find(b"args").is_err(), "cut at {cut} of {whole}");
        }
    }

    #[test]
    fn garbage_is_refused_not_followed() {
        assert_eq!(
            Archive::new(&[0x55; 200]).find(b"x"),
            Err(CpioError::BadMagic(0))
        );
        let mut bytes = sample();
        bytes[6 + 11 * 8..6 + 12 * 8].copy_from_slice(b"fffffff0");
        assert_eq!(
            Archive::new(&bytes).find(b"x"),
            Err(CpioError::BadNumber(0))
        );
        let mut bytes = sample();
        bytes[6 + 6 * 8..6 + 7 * 8].copy_from_slice(b"ffffffff");
        assert_eq!(
            Archive::new(&bytes).find(b"x"),
            Err(CpioError::Truncated(0))
        );
    }

    #[test]
    fn a_flipped_byte_never_panics() {
        let good = sample();
        for at in 0..good.len() {
            for flip in [1u8, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                let _ = Archive::new(&bytes).entries().count();
            }
        }
    }
}
