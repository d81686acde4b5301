//! User memory of a call in one piece or in many: a buffer, or an array of `struct iovec`.

use mm::CopyStop;

use crate::memory::Space;
use crate::syscall::user;

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
    va: u64,
    /// Bytes left of it.
    left: u64,
    /// The next element.
    element: u64,
    /// Elements left.
    elements: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Bytes at an address, at least one.
    Piece(u64, u64),
    /// Look again: so far there were only empty elements.
    Later,
    /// Nothing.
    End,
}

impl Segments {
    /// `len` bytes at `va`.
    pub const fn buffer(va: u64, len: u64) -> Self {
        Self {
            va,
            left: len,
            element: 0,
            elements: 0,
        }
    }

    /// `count` elements at `element`.
    pub const fn vector(element: u64, count: u64) -> Self {
        Self {
            va: 0,
            left: 0,
            element,
            elements: count,
        }
    }

    /// Whether there is nothing left, not even empty elements.
    pub const fn is_empty(&self) -> bool {
        self.left == 0 && self.elements == 0
    }

    /// The next piece.
    ///
    /// # Errors
    /// Those of reading an element.
    pub fn next(&mut self, space: &Space) -> Result<Next, CopyStop> {
        for _ in 0..PASSED {
            if self.left != 0 {
                return Ok(Next::Piece(self.va, self.left));
            }
            if self.elements == 0 {
                return Ok(Next::End);
            }
            [self.va, self.left] = user::read_words::<2>(space, self.element)?;
            self.element += ELEMENT;
            self.elements -= 1;
        }
        Ok(Next::Later)
    }

    /// `count` bytes of the piece are done.
    pub fn advance(&mut self, count: u64) {
        self.va = self.va.wrapping_add(count);
        self.left -= count;
    }
}
