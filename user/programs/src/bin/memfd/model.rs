//! Random operations, compared with a vector of bytes.

use crate::file::{File, KEEP_SIZE, PUNCH, SEEK_CUR, SEEK_SET};
use programs::random::Random;
use programs::sys::PAGE;
use programs::{check, require, require_result};

/// Bytes that a file may have.
const MOST: usize = 80 * PAGE;

struct Model {
    file: File,
    bytes: Vec<u8>,
    offset: usize,
    random: Random,
}

pub fn run(seed: u64, steps: u64) {
    check::section(40, "random operations against a model");
    println!("memfd: seed {seed}, {steps} steps");
    let mut model = Model {
        file: File::new(0),
        bytes: Vec::new(),
        offset: 0,
        random: Random::new(seed),
    };
    for step in 0..steps {
        model.step();
        if step % 64 == 0 {
            model.check();
        }
    }
    model.check();
}

impl Model {
    /// A place: often near the beginning of a page.
    fn place(&mut self) -> usize {
        let at = self.random.index(MOST);
        match self.random.chance(128) {
            true => at / PAGE * PAGE,
            false => at,
        }
    }

    fn length(&mut self) -> usize {
        match self.random.chance(160) {
            true => 1 + self.random.index(200),
            false => 1 + self.random.index(4 * PAGE),
        }
    }

    fn step(&mut self) {
        let (at, len) = (self.place(), self.length());
        let len = len.min(MOST - at);
        match self.random.index(9) {
            0 => self.truncate(at),
            1 => self.punch(at, len),
            2 => self.allocate(at, len),
            3 => self.seek(at),
            4 => self.write_on(len),
            5 => self.read_on(len),
            6 => self.read_at(at, len),
            _ => self.write_at(at, len),
        }
        require!(
            self.file.size() == self.bytes.len(),
            "the size is {} and should be {}",
            self.file.size(),
            self.bytes.len()
        );
    }

    fn grow(&mut self, size: usize) {
        if size > self.bytes.len() {
            self.bytes.resize(size, 0);
        }
    }

    fn truncate(&mut self, size: usize) {
        require_result!(self.file.truncate(size), 0, "ftruncate");
        self.bytes.resize(size, 0);
    }

    fn punch(&mut self, at: usize, len: usize) {
        require_result!(self.file.allocate(PUNCH, at, len), 0, "punch");
        let end = (at + len).min(self.bytes.len());
        if at < end {
            self.bytes[at..end].fill(0);
        }
    }

    fn allocate(&mut self, at: usize, len: usize) {
        let keep = self.random.chance(128);
        let mode = if keep { KEEP_SIZE } else { 0 };
        require_result!(self.file.allocate(mode, at, len), 0, "fallocate");
        if !keep {
            self.grow(at + len);
        }
    }

    fn seek(&mut self, at: usize) {
        require_result!(self.file.seek(at as isize, SEEK_SET), at as isize, "lseek");
        self.offset = at;
    }

    fn data(&mut self, len: usize) -> Vec<u8> {
        let first = self.random.next_u64() as u8 | 1;
        (0..len).map(|at| first.wrapping_add(at as u8)).collect()
    }

    fn write_at(&mut self, at: usize, len: usize) {
        let data = self.data(len);
        require_result!(self.file.write_at(&data, at), len as isize, "pwrite");
        self.grow(at + len);
        self.bytes[at..at + len].copy_from_slice(&data);
    }

    fn write_on(&mut self, len: usize) {
        let (at, len) = (self.offset, len.min(MOST - self.offset.min(MOST)));
        let data = self.data(len);
        require_result!(self.file.write(&data), len as isize, "write");
        if len > 0 {
            self.grow(at + len);
            self.bytes[at..at + len].copy_from_slice(&data);
        }
        self.offset += len;
    }

    fn read_at(&self, at: usize, len: usize) {
        let mut bytes = vec![0xee; len];
        let got = self.file.read_at(&mut bytes, at);
        self.compare(at, got, &bytes);
    }

    fn read_on(&mut self, len: usize) {
        let mut bytes = vec![0xee; len];
        let got = self.file.read(&mut bytes);
        self.compare(self.offset, got, &bytes);
        self.offset += got as usize;
        let offset = self.file.seek(0, SEEK_CUR);
        require_result!(offset, self.offset as isize, "the offset");
    }

    fn compare(&self, at: usize, got: isize, bytes: &[u8]) {
        let rest = self.bytes.get(at..).unwrap_or_default();
        let expected = &rest[..rest.len().min(bytes.len())];
        require_result!(got, expected.len() as isize, "read at {at:#x}");
        require!(
            &bytes[..expected.len()] == expected,
            "other bytes at {at:#x}"
        );
    }

    fn check(&self) {
        let mut bytes = vec![0xee; MOST + 1];
        let got = self.file.read_at(&mut bytes, 0);
        self.compare(0, got, &bytes);
    }
}
