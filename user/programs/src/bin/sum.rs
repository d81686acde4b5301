//! Maps the file that is descriptor 3 and adds its bytes up: `sum 3< file`. Pages are read from the
//! last to the first, and the first byte of each once more at the end.

use std::ptr;

use programs::check;
use programs::require;
use programs::sys::PAGE;

/// The descriptor.
const FILE: i32 = 3;

fn main() {
    check::start("sum");
    check::section(10, "the file");
    // SAFETY: asks for the file's end.
    let len = unsafe { libc::lseek(FILE, 0, libc::SEEK_END) };
    require!(len > 0, "descriptor {FILE}: length {len}");
    let len = len as usize;
    check::section(11, "the mapping");
    let (prot, private) = (libc::PROT_READ, libc::MAP_PRIVATE);
    // SAFETY: maps where nothing is yet.
    let base = unsafe { libc::mmap(ptr::null_mut(), len, prot, private, FILE, 0) };
    require!(base != libc::MAP_FAILED, "mmap of {len} bytes");
    // SAFETY: any byte of the file is a byte; each is loaded once, whatever others do to the file.
    let byte = |at: usize| u64::from(unsafe { base.cast::<u8>().add(at).read_volatile() });
    let pages = (0..len).step_by(PAGE);
    let mut sum = 0u64;
    for start in pages.clone().rev() {
        sum += (start..len.min(start + PAGE)).map(byte).sum::<u64>();
    }
    let firsts: u64 = pages.map(byte).sum();
    println!("{len} bytes, sum {sum}, first bytes {firsts}");
}
