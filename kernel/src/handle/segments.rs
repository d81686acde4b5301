//! User memory of a call in one piece or in many: a buffer, or an array of `struct iovec`.

use arm64::UserAddr;
use mm::CopyStop;

use crate::syscall::user;
use crate::thread::Thread;

/// Elements of a vector (`UIO_MAXIOV`).
pub const VECTOR_MAX: u64 = 1024;
/// Bytes of an element.
pub const ELEMENT: u64 = 16;
/// Empty elements that are passed over at a time.
const PASSED: usize = 8;

/// What is left of it. An element is read when it is its turn, and once.
#[derive(Clone, Copy, Debug)]
pub struct Segments {
    /// Next byte of this piece.
    at: UserAddr,
    /// Bytes left of it.
    left: u64,
    /// The next element.
    element: UserAddr,
    /// Elements left.
    elements: u64,
    /// The elements are about another process, whose memory is not accessed as by itself.
    foreign: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Bytes at an address, at least one.
    Piece(UserAddr, u64),
    /// Look again: so far there were only empty elements.
    Later,
    /// Nothing.
    End,
}

impl Segments {
    /// `len` bytes at `at`.
    pub const fn buffer(at: UserAddr, len: u64) -> Self {
        Self {
            at,
            left: len,
            element: UserAddr::NOWHERE,
            elements: 0,
            foreign: false,
        }
    }

    /// `count` elements at `element`.
    pub const fn vector(element: UserAddr, count: u64) -> Self {
        Self {
            at: UserAddr::NOWHERE,
            left: 0,
            element,
            elements: count,
            foreign: false,
        }
    }

    /// The same, about the memory of another process: tags there are neither looked at nor compared.
    pub const fn foreign(self) -> Self {
        Self {
            foreign: true,
            ..self
        }
    }

    /// Whether there is nothing left, not even empty elements.
    pub const fn is_empty(&self) -> bool {
        self.left == 0 && self.elements == 0
    }

    /// The next piece of a call of `thread`.
    ///
    /// # Errors
    /// Those of reading an element.
    pub fn next(&mut self, thread: &Thread) -> Result<Next, CopyStop> {
        for _ in 0..PASSED {
            if self.left != 0 {
                return Ok(Next::Piece(self.at, self.left));
            }
            if self.elements == 0 {
                return Ok(Next::End);
            }
            let space = thread.process().space();
            let [base, len] = user::read_words::<2>(space, self.element)?;
            self.at = match self.foreign {
                true => UserAddr::ignoring_tag(base),
                false => thread.user_addr(base),
            };
            self.left = len;
            self.element = self.element.further(ELEMENT);
            self.elements -= 1;
        }
        Ok(Next::Later)
    }

    /// `count` bytes of the piece are done.
    pub fn advance(&mut self, count: u64) {
        self.at = self.at.further(count);
        self.left -= count;
    }
}
