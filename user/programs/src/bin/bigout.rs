//! Prints exactly 1 MiB that a reader can check byte by byte.
//!
//! Line N (from 0) is 64 bytes: N as 8 hexadecimal digits, a space, 54 letters of which letter K
//! is `'A' + (N + K) % 26`, and a line feed. There are 16384 lines. `bigout N` prints N lines. The
//! writes have lengths that divide nothing, so that their ends fall everywhere.

use programs::check;
use std::io::Write;

const LINES: u64 = 16384;
const PIECES: [usize; 6] = [1, 17, 4096, 4093, 8191, 300];

fn line(number: u64) -> [u8; 64] {
    let mut line = [b'\n'; 64];
    line[..9].copy_from_slice(format!("{number:08x} ").as_bytes());
    for (at, letter) in line[9..63].iter_mut().enumerate() {
        *letter = b'A' + ((number + at as u64) % 26) as u8;
    }
    line
}

fn main() {
    check::start("bigout");
    check::section(10, "output");
    let lines = check::number_argument(1, LINES);
    let all: Vec<u8> = (0..lines).flat_map(line).collect();
    let mut rest = &all[..];
    let mut out = std::io::stdout().lock();
    for piece in PIECES.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at(rest.len().min(*piece));
        if let Err(error) = out.write_all(now) {
            check::fail(file!(), line!(), &format!("write: {error}"));
        }
        rest = later;
    }
    if let Err(error) = out.flush() {
        check::fail(file!(), line!(), &format!("flush: {error}"));
    }
}
