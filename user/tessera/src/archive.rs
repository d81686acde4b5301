//! The initial RAM disk: a cpio archive in the "newc" format (the `cpio(5)` manual page), read in
//! place.

use std::fmt;
use std::sync::OnceLock;

use crate::Error;
use crate::sys::mapping;

const HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";

/// An archive in memory.
#[derive(Clone, Copy, Debug)]
pub struct Archive<'a> {
    bytes: &'a [u8],
}

/// A file of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File<'a> {
    /// Its path.
    pub name: &'a str,
    /// Its contents.
    pub data: &'a [u8],
}

/// No entry of an archive is at this byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadArchive(pub usize);

impl fmt::Display for BadArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the archive is damaged at byte {}", self.0)
    }
}

impl std::error::Error for BadArchive {}

/// The archive that this process was started with, or was given in [`INITRD`](abi::slot::INITRD).
///
/// # Errors
/// It was given none.
pub fn initrd() -> Result<Archive<'static>, Error> {
    static MAPPED: OnceLock<Result<&'static [u8], Error>> = OnceLock::new();
    let mapped = MAPPED.get_or_init(mapping::initrd);
    (*mapped).map(Archive::new)
}

impl<'a> Archive<'a> {
    /// An archive over `bytes`. Nothing is checked yet.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The files in order. What is damaged ends it, after an error.
    pub fn files(self) -> impl Iterator<Item = Result<File<'a>, BadArchive>> {
        let mut at = Some(0);
        std::iter::from_fn(move || {
            let start = at?;
            match self.entry(start) {
                Some((file, _)) if file.name == TRAILER => {
                    at = None;
                    None
                }
                Some((file, next)) => {
                    at = Some(next);
                    Some(Ok(file))
                }
                None => {
                    at = None;
                    Some(Err(BadArchive(start)))
                }
            }
        })
    }

    /// The file of this name; the last one counts, as when unpacking.
    ///
    /// # Errors
    /// The archive is damaged.
    pub fn find(self, name: &str) -> Result<Option<&'a [u8]>, BadArchive> {
        let mut found = None;
        for file in self.files() {
            let file = file?;
            if file.name == name {
                found = Some(file.data);
            }
        }
        Ok(found)
    }

    /// The file whose header is at `at`, and where the next one's is.
    fn entry(self, at: usize) -> Option<(File<'a>, usize)> {
        let rest = self.bytes.get(at..)?;
        let header = rest.get(..HEADER)?.strip_prefix(b"070701")?;
        let field = |n: usize| {
            let digits = str::from_utf8(&header[8 * n..8 * n + 8]).ok()?;
            usize::from_str_radix(digits, 16).ok()
        };
        let (len, name_len) = (field(6)?, field(11)?);
        let name = rest.get(HEADER..HEADER.checked_add(name_len)?)?;
        let name = str::from_utf8(name.strip_suffix(b"\0")?).ok()?;
        let start = (at + HEADER + name_len).next_multiple_of(4);
        let end = start.checked_add(len)?;
        let data = self.bytes.get(start..end)?;
        Some((File { name, data }, end.next_multiple_of(4)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, data: &[u8]) -> Vec<u8> {
        let fields = [0, 0, 0, 0, 0, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0];
        let mut bytes = b"070701".to_vec();
        for field in fields {
            bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn archive() -> Vec<u8> {
        let files = [
            ("a", &b"one"[..]),
            ("bin/b", b"two!!"),
            ("a", b"last"),
            (TRAILER, b""),
        ];
        files
            .iter()
            .flat_map(|(name, data)| entry(name, data))
            .collect()
    }

    #[test]
    fn files_are_found_by_name_and_the_last_one_counts() {
        let bytes = archive();
        let archive = Archive::new(&bytes);
        assert_eq!(archive.find("bin/b"), Ok(Some(&b"two!!"[..])));
        assert_eq!(archive.find("a"), Ok(Some(&b"last"[..])));
        assert_eq!(archive.find("c"), Ok(None));
        assert_eq!(archive.files().count(), 3);
    }

    #[test]
    fn an_archive_that_is_cut_off_anywhere_is_damaged() {
        let bytes = archive();
        for len in 0..bytes.len() - 1 {
            assert!(
                Archive::new(&bytes[..len]).find("a").is_err(),
                "{len} bytes"
            );
        }
    }

    #[test]
    fn no_byte_of_a_header_can_make_the_reader_panic() {
        let bytes = archive();
        for at in 0..bytes.len() {
            for value in [0, b'f', 0xff] {
                let mut odd = bytes.clone();
                odd[at] = value;
                let _ = Archive::new(&odd).find("a");
            }
        }
    }
}
