//! The addresses that the calls play with, and how addresses, lengths and results are written down.

use programs::sys::{PAGE, errno, nr, syscall};
use std::fmt::{self, Display, Formatter};

/// First address: a multiple of every block size, far from everything that a kernel places by
/// itself, below the end of a space of 39 bits.
pub const START: usize = 0x10_0000_0000;
/// Pages; ranges that begin near the end reach a little beyond.
pub const PAGES: usize = 2048;
/// Bytes on either side that belong to the arena's map too.
pub const MARGIN: usize = 4 << 20;

/// End of the last page.
pub const END: usize = START + PAGES * PAGE;

/// A system call of which nothing but the arena, the heap above the allocator's part and memory
/// lent for the call can be changed.
pub fn call(number: usize, args: [usize; 6]) -> isize {
    // SAFETY: this program's addresses are the arena's, where no Rust object lives, ones that a
    // kernel must refuse, or buffers that the caller has borrowed for the call.
    unsafe { syscall(number, args) }
}

/// Unmaps the arena and its margins.
pub fn clear() -> isize {
    let len = PAGES * PAGE + 2 * MARGIN;
    call(nr::MUNMAP, [START - MARGIN, len, 0, 0, 0, 0])
}

/// An address: `a+PAGE` or `a+PAGE.BYTE` in the arena, plain otherwise.
pub struct At(pub usize);

impl Display for At {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let bare = self.0 & ((1 << 56) - 1);
        if !(START - MARGIN..=END + MARGIN).contains(&bare) {
            return write!(to, "{:#x}", self.0);
        }
        if bare != self.0 {
            write!(to, "tag{:x}:", self.0 >> 56)?;
        }
        let (sign, far) = match bare >= START {
            true => ('+', bare - START),
            false => ('-', START - bare),
        };
        write!(to, "a{sign}{}", Len(far))
    }
}

/// A length: in pages, with the odd bytes behind a dot.
pub struct Len(pub usize);

impl Display for Len {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        if self.0 > 1 << 32 {
            return write!(to, "{:#x}", self.0);
        }
        write!(to, "{}", self.0 / PAGE)?;
        match self.0 % PAGE {
            0 => Ok(()),
            odd => write!(to, ".{odd}"),
        }
    }
}

/// The answer of a call that answers a small number.
pub struct Answer(pub isize);

impl Display for Answer {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        match name(-self.0) {
            Some(name) => to.write_str(name),
            None => write!(to, "{}", self.0),
        }
    }
}

const fn name(error: isize) -> Option<&'static str> {
    Some(match error {
        errno::EPERM => "EPERM",
        errno::EBADF => "EBADF",
        errno::EAGAIN => "EAGAIN",
        errno::ENOMEM => "ENOMEM",
        errno::EACCES => "EACCES",
        errno::EFAULT => "EFAULT",
        16 => "EBUSY",
        errno::EEXIST => "EEXIST",
        errno::ENODEV => "ENODEV",
        errno::EINVAL => "EINVAL",
        27 => "EFBIG",
        28 => "ENOSPC",
        errno::ENOSYS => "ENOSYS",
        75 => "EOVERFLOW",
        95 => "EOPNOTSUPP",
        _ => return None,
    })
}
