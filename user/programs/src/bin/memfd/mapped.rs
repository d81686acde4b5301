//! Files that are mapped: what reads, writes, truncation and holes mean to mappings, and back.

use crate::file::{ADD_SEALS, ALLOW_SEALING, File, PUNCH, raw};
use programs::memory::{Area, readable};
use programs::sys::{PAGE, errno, map, nr};
use programs::{check, require, require_result};

const MADV_REMOVE: usize = 9;
const EBUSY: isize = 16;

pub fn run() {
    shared();
    private();
    truncation();
    holes();
    removal();
    sealed();
    errors();
}

/// An area of `pages` pages that shows a file from its beginning.
fn mapped(file: &File, pages: usize, prot: usize, flags: usize) -> Area {
    let area = Area::unmapped(pages * PAGE);
    let got = area.map_file(0, pages * PAGE, prot, flags, file.0);
    require_result!(got, area.addr(0) as isize, "mmap of a file");
    area
}

/// A file of `pages` pages, page N filled with N + 1.
fn filled(pages: usize) -> File {
    let file = File::new(0);
    for page in 0..pages {
        let bytes = [page as u8 + 1; PAGE];
        require_result!(file.write(&bytes), PAGE as isize, "write");
    }
    file
}

fn byte_at(file: &File, at: usize) -> u8 {
    let mut byte = [0xee];
    require_result!(file.read_at(&mut byte, at), 1, "pread at {at:#x}");
    byte[0]
}

fn shared() {
    check::section(30, "shared mappings");
    let file = filled(20);
    let (one, two) = (
        mapped(&file, 20, map::RW, map::SHARED),
        mapped(&file, 20, map::PROT_READ, map::SHARED),
    );
    for page in 0..20 {
        require!(one.holds(page * PAGE, PAGE, page as u8 + 1), "page {page}");
    }
    one.set(3 * PAGE + 5, 0x55);
    require!(two.get(3 * PAGE + 5) == 0x55, "both show the same page");
    require!(byte_at(&file, 3 * PAGE + 5) == 0x55, "and it is the file's");
    require_result!(file.write_at(b"new", 7 * PAGE), 3, "pwrite");
    require!(one.get(7 * PAGE + 2) == b'w', "a write is seen");
    let got = file.call(nr::PREAD64, [one.addr(9 * PAGE), PAGE, 4 * PAGE, 0]);
    require_result!(got, PAGE as isize, "from the file to the file");
    require!(two.holds(9 * PAGE, PAGE, 5), "page 4 in page 9");
    let got = file.call(nr::PWRITE64, [two.addr(0), 2 * PAGE, 10 * PAGE, 0]);
    require_result!(got, 2 * PAGE as isize, "from a mapping to its file");
    require!(byte_at(&file, 11 * PAGE) == 2, "page 1 in page 11");
    drop(file);
    one.set(0, 0x77);
    require!(two.get(0) == 0x77, "a mapping outlives the descriptor");
}

fn private() {
    check::section(31, "private mappings");
    let file = filled(4);
    let area = mapped(&file, 4, map::RW, map::PRIVATE);
    require!(area.get(PAGE) == 2, "the file's page");
    require_result!(file.write_at(&[9], PAGE), 1, "pwrite");
    require!(area.get(PAGE) == 9, "until it is written, it is the file's");
    area.set(PAGE + 1, 0x11);
    require!(area.get(PAGE) == 9 && area.get(PAGE + 2) == 2, "a copy");
    require!(byte_at(&file, PAGE + 1) == 2, "the file keeps what it has");
    require_result!(file.write_at(&[8], PAGE), 1, "pwrite");
    require!(area.get(PAGE) == 9, "the copy is apart");
    require_result!(area.advise(PAGE, PAGE, map::MADV_DONTNEED), 0, "drop it");
    require!(area.get(PAGE) == 8, "the file's page again");
    area.set(2 * PAGE, 0x22);
    require!(byte_at(&file, 2 * PAGE) == 3, "a copy made by a write");
}

fn truncation() {
    check::section(32, "truncation under mappings");
    let file = filled(40);
    let area = mapped(&file, 40, map::RW, map::SHARED);
    let copies = mapped(&file, 40, map::RW, map::PRIVATE);
    for page in 0..40 {
        require!(area.get(page * PAGE) == page as u8 + 1, "page {page}");
        copies.set(page * PAGE, 0x99);
    }
    require_result!(file.truncate(20 * PAGE + 100), 0, "shrink");
    for page in 0..40 {
        let there = page <= 20;
        for area in [&area, &copies] {
            require!(readable(area.addr(page * PAGE)) == there, "page {page}");
        }
    }
    require!(area.get(20 * PAGE + 99) == 21, "up to the end");
    require!(area.holds(20 * PAGE + 100, PAGE - 100, 0), "behind the end");
    require!(copies.get(19 * PAGE) == 0x99, "copies before the end stay");
    require_result!(file.truncate(40 * PAGE), 0, "grow");
    require!(area.holds(21 * PAGE, 19 * PAGE, 0), "nothing comes back");
    require!(copies.holds(21 * PAGE, 19 * PAGE, 0), "no copy either");
}

fn holes() {
    check::section(33, "holes under mappings");
    let file = filled(40);
    let area = mapped(&file, 40, map::RW, map::SHARED);
    let copies = mapped(&file, 40, map::RW, map::PRIVATE);
    require!(
        area.get(12 * PAGE) == 13 && copies.get(12 * PAGE) == 13,
        "there"
    );
    copies.set(14 * PAGE, 0x99);
    require_result!(file.allocate(PUNCH, 10 * PAGE, 20 * PAGE), 0, "punch");
    require!(area.holds(10 * PAGE, 20 * PAGE, 0), "the hole");
    require!(
        area.get(9 * PAGE) == 10 && area.get(30 * PAGE) == 31,
        "around it"
    );
    require!(copies.get(14 * PAGE) == 0x99, "a copy stays");
    require!(copies.get(12 * PAGE) == 0, "what was the file's goes");
    area.set(15 * PAGE, 0x33);
    require!(byte_at(&file, 15 * PAGE) == 0x33, "a page in the hole");
    // The same after the mapping has moved.
    let far = Area::new(40 * PAGE, map::PROT_NONE);
    let args = [area.addr(0), 40 * PAGE, 40 * PAGE, 3, far.addr(0), 0];
    require_result!(raw(nr::MREMAP, args), far.addr(0) as isize, "mremap");
    require!(far.get(30 * PAGE) == 31, "it has moved");
    require_result!(file.allocate(PUNCH, 30 * PAGE, PAGE), 0, "punch");
    require!(far.get(30 * PAGE) == 0, "and is found where it is");
}

fn removal() {
    check::section(34, "MADV_REMOVE");
    let file = filled(10);
    let area = mapped(&file, 10, map::RW, map::SHARED);
    let got = area.advise(2 * PAGE, 3 * PAGE, MADV_REMOVE);
    require_result!(got, 0, "of a shared mapping");
    require!(area.holds(2 * PAGE, 3 * PAGE, 0), "it is a hole");
    require!(area.get(5 * PAGE) == 6 && area.get(PAGE) == 2, "around it");
    require!(
        file.stat().blocks == 56 || file.stat().blocks == 80,
        "blocks"
    );
    let read_only = mapped(&file, 10, map::PROT_READ, map::SHARED);
    require_result!(read_only.advise(0, PAGE, MADV_REMOVE), 0, "by any");
    let private = mapped(&file, 10, map::RW, map::PRIVATE);
    let got = private.advise(0, PAGE, MADV_REMOVE);
    require_result!(got, -errno::EACCES, "of a private mapping");
    let anonymous = Area::new(PAGE, map::RW);
    let got = anonymous.advise(0, PAGE, MADV_REMOVE);
    require_result!(got, -errno::EINVAL, "of no object");
    require_result!(area.advise(0, 0, MADV_REMOVE), 0, "of nothing");
    let odd = [area.addr(1), PAGE, MADV_REMOVE, 0, 0, 0];
    require_result!(raw(nr::MADVISE, odd), -errno::EINVAL, "an odd address");
    require_result!(area.unmap(7 * PAGE, PAGE), 0, "munmap");
    let got = area.advise(6 * PAGE, 3 * PAGE, MADV_REMOVE);
    require_result!(got, -errno::ENOMEM, "over a gap");
    require!(
        area.get(6 * PAGE) == 0 && area.get(8 * PAGE) == 0,
        "both sides"
    );
    require!(area.get(9 * PAGE) == 10, "but no more");
    let memory = Area::unmapped(4 * PAGE);
    let flags = map::SHARED | map::ANONYMOUS | map::FIXED;
    let got = memory.map_raw(0, 4 * PAGE, map::RW, flags);
    require!(got > 0, "shared anonymous memory");
    memory.fill(0, 4 * PAGE, 5);
    require_result!(memory.advise(PAGE, PAGE, MADV_REMOVE), 0, "of it");
    require!(memory.get(PAGE) == 0 && memory.get(2 * PAGE) == 5, "a hole");
}

fn sealed() {
    const WRITE: usize = 8;
    check::section(35, "seals and mappings");
    let file = File::new(ALLOW_SEALING);
    require_result!(file.write(&[1; PAGE]), PAGE as isize, "write");
    let area = mapped(&file, 1, map::RW, map::SHARED);
    require_result!(file.control(ADD_SEALS, WRITE), -EBUSY, "mapped writable");
    drop(area);
    require_result!(file.control(ADD_SEALS, WRITE), 0, "not any more");
    let area = Area::unmapped(PAGE);
    let got = area.map_file(0, PAGE, map::RW, map::SHARED, file.0);
    require_result!(got, -errno::EPERM, "shared and writable");
    let private = mapped(&file, 1, map::RW, map::PRIVATE);
    private.set(0, 2);
    require!(byte_at(&file, 0) == 1, "a private copy");
    if area.map_file(0, PAGE, map::PROT_READ, map::SHARED, file.0) > 0 {
        // A Linux before 6.7 refuses.
        let got = area.protect(0, PAGE, map::RW);
        require_result!(got, -errno::EACCES, "cannot become writable");
        require!(area.get(0) == 1, "but read");
    }
}

fn errors() {
    check::section(36, "mmap of files: errors");
    let file = filled(1);
    let area = Area::unmapped(4 * PAGE);
    let map_it = |len, flags, fd, offset| {
        let flags = flags | map::FIXED;
        let args = [area.addr(0), len, map::RW, flags, fd, offset];
        raw(nr::MMAP, args)
    };
    require_result!(map_it(PAGE, map::SHARED, 900, 0), -errno::EBADF, "closed");
    require_result!(map_it(0, map::SHARED, file.0, 0), -errno::EINVAL, "nothing");
    require_result!(map_it(PAGE, 0, file.0, 0), -errno::EINVAL, "no kind");
    require_result!(map_it(PAGE, map::SHARED, file.0, 1), -errno::EINVAL, "odd");
    let got = map_it(4 * PAGE, map::SHARED, file.0, 0);
    require_result!(got, area.addr(0) as isize, "more than the file has");
    require!(area.get(0) == 1, "the first page");
    require!(!readable(area.addr(PAGE)), "there is no second page");
    require_result!(file.truncate(4 * PAGE), 0, "grow");
    require!(area.get(3 * PAGE) == 0, "there is now");
}
