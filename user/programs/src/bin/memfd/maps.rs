//! The program's own map list, read as a file.

use crate::file::{File, SEEK_SET, raw};
use programs::memory::Area;
use programs::sys::{PAGE, errno, map, nr};
use programs::{check, require, require_result};

const AT_FDCWD: usize = -100isize as usize;

fn open(path: &core::ffi::CStr, flags: usize) -> isize {
    let args = [AT_FDCWD, path.as_ptr() as usize, flags, 0, 0, 0];
    raw(nr::OPENAT, args)
}

pub fn run() {
    check::section(28, "/proc/self/maps");
    let area = Area::new(5 * PAGE, map::PROT_READ);
    let file = open(c"/proc/self/maps", 0o2000000);
    require!(file >= 3, "open: {file}");
    let file = File(file as usize);
    let text = read(&file);
    let line = format!("{:x}-{:x} r--p ", area.addr(0), area.addr(5 * PAGE));
    require!(text.contains(&line), "no line {line:?} in {text}");
    require!(text.contains("[stack]"), "no stack in {text}");
    require_result!(file.seek(0, SEEK_SET), 0, "back to the start");
    require!(read(&file).starts_with(&text[..20]), "and again");
    let mut some = [0; 20];
    require_result!(file.read_at(&mut some, 0), 20, "pread");
    require!(some == text.as_bytes()[..20], "{some:?}");
    require!(file.write(b"x") < 0, "it cannot be written");
    require!(file.truncate(0) < 0, "nor cut");
    named();
    let none = open(c"/proc/self/nothing", 0);
    require_result!(none, -errno::ENOENT, "no such file");
    let pid = raw(nr::GETPID, [0; 6]);
    let path = std::ffi::CString::new(format!("/proc/{pid}/maps")).expect("a path");
    let by_number = open(&path, 0);
    require!(by_number >= 3, "by number: {by_number}");
    drop(File(by_number as usize));
}

/// A mapped file has the name that it was made with.
fn named() {
    let file = File::new(0);
    let area = Area::unmapped(PAGE);
    let got = area.map_file(0, PAGE, map::PROT_READ, map::SHARED, file.0);
    require!(got > 0, "mmap of a file: {got}");
    let maps = File(open(c"/proc/self/maps", 0) as usize);
    let start = format!("{:x}-", area.addr(0));
    let text = read(&maps);
    let line = text.lines().find(|line| line.starts_with(&start));
    let shown = line.is_some_and(|line| line.ends_with(" /memfd:test (deleted)"));
    require!(shown, "{line:?}");
}

fn read(file: &File) -> String {
    let mut text = Vec::new();
    let mut bytes = [0; 1000];
    loop {
        match file.read(&mut bytes) {
            0 => return String::from_utf8_lossy(&text).into_owned(),
            count => {
                require!(count > 0, "read: {count}");
                text.extend_from_slice(&bytes[..count as usize]);
            }
        }
    }
}
