//! Output without the allocator: what is under test includes `brk`, which the allocator uses too.

use programs::sys;
use std::fmt::{self, Write};

/// Bytes kept before they are written; longer lines are written in parts.
const SIZE: usize = 4096;

/// Standard output, line by line.
pub struct Out {
    buffer: [u8; SIZE],
    used: usize,
}

impl Out {
    pub const fn new() -> Self {
        Self {
            buffer: [0; SIZE],
            used: 0,
        }
    }

    /// Writes what is kept.
    fn flush(&mut self) {
        let mut from = 0;
        while from < self.used {
            let rest = &self.buffer[from..self.used];
            let got = sys::write(1, rest.as_ptr() as usize, rest.len());
            if got <= 0 {
                break;
            }
            from += got as usize;
        }
        self.used = 0;
    }

    /// Adds formatted text.
    pub fn put(&mut self, text: fmt::Arguments<'_>) {
        // Writing never fails, see below.
        let _ = self.write_fmt(text);
    }
}

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.used == SIZE {
                self.flush();
            }
            self.buffer[self.used] = byte;
            self.used += 1;
        }
        if text.ends_with('\n') {
            self.flush();
        }
        Ok(())
    }
}

/// Adds formatted text to the output of a [`Sequence`](crate::sequence::Sequence).
#[macro_export]
macro_rules! put {
    ($out:expr, $($text:tt)+) => { $out.put(format_args!($($text)+)) };
}
