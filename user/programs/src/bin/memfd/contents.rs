//! What is in a file: bytes, holes, sizes.

use crate::file::{File, KEEP_SIZE, PUNCH, SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET};
use programs::sys::PAGE;
use programs::{check, require, require_result};

pub fn run() {
    sizes_and_offsets();
    holes();
    seeking();
    large();
}

fn holds(file: &File, at: usize, len: usize, byte: u8) -> bool {
    let mut bytes = vec![!byte; len];
    let got = file.read_at(&mut bytes, at);
    got == len as isize && bytes.iter().all(|&found| found == byte)
}

fn sizes_and_offsets() {
    check::section(20, "sizes and offsets");
    let file = File::new(0);
    let stat = file.stat();
    require!(
        (stat.links, stat.size, stat.blocks) == (0, 0, 0),
        "a new file is empty and has no name"
    );
    require!(stat.mode == 0o100777, "mode {:o}", stat.mode);
    require_result!(file.read(&mut [0; 8]), 0, "read at the end");
    require_result!(file.write(&[7; 10_000]), 10_000, "write over pages");
    require!(file.size() == 10_000, "the size");
    require_result!(file.seek(0, SEEK_CUR), 10_000, "the offset");
    require_result!(file.read(&mut [0; 8]), 0, "read at the end");
    require_result!(file.seek(-4, SEEK_END), 9_996, "from the end");
    let mut bytes = [0; 16];
    require_result!(file.read(&mut bytes), 4, "read to the end");
    require!(bytes[..5] == [7, 7, 7, 7, 0], "{bytes:?}");
    require_result!(file.seek(20_000, SEEK_SET), 20_000, "beyond the end");
    require_result!(file.read(&mut bytes), 0, "read beyond the end");
    require_result!(file.write(b"x"), 1, "write beyond the end");
    require!(file.size() == 20_001, "the size");
    require!(holds(&file, 10_000, 10_000, 0), "what is between is zero");
    require_result!(file.truncate(5000), 0, "shrink");
    require_result!(file.truncate(20_000), 0, "grow");
    require!(holds(&file, 0, 5000, 7), "what was kept");
    require!(holds(&file, 5000, 15_000, 0), "what had gone is zero");
    require_result!(file.truncate(0), 0, "empty");
    require!(file.stat().blocks == 0, "its memory has gone");
}

fn holes() {
    check::section(21, "holes and allocation");
    let file = File::new(0);
    require_result!(file.write(&[9; 6 * PAGE]), 6 * PAGE as isize, "write");
    require!(file.stat().blocks == 48, "{} blocks", file.stat().blocks);
    require_result!(file.allocate(PUNCH, PAGE + 100, 3 * PAGE), 0, "punch");
    require!(file.stat().blocks == 32, "two pages have gone");
    require!(holds(&file, 0, PAGE + 100, 9), "before the hole");
    require!(holds(&file, PAGE + 100, 3 * PAGE, 0), "the hole");
    require!(holds(&file, 4 * PAGE + 100, 2 * PAGE - 100, 9), "after it");
    require_result!(file.allocate(PUNCH, 10, 20), 0, "a hole in a page");
    require!(
        holds(&file, 10, 20, 0) && holds(&file, 30, 20, 9),
        "in a page"
    );
    require_result!(file.allocate(PUNCH, 100 * PAGE, PAGE), 0, "beyond the end");
    require!(file.size() == 6 * PAGE, "no hole changes the size");
    require_result!(file.allocate(KEEP_SIZE, 6 * PAGE, PAGE), 0, "keep size");
    require!(file.size() == 6 * PAGE, "the size is kept");
    require!(file.stat().blocks == 40, "and a page is there");
    require_result!(file.allocate(0, 0, 7 * PAGE + 5), 0, "allocate");
    require!(file.size() == 7 * PAGE + 5, "it is longer");
    require!(file.stat().blocks == 64, "{} blocks", file.stat().blocks);
    require!(holds(&file, 2 * PAGE, PAGE, 0), "what is allocated is zero");
    require!(holds(&file, 5 * PAGE, PAGE, 9), "what was there stays");
}

fn seeking() {
    check::section(22, "SEEK_DATA and SEEK_HOLE");
    let file = File::new(0);
    let page = PAGE as isize;
    require_result!(file.truncate(300 * PAGE + 10), 0, "ftruncate");
    require_result!(
        file.write_at(&[1; 2 * PAGE], 200 * PAGE),
        2 * page,
        "pwrite"
    );
    require_result!(file.seek(0, SEEK_DATA), 200 * page, "the data");
    require_result!(
        file.seek(200 * page + 5, SEEK_DATA),
        200 * page + 5,
        "in it"
    );
    require_result!(file.seek(0, SEEK_HOLE), 0, "the first hole");
    require_result!(
        file.seek(200 * page + 7, SEEK_HOLE),
        202 * page,
        "behind it"
    );
    require_result!(file.seek(0, SEEK_CUR), 202 * page, "the offset has moved");
    require!(file.seek(202 * page, SEEK_DATA) < 0, "no more data");
    require_result!(file.write_at(&[1; 10], 300 * PAGE), 10, "at the end");
    let end = 300 * page + 10;
    require_result!(file.seek(300 * page, SEEK_HOLE), end, "the end is a hole");
}

fn large() {
    check::section(23, "large files");
    let file = File::new(0);
    let far = 200 << 30;
    require_result!(file.write_at(b"far", far), 3, "pwrite at 200 GiB");
    require!(file.size() == far + 3, "the size");
    require!(file.stat().blocks == 8, "one page is there");
    require_result!(file.seek(0, SEEK_DATA), far as isize, "the data");
    require!(holds(&file, far - 100, 100, 0), "before it");
    require_result!(file.truncate(far + 1), 0, "shrink");
    require_result!(file.truncate(far + 3), 0, "grow");
    let mut bytes = [9; 3];
    require_result!(file.read_at(&mut bytes, far), 3, "pread");
    require!(bytes == [b'f', 0, 0], "{bytes:?}");
    let half = vec![5; 1 << 20];
    require_result!(file.write_at(&half, 123), 1 << 20, "a MiB at once");
    require!(holds(&file, 123, 1 << 20, 5), "and back");
}
