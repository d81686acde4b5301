//! The memory files of a sequence, and the calls that change their sizes and contents.

use crate::arena::{Answer, Len, call};
use crate::out::Out;
use crate::put;
use crate::sequence::Sequence;
use programs::sys::{PAGE, nr};

/// Files that are mapped.
const COUNT: usize = 3;
const SEEK_END: usize = 2;
/// Modes of `fallocate`: KEEP_SIZE, PUNCH_HOLE with and without it, COLLAPSE_RANGE, ZERO_RANGE, a
/// wrong one.
const MODES: [usize; 10] = [0, 0, 1, 1, 3, 3, 3, 2, 8, 0x80];
const CLOEXEC: usize = 1;

pub struct Files {
    /// Descriptors; negative where there is no file.
    pub of: [isize; COUNT],
    /// Which files have been made and not closed, whatever the kernel thinks: the choice of calls
    /// does not depend on answers.
    made: [bool; COUNT],
    /// One that is never mapped, for copies between the kernel and the arena.
    pub copies: isize,
}

/// A file by its number in the sequence.
pub struct File(pub usize);

impl std::fmt::Display for File {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "f{}", self.0)
    }
}

fn create(flags: usize) -> isize {
    let name = c"verbs".as_ptr() as usize;
    call(nr::MEMFD_CREATE, [name, flags, 0, 0, 0, 0])
}

fn close(file: isize) -> isize {
    call(nr::CLOSE, [file as usize, 0, 0, 0, 0, 0])
}

impl Files {
    pub const fn new() -> Self {
        Self {
            of: [-1; COUNT],
            made: [false; COUNT],
            copies: -1,
        }
    }

    /// The file for copies, with two pages of a pattern, and two to map.
    pub fn begin(&mut self, out: &mut Out) {
        self.copies = create(CLOEXEC);
        put!(out, "memfd_create = {}\n", Answer(self.copies));
        let pattern: [u8; 2 * PAGE] = std::array::from_fn(|at| (at % 251) as u8 + 1);
        let args = [self.copies as usize, pattern.as_ptr() as usize, 2 * PAGE];
        let got = call(nr::PWRITE64, [args[0], args[1], args[2], 0, 0, 0]);
        put!(out, "pwrite = {}\n", Answer(got));
        for file in 0..2 {
            (self.of[file], self.made[file]) = (create(0), true);
            put!(
                out,
                "memfd_create {} = {}",
                File(file),
                Answer(self.of[file])
            );
            let got = call(
                nr::FTRUNCATE,
                [self.of[file] as usize, 16 * PAGE, 0, 0, 0, 0],
            );
            put!(out, " ftruncate 16 = {}\n", Answer(got));
        }
    }

    pub fn end(&mut self) {
        for file in self.of.into_iter().chain([self.copies]) {
            let _ = close(file);
        }
        *self = Self::new();
    }
}

impl Sequence {
    /// A file that is there, most of the time.
    pub fn some_file(&mut self) -> usize {
        match self.choose.chance(8) {
            true => self.choose.below(COUNT),
            false => {
                let first = self.choose.below(COUNT);
                let all = (first..COUNT).chain(0..first);
                let mut there = all.filter(|&file| self.files.made[file]);
                there.next().unwrap_or(first)
            }
        }
    }

    /// One call on a file; its size afterwards.
    pub fn file(&mut self) {
        let file = self.some_file();
        match self.choose.below(16) {
            0 => return self.replace(file),
            1 => return self.create_wrongly(),
            2..7 => self.truncate(file),
            7..12 => self.allocate(file),
            12..14 => self.write_file(file),
            _ => self.read_file(file),
        }
        let args = [self.files.of[file] as usize, 0, SEEK_END, 0, 0, 0];
        match call(nr::LSEEK, args) {
            size if size >= 0 => put!(self.out, " size {}", Len(size as usize)),
            error => put!(self.out, " size {}", Answer(error)),
        }
    }

    /// Closes a file, which may still be mapped, or makes a new one in its place.
    fn replace(&mut self, file: usize) {
        if self.files.made[file] {
            let got = close(self.files.of[file]);
            (self.files.of[file], self.files.made[file]) = (-1, false);
            put!(self.out, "close {} = {} ", File(file), Answer(got));
            if self.choose.chance(64) {
                return;
            }
        }
        let got = create(self.choose.of(&[0, CLOEXEC, 2]));
        (self.files.of[file], self.files.made[file]) = (got, true);
        put!(self.out, "memfd_create {} = {}", File(file), Answer(got));
        let pages = self.choose.below(24);
        let got = call(nr::FTRUNCATE, [got as usize, pages * PAGE, 0, 0, 0, 0]);
        put!(self.out, " ftruncate {pages} = {}", Answer(got));
    }

    fn create_wrongly(&mut self) {
        static LONG: [u8; 300] = [b'x'; 300];
        let (what, name, flags) = match self.choose.below(4) {
            0 => ("with a bad name", START_OF_NOTHING, 0),
            1 => ("with a long name", (&raw const LONG) as usize, 0),
            2 => ("with an unknown flag", c"x".as_ptr() as usize, 0x100),
            _ => ("of huge pages of no size", c"x".as_ptr() as usize, 1 << 26),
        };
        let got = call(nr::MEMFD_CREATE, [name, flags, 0, 0, 0, 0]);
        put!(self.out, "memfd_create {what} = {}", Answer(got));
        if got >= 0 {
            let _ = close(got);
        }
    }

    fn truncate(&mut self, file: usize) {
        let size = match self.choose.below(12) {
            0 => usize::MAX,
            1 => 1 << 63,
            2..5 => self.choose.below(40 * PAGE),
            _ => self.choose.below(40) * PAGE,
        };
        let args = [self.files.of[file] as usize, size, 0, 0, 0, 0];
        let got = call(nr::FTRUNCATE, args);
        let size = Len(size);
        put!(
            self.out,
            "ftruncate {} {size} = {}",
            File(file),
            Answer(got)
        );
    }

    fn allocate(&mut self, file: usize) {
        let mode = self.choose.of(&MODES);
        let offset = match self.choose.chance(64) {
            true => self.choose.below(32 * PAGE),
            false => self.choose.offset(),
        };
        let len = match self.choose.chance(12) {
            true => usize::MAX,
            false => self.choose.short(),
        };
        let args = [self.files.of[file] as usize, mode, offset, len, 0, 0];
        let got = call(nr::FALLOCATE, args);
        let range = (Len(offset), Len(len));
        let (at, len) = range;
        put!(
            self.out,
            "fallocate {} {mode:#x} {at} {len} = {}",
            File(file),
            Answer(got)
        );
    }

    fn write_file(&mut self, file: usize) {
        let (byte, at) = (self.choose.byte(), self.choose.below(24 * PAGE));
        let len = 1 + self.choose.below(4);
        let source = [byte; 4];
        let args = [
            self.files.of[file] as usize,
            (&raw const source) as usize,
            len,
            at,
        ];
        let got = call(nr::PWRITE64, [args[0], args[1], args[2], args[3], 0, 0]);
        put!(
            self.out,
            "pwrite {} {} {len} {byte:02x} = {}",
            File(file),
            Len(at),
            Answer(got)
        );
    }

    fn read_file(&mut self, file: usize) {
        let at = self.choose.below(24 * PAGE);
        let mut target = [0u8; 4];
        let args = [
            self.files.of[file] as usize,
            (&raw mut target) as usize,
            4,
            at,
            0,
            0,
        ];
        let got = call(nr::PREAD64, args);
        let bytes = u32::from_be_bytes(target);
        put!(
            self.out,
            "pread {} {} = {} {bytes:08x}",
            File(file),
            Len(at),
            Answer(got)
        );
    }
}

/// Where nothing is mapped, ever.
const START_OF_NOTHING: usize = 64;
