//! Seals.

use crate::file::{ADD_SEALS, ALLOW_SEALING, File, GET_SEALS, KEEP_SIZE, PUNCH, create};
use programs::sys::{PAGE, errno};
use programs::{check, require, require_result};

const SEAL: usize = 1;
const SHRINK: usize = 2;
const GROW: usize = 4;
const WRITE: usize = 8;
const EXEC: usize = 32;
const NOEXEC: usize = 8;

pub fn run() {
    check::section(25, "seals");
    let file = File::new(0);
    require_result!(file.control(GET_SEALS, 0), SEAL as isize, "not sealable");
    require_result!(file.control(ADD_SEALS, GROW), -errno::EPERM, "not sealable");
    let file = File::new(ALLOW_SEALING);
    require_result!(file.control(GET_SEALS, 0), 0, "sealable");
    require_result!(file.control(ADD_SEALS, 0x40), -errno::EINVAL, "unknown");
    require_result!(file.write(&[1; 2 * PAGE]), 2 * PAGE as isize, "write");
    require_result!(file.control(ADD_SEALS, GROW), 0, "GROW");
    grows_no_more(&file);
    require_result!(file.control(ADD_SEALS, SHRINK), 0, "SHRINK");
    require_result!(file.truncate(0), -errno::EPERM, "shrink");
    require_result!(file.truncate(2 * PAGE), 0, "to the same size");
    require_result!(file.allocate(PUNCH, 0, PAGE), 0, "a hole");
    require_result!(file.control(ADD_SEALS, WRITE | SEAL), 0, "WRITE");
    require_result!(file.write_at(b"x", 0), -errno::EPERM, "pwrite");
    require_result!(file.allocate(PUNCH, 0, PAGE), -errno::EPERM, "a hole");
    require_result!(file.control(ADD_SEALS, 0), -errno::EPERM, "no more");
    let all = (SEAL | SHRINK | GROW | WRITE) as isize;
    require_result!(file.control(GET_SEALS, 0), all, "all of them");
    let file = File::new(ALLOW_SEALING);
    require_result!(file.write(&[1; 100]), 100, "write");
    require_result!(file.control(ADD_SEALS, GROW), 0, "GROW");
    let got = file.write_at(&[2; 10], 95);
    require_result!(got, -errno::EPERM, "a write over an end within a page");
    require_result!(file.write_at(&[2; 5], 95), 5, "a write up to it");
    executable();
}

fn grows_no_more(file: &File) {
    let end = 2 * PAGE;
    require_result!(file.truncate(end + 1), -errno::EPERM, "grow");
    require_result!(file.write_at(b"x", end), -errno::EPERM, "write behind it");
    let got = file.write_at(&[2; 10], end - 5);
    require_result!(got, 5, "the part of a write in the last page");
    let got = file.write_at(&vec![3; PAGE + 10], PAGE);
    require_result!(got, PAGE as isize, "a page up to the end");
    require_result!(file.allocate(0, 0, end + 1), -errno::EPERM, "allocate");
    let got = file.allocate(KEEP_SIZE, 0, end + 1);
    require_result!(got, -errno::EPERM, "allocate behind the end");
    require_result!(file.allocate(0, 0, end), 0, "allocate up to the end");
    require!(file.size() == end, "the size");
}

fn executable() {
    let file = File::new(ALLOW_SEALING);
    if file.control(ADD_SEALS, EXEC) == -errno::EINVAL {
        // A Linux before 6.3.
        return;
    }
    require_result!(file.control(GET_SEALS, 0), 0x3e, "executable for good");
    let file = create(NOEXEC);
    require!(file >= 3, "MFD_NOEXEC_SEAL");
    let file = File(file as usize);
    require_result!(file.control(GET_SEALS, 0), EXEC as isize, "sealable too");
    require!(file.stat().mode == 0o100666, "mode {:o}", file.stat().mode);
}
