//! The initial RAM disk: a cpio archive in the "newc" format that the kernel reads the program from.
//!
//! Entries: `args` (the arguments, each ended by NUL; the first is the path as the user typed it),
//! `env` (likewise, `NAME=value`), `program` (the ELF file), and `bin/NAME` for programs that the
//! prompt can start. Linux, which some tests are recorded on, reads the same format.

/// The contents of an archive, in the order in which they will be written.
#[derive(Clone, Debug)]
pub struct Initrd {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    mode: u32,
    data: Vec<u8>,
}

/// Modes: a file or a folder that everybody may read and execute.
const FILE: u32 = 0o100_755;
const FOLDER: u32 = 0o40_755;

impl Initrd {
    /// An archive with a program and its arguments, and an empty environment.
    #[must_use]
    pub fn new<S: AsRef<[u8]>>(args: &[S], program: &[u8]) -> Self {
        Self::with_env(args, &[] as &[&str], program)
    }

    /// As [`Initrd::new`], with an environment of `NAME=value` strings.
    #[must_use]
    pub fn with_env<S: AsRef<[u8]>, E: AsRef<[u8]>>(args: &[S], env: &[E], program: &[u8]) -> Self {
        Self::empty()
            .file("args", nul_ended(args))
            .file("env", nul_ended(env))
            .file("program", program.to_vec())
    }

    /// An archive without entries, for tests of what the kernel makes of odd ones.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// Adds a file of any name.
    #[must_use]
    pub fn file(self, name: &str, data: impl Into<Vec<u8>>) -> Self {
        self.entry(name, FILE, data.into())
    }

    /// Adds an empty folder.
    #[must_use]
    pub fn folder(self, name: &str) -> Self {
        self.entry(name, FOLDER, Vec::new())
    }

    fn entry(mut self, name: &str, mode: u32, data: Vec<u8>) -> Self {
        let name = name.to_owned();
        self.entries.push(Entry { name, mode, data });
        self
    }

    /// Adds `bin/NAME`.
    #[must_use]
    pub fn bin(self, name: &str, data: impl Into<Vec<u8>>) -> Self {
        self.file(&format!("bin/{name}"), data)
    }

    /// The archive's bytes.
    #[must_use]
    pub fn archive(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (inode, entry) in (1..).zip(&self.entries) {
            append(&mut out, inode, entry.mode, &entry.name, &entry.data);
        }
        append(&mut out, 0, 0, "TRAILER!!!", &[]);
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }
}

fn nul_ended<S: AsRef<[u8]>>(strings: &[S]) -> Vec<u8> {
    strings
        .iter()
        .flat_map(|s| [s.as_ref(), b"\0"].concat())
        .collect()
}

/// One entry: a header of thirteen 8-digit hexadecimal numbers behind the magic, the name with its
/// NUL, and the data; name and data are padded to four bytes.
fn append(out: &mut Vec<u8>, inode: u32, mode: u32, name: &str, data: &[u8]) {
    let (size, name_size) = (data.len() as u32, name.len() as u32 + 1);
    let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    out.extend_from_slice(b"070701");
    fields
        .iter()
        .for_each(|field| out.extend_from_slice(format!("{field:08x}").as_bytes()));
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader written from the format's description, not from the writer.
    fn read(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let (mut at, mut found) = (0, Vec::new());
        loop {
            assert_eq!(&archive[at..at + 6], b"070701");
            let field = |n: usize| {
                let text = std::str::from_utf8(&archive[at + 6 + 8 * n..][..8]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            let (size, name_size) = (field(6), field(11));
            let name = &archive[at + 110..][..name_size - 1];
            let data_at = (at + 110 + name_size).next_multiple_of(4);
            if name == b"TRAILER!!!" {
                return found;
            }
            let name = String::from_utf8(name.to_vec()).unwrap();
            found.push((name, archive[data_at..data_at + size].to_vec()));
            at = (data_at + size).next_multiple_of(4);
        }
    }

    #[test]
    fn an_independent_reader_finds_every_entry() {
        let archive = Initrd::with_env(&["./prog", "two words", ""], &["A=1"], b"\x7fELF?")
            .bin("hello", b"x".to_vec())
            .archive();
        assert_eq!(archive.len() % 512, 0);
        let entries = read(&archive);
        assert_eq!(
            entries[0],
            ("args".into(), b"./prog\0two words\0\0".to_vec())
        );
        assert_eq!(entries[1], ("env".into(), b"A=1\0".to_vec()));
        assert_eq!(entries[2], ("program".into(), b"\x7fELF?".to_vec()));
        assert_eq!(entries[3], ("bin/hello".into(), b"x".to_vec()));
        assert_eq!(entries.len(), 4);
    }

    #[test]
    fn the_systems_own_cpio_reads_it_too() {
        let archive = Initrd::new(&["p"], b"data").archive();
        let Ok(mut child) = std::process::Command::new("cpio")
            .args(["-it", "--quiet"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
        else {
            eprintln!("no cpio on this machine: only the reader above has judged");
            return;
        };
        use std::io::Write;
        child.stdin.take().unwrap().write_all(&archive).unwrap();
        let listing = child.wait_with_output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&listing.stdout),
            "args\nenv\nprogram\n"
        );
    }
}
