//! One file, mapped and used by several threads while its size changes and holes are punched.

use crate::file::{File, PUNCH};
use programs::memory::{Area, readable};
use programs::random::Random;
use programs::sys::{PAGE, map};
use programs::{check, require, require_result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Pages that the file always has, and the most it has.
const LEAST: usize = 16;
const MOST: usize = 64;

pub fn run(seed: u64, rounds: u64) {
    check::section(45, "a file that changes under its mappings");
    let file = File::new(0);
    require_result!(file.truncate(MOST * PAGE), 0, "ftruncate");
    let area = Area::unmapped(MOST * PAGE);
    let got = area.map_file(0, MOST * PAGE, map::RW, map::SHARED, file.0);
    require_result!(got, area.addr(0) as isize, "mmap");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (file, area, over) = (&file, &area, &over);
        for thread in 0..2 {
            scope.spawn(move || touch(area, Random::new(seed + thread), over));
        }
        scope.spawn(move || probe(file, area, Random::new(seed + 2), over));
        change(file, Random::new(seed + 3), rounds);
        over.store(true, Ordering::Release);
    });
    compare(&file, &area);
}

/// Writes bytes of its own to pages that are always there; what is read is what somebody wrote, or
/// a hole.
fn touch(area: &Area, mut random: Random, over: &AtomicBool) {
    while !over.load(Ordering::Acquire) {
        let at = random.index(LEAST * PAGE);
        let seen = area.get(at);
        require!(matches!(seen, 0 | 0x41 | 0x42), "a byte of {seen:#x}");
        area.set(at, 0x41);
    }
}

/// Asks the kernel for pages that come and go.
fn probe(file: &File, area: &Area, mut random: Random, over: &AtomicBool) {
    let mut byte = [0];
    while !over.load(Ordering::Acquire) {
        let at = random.index(MOST * PAGE) & !3;
        let _ = readable(area.addr(at));
        let got = file.read_at(&mut byte, at);
        require!(matches!(got, 0 | 1), "pread: {got}");
        require!(matches!(byte[0], 0 | 0x41 | 0x42), "pread: {byte:?}");
    }
}

fn change(file: &File, mut random: Random, rounds: u64) {
    for _ in 0..rounds {
        let size = LEAST * PAGE + random.index((MOST - LEAST) * PAGE);
        require_result!(file.truncate(size), 0, "ftruncate");
        let (at, len) = (random.index(MOST) * PAGE, random.index(20) * PAGE + PAGE);
        require_result!(file.allocate(PUNCH, at, len), 0, "punch");
        let at = random.index(MOST * PAGE - 8);
        require_result!(file.write_at(&[0x42; 8], at), 8, "pwrite");
    }
}

/// In the end mapping and file show the same.
fn compare(file: &File, area: &Area) {
    let size = file.size();
    let mut bytes = vec![0xee; size];
    require_result!(file.read_at(&mut bytes, 0), size as isize, "pread");
    for (at, &byte) in bytes.iter().enumerate() {
        let seen = area.get(at);
        require!(seen == byte, "{seen:#x} and {byte:#x} at {at:#x}");
    }
}
