//! The name of the system, and files: those of the initial RAM disk, each opened as a memory object
//! in the program's table of handles. Reading, seeking and mapping them is the kernel's then.

use tessera::{Error, MemoryObject, Process, Rights, find};

/// Fields of `struct utsname`, each of 65 bytes, and what the program is told.
const NAMES: [&str; 6] = ["Linux", "persona", "6.1.0", "Tessera", "aarch64", "(none)"];
const NAME: usize = 65;
/// Longest path.
const PATH: usize = 4096;
/// Descriptors that a file may get.
const DESCRIPTORS: std::ops::Range<u64> = 3..64;
/// `O_ACCMODE`: 0 in it is reading.
const ACCESS_MODE: u64 = 3;

/// `uname(buffer)`.
pub fn uname(process: &Process, buffer: u64) -> Result<u64, Error> {
    let mut bytes = [0; NAME * NAMES.len()];
    for (name, field) in NAMES.iter().zip(bytes.chunks_exact_mut(NAME)) {
        field[..name.len()].copy_from_slice(name.as_bytes());
    }
    process.write_memory(buffer, &bytes)?;
    println!("persona: uname");
    Ok(0)
}

/// `openat(folder, path, flags, mode)`; none if it is no file of ours.
pub fn open(process: &Process, [_, path, flags, ..]: [u64; 6]) -> Option<Result<u64, Error>> {
    let path = text(process, path)?;
    let contents = find(&path).ok().filter(|_| flags & ACCESS_MODE == 0)?;
    let opened = give(process, &path, contents);
    match opened {
        Ok(descriptor) => println!("persona: openat {path}: descriptor {descriptor}"),
        Err(error) => println!("persona: openat {path}: {error}"),
    }
    Some(opened)
}

/// Puts a file into the lowest free descriptor.
fn give(process: &Process, path: &str, contents: &[u8]) -> Result<u64, Error> {
    let object = MemoryObject::with_contents(path, contents)?;
    let rights = Some(Rights::READ);
    let mut given = DESCRIPTORS.map(|slot| process.give(Some(slot), &object, rights));
    given
        .find(|given| *given != Err(Error::Busy))
        .unwrap_or(Err(Error::TooManyHandles))
}

/// A string of the program's, up to its NUL.
fn text(process: &Process, address: u64) -> Option<String> {
    let mut bytes = vec![0; PATH];
    let count = process.read_memory(address, &mut bytes).ok()?;
    let len = bytes[..count].iter().position(|&byte| byte == 0)?;
    bytes.truncate(len);
    String::from_utf8(bytes).ok()
}
