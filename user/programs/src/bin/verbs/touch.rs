//! Contents: read and written by way of the kernel, so that a bad address is an error and no signal.

use crate::arena::{Answer, At, END, Len, START, call};
use crate::put;
use crate::sequence::Sequence;
use programs::sys::{PAGE, nr};
use std::fmt::{self, Display, Formatter};

/// A byte that was read, or the error.
pub struct Byte(Result<u8, isize>);

impl Display for Byte {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(byte) => write!(to, "{byte:02x}"),
            Err(error) => Answer(error).fmt(to),
        }
    }
}

/// FNV-1a, 32 bits.
pub struct Hash(pub u32);

impl Hash {
    pub const fn new() -> Self {
        Self(0x811c_9dc5)
    }

    pub fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
}

/// `process_vm_readv` or `process_vm_writev` on this process, one range on either side.
fn exchange(number: usize, own: *const u8, len: usize, at: usize) -> isize {
    let (local, remote) = ([own as usize, len], [at, len]);
    let pid = std::process::id() as usize;
    let ends = [(&raw const local) as usize, (&raw const remote) as usize];
    call(number, [pid, ends[0], 1, ends[1], 1, 0])
}

/// What a look found in a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Page {
    Unreadable,
    Hash(u16),
}

impl Sequence {
    /// The byte at an address.
    pub fn byte_at(&self, at: usize) -> Byte {
        let mut byte = 0u8;
        match exchange(nr::PROCESS_VM_READV, &raw mut byte, 1, at) {
            1 => Byte(Ok(byte)),
            error => Byte(Err(error)),
        }
    }

    /// Somewhere in the arena, often across the border of two pages, for a few bytes.
    fn spot(&mut self) -> (usize, usize) {
        let len = 1 + self.choose.below(8);
        let at = match self.choose.below(8) {
            0 | 1 => self.choose.page() + PAGE - 1 - self.choose.below(4),
            2 => self.choose.place(),
            _ => self.choose.page() + self.choose.below(PAGE - 8),
        };
        (
            at,
            if self.choose.chance(8) {
                len + PAGE
            } else {
                len
            },
        )
    }

    /// Writes through the mapping as another process would.
    pub fn poke(&mut self) {
        let (at, len) = self.spot();
        let byte = self.choose.byte();
        self.bytes[..len].fill(byte);
        let got = exchange(nr::PROCESS_VM_WRITEV, self.bytes.as_ptr(), len, at);
        put!(
            self.out,
            "process_vm_writev {} {} {byte:02x} = ",
            At(at),
            Len(len)
        );
        put!(self.out, "{}", Answer(got));
    }

    /// Reads as another process would.
    pub fn peek(&mut self) {
        let (at, len) = self.spot();
        let got = exchange(nr::PROCESS_VM_READV, self.bytes.as_ptr(), len, at);
        put!(self.out, "process_vm_readv {} {} = ", At(at), Len(len));
        self.put_bytes(got);
    }

    /// The kernel reads from the arena into a file.
    pub fn copy_out(&mut self) {
        let (at, len) = self.spot();
        let copies = self.files.copies as usize;
        let got = call(nr::PWRITE64, [copies, at, len, 0, 0, 0]);
        put!(self.out, "pwrite from {} {} = ", At(at), Len(len));
        let args = [
            copies,
            self.bytes.as_mut_ptr() as usize,
            got.max(0) as usize,
            0,
        ];
        if got > 0 {
            let _ = call(nr::PREAD64, [args[0], args[1], args[2], args[3], 0, 0]);
        }
        self.put_bytes(got);
    }

    /// The kernel writes to the arena from a file.
    pub fn copy_in(&mut self) {
        let (at, len) = self.spot();
        let offset = self.choose.below(PAGE / 2);
        let copies = self.files.copies as usize;
        let got = call(nr::PREAD64, [copies, at, len, offset, 0, 0]);
        put!(
            self.out,
            "pread to {} {} from {offset} = ",
            At(at),
            Len(len)
        );
        put!(self.out, "{}", Answer(got));
    }

    fn put_bytes(&mut self, got: isize) {
        put!(self.out, "{}", Answer(got));
        if got > 0 {
            let mut hash = Hash::new();
            hash.add(&self.bytes[..got as usize]);
            put!(self.out, " {:08x}", hash.0);
        }
    }

    /// A byte at the end of the heap: there up to the last page of the break, gone behind it.
    pub fn touch_heap(&mut self) {
        let end = call(nr::BRK, [0; 6]) as usize;
        let value = self.choose.byte();
        let last = self.byte_at(end.max(self.heap + 1) - 1);
        let behind = self.byte_at(end.next_multiple_of(PAGE));
        if end > self.heap {
            let _ = exchange(nr::PROCESS_VM_WRITEV, &raw const value, 1, end - 1);
            put!(self.out, " last {last} now {value:02x} behind {behind}");
        }
    }

    /// The pages of the arena whose contents have changed since the last look, by hashes: 0 for zeros,
    /// a dash for what cannot be read.
    pub fn contents(&mut self) {
        put!(self.out, "contents");
        for at in (START..END).step_by(PAGE) {
            let now = self.page_hash(at);
            let seen = &mut self.seen[(at - START) / PAGE];
            if *seen == now {
                continue;
            }
            *seen = now;
            match now {
                Page::Unreadable => put!(self.out, " {}:-", At(at)),
                Page::Hash(hash) => put!(self.out, " {}:{hash:x}", At(at)),
            }
        }
        put!(self.out, "\n");
    }

    fn page_hash(&mut self, at: usize) -> Page {
        if !self.maps.readable(at) {
            return Page::Unreadable;
        }
        let got = exchange(nr::PROCESS_VM_READV, self.bytes.as_ptr(), PAGE, at);
        if got != PAGE as isize {
            return Page::Unreadable;
        }
        let page = &self.bytes[..PAGE];
        if page.iter().all(|byte| *byte == 0) {
            return Page::Hash(0);
        }
        let mut hash = Hash::new();
        hash.add(page);
        Page::Hash((hash.0 >> 16 ^ hash.0) as u16)
    }

    pub fn mincore(&mut self) {
        let (at, len) = match self.choose.chance(6) {
            true => (self.choose.page(), usize::MAX - self.choose.below(4 * PAGE)),
            false => (self.choose.tagged(), self.choose.short()),
        };
        self.resident.fill(0xee);
        let vector = match self.choose.chance(8) {
            true => 64,
            false => self.resident.as_mut_ptr() as usize,
        };
        let got = call(nr::MINCORE, [at, len, vector, 0, 0, 0]);
        let bad = if vector == 64 { " into nothing" } else { "" };
        put!(
            self.out,
            "mincore {} {}{bad} = {}",
            At(at),
            Len(len),
            Answer(got)
        );
        let filled = self
            .resident
            .iter()
            .take_while(|byte| **byte != 0xee)
            .count();
        put!(self.out, " {filled}:");
        if self.single {
            let bits = self.resident[..filled].iter().map(|byte| byte & 1);
            bits.for_each(|bit| put!(self.out, "{bit}"));
        }
    }
}
