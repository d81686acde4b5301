//! A file in memory that can be mapped, by its raw calls.

use crate::memory::Area;
use crate::require;
use crate::sys::{self, nr};

/// `FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE`.
const PUNCH: usize = 3;

/// A descriptor of a memory file; closed when dropped.
#[derive(Debug)]
pub struct MemFile(usize);

impl MemFile {
    /// A file of `size` bytes of zeros.
    pub fn new(size: usize) -> Self {
        let name = c"pages".as_ptr() as usize;
        // SAFETY: the call reads the name.
        let fd = unsafe { sys::syscall(nr::MEMFD_CREATE, [name, 0, 0, 0, 0, 0]) };
        require!(fd >= 0, "memfd_create: {}", sys::describe(fd));
        let file = Self(fd as usize);
        let got = file.resize(size);
        require!(got == 0, "ftruncate: {}", sys::describe(got));
        file
    }

    /// Gives the file another size; the raw answer.
    pub fn resize(&self, size: usize) -> isize {
        // SAFETY: only memory that is mapped from the file changes, and that is read as such.
        unsafe { sys::syscall(nr::FTRUNCATE, [self.0, size, 0, 0, 0, 0]) }
    }

    /// Takes the contents of a range away and keeps the size; the raw answer.
    pub fn punch(&self, start: usize, len: usize) -> isize {
        // SAFETY: as `resize`.
        unsafe { sys::syscall(nr::FALLOCATE, [self.0, PUNCH, start, len, 0, 0]) }
    }

    /// Maps the file from its beginning over a part of an area; checks that it worked.
    pub fn map(&self, area: &Area, offset: usize, len: usize, prot: usize, flags: usize) {
        let got = area.map_file(offset, len, prot, flags, self.0);
        require!(
            got == area.addr(offset) as isize,
            "mmap of a memory file: {}",
            sys::describe(got)
        );
    }

    /// Writes bytes at an offset; the raw answer.
    pub fn write_at(&self, from: &[u8], at: usize) -> isize {
        let buffer = from.as_ptr() as usize;
        // SAFETY: the kernel reads the buffer.
        unsafe { sys::syscall(nr::PWRITE64, [self.0, buffer, from.len(), at, 0, 0]) }
    }

    /// Reads from an offset into a part of an area; the raw answer.
    pub fn read_into(&self, area: &Area, offset: usize, len: usize, at: usize) -> isize {
        // SAFETY: the kernel writes to the area's own bytes.
        unsafe { sys::syscall(nr::PREAD64, [self.0, area.addr(offset), len, at, 0, 0]) }
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        // SAFETY: the descriptor is this object's. Mappings keep the file.
        let got = unsafe { sys::syscall(nr::CLOSE, [self.0, 0, 0, 0, 0, 0]) };
        require!(got == 0, "close: {}", sys::describe(got));
    }
}
