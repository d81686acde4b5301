//! A memory file by its raw calls.

use programs::require;
use programs::sys::{self, nr};

pub const KEEP_SIZE: usize = 1;
pub const PUNCH: usize = 3;
pub const SEEK_SET: usize = 0;
pub const SEEK_CUR: usize = 1;
pub const SEEK_END: usize = 2;
pub const SEEK_DATA: usize = 3;
pub const SEEK_HOLE: usize = 4;
pub const F_DUPFD: usize = 0;
pub const F_GETFD: usize = 1;
pub const F_SETFD: usize = 2;
pub const F_GETFL: usize = 3;
pub const F_SETFL: usize = 4;
pub const ADD_SEALS: usize = 1033;
pub const GET_SEALS: usize = 1034;
pub const O_APPEND: usize = 0o2000;
pub const CLOEXEC: usize = 1;
pub const ALLOW_SEALING: usize = 2;

/// Any call whose pointers are this program's own buffers, or no memory.
pub fn raw(number: usize, args: [usize; 6]) -> isize {
    // SAFETY: the kernel writes through pointers to buffers that the callers lend, or to none.
    unsafe { sys::syscall(number, args) }
}

pub fn create(flags: usize) -> isize {
    let name = c"test".as_ptr() as usize;
    raw(nr::MEMFD_CREATE, [name, flags, 0, 0, 0, 0])
}

/// A descriptor of a memory file; closed when dropped.
pub struct File(pub usize);

/// The parts of a `struct stat` that the checks look at.
pub struct Stat {
    pub links: u64,
    pub mode: u32,
    pub size: u64,
    pub blocks: u64,
}

impl File {
    pub fn new(flags: usize) -> Self {
        let fd = create(flags);
        require!(fd >= 3, "memfd_create: {}", sys::describe(fd));
        Self(fd as usize)
    }

    pub fn call(&self, number: usize, args: [usize; 4]) -> isize {
        raw(number, [self.0, args[0], args[1], args[2], args[3], 0])
    }

    pub fn read(&self, to: &mut [u8]) -> isize {
        self.call(nr::READ, [to.as_mut_ptr() as usize, to.len(), 0, 0])
    }

    pub fn write(&self, from: &[u8]) -> isize {
        self.call(nr::WRITE, [from.as_ptr() as usize, from.len(), 0, 0])
    }

    pub fn read_at(&self, to: &mut [u8], at: usize) -> isize {
        self.call(nr::PREAD64, [to.as_mut_ptr() as usize, to.len(), at, 0])
    }

    pub fn write_at(&self, from: &[u8], at: usize) -> isize {
        self.call(nr::PWRITE64, [from.as_ptr() as usize, from.len(), at, 0])
    }

    pub fn seek(&self, offset: isize, whence: usize) -> isize {
        self.call(nr::LSEEK, [offset as usize, whence, 0, 0])
    }

    pub fn truncate(&self, size: usize) -> isize {
        self.call(nr::FTRUNCATE, [size, 0, 0, 0])
    }

    pub fn allocate(&self, mode: usize, start: usize, len: usize) -> isize {
        self.call(nr::FALLOCATE, [mode, start, len, 0])
    }

    pub fn control(&self, command: usize, arg: usize) -> isize {
        self.call(nr::FCNTL, [command, arg, 0, 0])
    }

    pub fn stat(&self) -> Stat {
        let mut words = [0u64; 18];
        let got = self.call(nr::FSTAT, [words.as_mut_ptr() as usize, 0, 0, 0]);
        require!(got == 0, "fstat: {}", sys::describe(got));
        let words = std::hint::black_box(words);
        let (links, mode) = match cfg!(target_arch = "x86_64") {
            true => (words[2], words[3] as u32),
            false => (words[2] >> 32, words[2] as u32),
        };
        Stat {
            links,
            mode,
            size: words[6],
            blocks: words[8],
        }
    }

    pub fn size(&self) -> usize {
        self.stat().size as usize
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let got = self.call(nr::CLOSE, [0; 4]);
        require!(got == 0, "close: {}", sys::describe(got));
    }
}
