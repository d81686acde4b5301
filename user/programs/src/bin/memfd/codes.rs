//! Wrong inputs.

use crate::file::{
    CLOEXEC, F_DUPFD, F_GETFD, F_GETFL, F_SETFD, F_SETFL, File, KEEP_SIZE, O_APPEND, PUNCH,
    SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET, create, raw,
};
use programs::memory::Area;
use programs::sys::{PAGE, errno, map, nr};
use programs::{check, require, require_result};

/// An address that belongs to the kernel.
const KERNEL: usize = 0xffff_0000_0000_0000;

pub fn run() {
    creating();
    sizes();
    places();
    buffers();
    vectors();
    descriptors();
}

fn creating() {
    check::section(11, "memfd_create");
    let create_named = |name: usize, flags| raw(nr::MEMFD_CREATE, [name, flags, 0, 0, 0, 0]);
    for name in [0, 64, KERNEL] {
        require_result!(create_named(name, 0), -errno::EFAULT, "name at {name:#x}");
    }
    for flags in [0x20, 0x100, 1 << 26, 1 << 31, 0x18] {
        require_result!(create(flags), -errno::EINVAL, "flags {flags:#x}");
    }
    let mut name = [b'x'; 251];
    name[250] = 0;
    let named = |name: &[u8]| create_named(name.as_ptr() as usize, 0);
    require_result!(named(&name), -errno::EINVAL, "a name of 250 bytes");
    let fd = named(&name[1..]);
    require!(fd >= 3, "a name of 249 bytes");
    require_result!(raw(nr::CLOSE, [fd as usize, 0, 0, 0, 0, 0]), 0, "close");
    require_result!(
        raw(nr::CLOSE, [fd as usize, 0, 0, 0, 0, 0]),
        -errno::EBADF,
        "close again"
    );
    let empty = File(named(&[0]) as usize);
    require_result!(empty.control(F_GETFD, 0), 0, "no close-on-exec");
    let other = File::new(CLOEXEC);
    require_result!(other.control(F_GETFD, 0), 1, "close-on-exec");
}

fn sizes() {
    check::section(12, "ftruncate and fallocate: errors");
    let file = File::new(0);
    require_result!(file.truncate(usize::MAX), -errno::EINVAL, "to -1");
    require_result!(file.truncate(1 << 63), -errno::EINVAL, "to the smallest");
    require_result!(file.truncate(4 << 30), 0, "to 4 GiB");
    require!(file.size() == 4 << 30, "a size of {:#x}", file.size());
    require_result!(file.truncate(1), 0, "to 1 byte");
    for (start, len) in [(0, 0), (usize::MAX, 1), (0, usize::MAX), (5, 1 << 63)] {
        for mode in [0, KEEP_SIZE, PUNCH] {
            let got = file.allocate(mode, start, len);
            require_result!(got, -errno::EINVAL, "mode {mode}: {start:#x} {len:#x}");
        }
    }
    for mode in [2, 0x10, 0x80, 0x1000] {
        let got = file.allocate(mode, 0, PAGE);
        require_result!(got, -errno::EOPNOTSUPP, "mode {mode:#x}");
    }
    let far = isize::MAX as usize;
    require_result!(file.allocate(0, far, far), -errno::EFBIG, "beyond it all");
    let console = |number, args: [usize; 3]| raw(number, [1, args[0], args[1], args[2], 0, 0]);
    require!(
        console(nr::FTRUNCATE, [far, 0, 0]) != 0,
        "the console has no length"
    );
    let closed = |number, args: [usize; 3]| raw(number, [900, args[0], args[1], args[2], 0, 0]);
    require_result!(closed(nr::FTRUNCATE, [0; 3]), -errno::EBADF, "closed");
    let got = closed(nr::FTRUNCATE, [usize::MAX, 0, 0]);
    require_result!(got, -errno::EINVAL, "the length comes first");
    require_result!(closed(nr::FALLOCATE, [0; 3]), -errno::EBADF, "closed");
    require!(file.size() == 1, "an error changed the size");
}

fn places() {
    check::section(13, "offsets: errors");
    let file = File::new(0);
    require_result!(file.truncate(3 * PAGE), 0, "ftruncate");
    require_result!(file.seek(-1, SEEK_SET), -errno::EINVAL, "before the start");
    let before = -(3 * PAGE as isize) - 1;
    require_result!(file.seek(before, SEEK_END), -errno::EINVAL, "before it");
    require_result!(file.seek(0, 5), -errno::EINVAL, "whence 5");
    require_result!(file.seek(isize::MAX, SEEK_END), -errno::EINVAL, "too far");
    for whence in [SEEK_DATA, SEEK_HOLE] {
        require_result!(file.seek(-1, whence), -errno::ENXIO, "-1, {whence}");
        let end = 3 * PAGE as isize;
        require_result!(file.seek(end, whence), -errno::ENXIO, "end, {whence}");
    }
    require_result!(file.seek(0, SEEK_DATA), -errno::ENXIO, "no data at all");
    require_result!(file.seek(77, SEEK_HOLE), 77, "all is hole");
    require_result!(file.write_at(b"x", usize::MAX), -errno::EINVAL, "pwrite -1");
    require_result!(file.read_at(&mut [0], 1 << 63), -errno::EINVAL, "pread");
    let got = raw(nr::PREAD64, [900, 0, 0, usize::MAX, 0, 0]);
    require_result!(got, -errno::EINVAL, "the place comes first");
    require_result!(
        raw(nr::PREAD64, [900, 0, 0, 0, 0, 0]),
        -errno::EBADF,
        "closed"
    );
    require_result!(
        raw(nr::LSEEK, [900, 0, 0, 0, 0, 0]),
        -errno::EBADF,
        "closed"
    );
}

fn buffers() {
    check::section(14, "buffers: errors and partial counts");
    let file = File::new(0);
    require_result!(file.truncate(4 * PAGE), 0, "ftruncate");
    for number in [nr::READ, nr::WRITE, nr::PREAD64, nr::PWRITE64] {
        for at in [64, KERNEL, usize::MAX - 3] {
            let got = file.call(number, [at, 8, 0, 0]);
            require_result!(got, -errno::EFAULT, "call {number} at {at:#x}");
        }
        require_result!(file.call(number, [0, 0, 0, 0]), 0, "call {number}, nothing");
    }
    require_result!(file.seek(0, 1), 0, "an error moved the offset");
    let area = Area::new(2 * PAGE, map::RW);
    area.fill(0, 2 * PAGE, b'q');
    require_result!(area.unmap(PAGE, PAGE), 0, "munmap");
    let start = area.addr(PAGE - 100);
    let got = file.call(nr::WRITE, [start, 300, 0, 0]);
    require_result!(got, 100, "write from the end of memory");
    require_result!(file.seek(0, 1), 100, "the offset after a short write");
    let got = file.call(nr::PREAD64, [start, 300, 0, 0]);
    require_result!(got, 100, "read to the end of memory");
    let got = file.call(nr::READ, [area.addr(PAGE), 300, 0, 0]);
    require_result!(got, -errno::EFAULT, "read to no memory");
    require_result!(file.seek(0, 1), 100, "the offset after EFAULT");
    let read_only = Area::new(PAGE, map::PROT_READ);
    let got = file.call(nr::READ, [read_only.addr(0), 10, 0, 0]);
    require_result!(got, -errno::EFAULT, "read to read-only memory");
    require!(file.size() == 4 * PAGE, "the size");
    let fresh = File::new(0);
    let got = fresh.call(nr::WRITE, [64, 8, 0, 0]);
    require_result!(got, -errno::EFAULT, "write from nowhere");
    require!(fresh.size() == 0, "a failed write made it longer");
}

fn vectors() {
    check::section(15, "vectors");
    let file = File::new(0);
    let call = |number, parts: &[[usize; 2]], count: usize, at| {
        file.call(number, [parts.as_ptr() as usize, count, at, 0])
    };
    let (hello, world) = (*b"hello", *b"world!");
    let part = |bytes: &[u8]| [bytes.as_ptr() as usize, bytes.len()];
    let both = [part(&hello), [64, 0], part(&world)];
    require_result!(call(nr::WRITEV, &both, 3, 0), 11, "writev");
    require_result!(call(nr::PWRITEV, &both, 3, 5000), 11, "pwritev");
    require_result!(file.seek(0, 1), 11, "the offset");
    for (number, at) in [(nr::PREADV, 5000), (nr::READV, 0)] {
        require_result!(file.seek(0, SEEK_SET), 0, "lseek");
        let (mut one, mut two) = ([0u8; 7], [0u8; 9]);
        let parts = [
            [one.as_mut_ptr() as usize, 7],
            [two.as_mut_ptr() as usize, 4],
        ];
        require_result!(call(number, &parts, 2, at), 11, "call {number}");
        let (one, two) = std::hint::black_box((one, two));
        require!(
            &one == b"hellowo" && &two[..5] == b"rld!\0",
            "{one:?} {two:?}"
        );
    }
    for number in [nr::READV, nr::WRITEV, nr::PREADV, nr::PWRITEV] {
        require_result!(call(number, &both, 1025, 0), -errno::EINVAL, "too many");
        require_result!(call(number, &both, usize::MAX, 0), -errno::EINVAL, "-1");
        require_result!(call(number, &both, 0, 0), 0, "none");
        let got = file.call(number, [64, 1, 0, 0]);
        require_result!(got, -errno::EFAULT, "no vector");
        let negative = [[hello.as_ptr() as usize, 1 << 63]];
        require_result!(call(number, &negative, 1, 0), -errno::EINVAL, "length");
    }
    let broken = [part(&hello), [64, 3]];
    require_result!(call(nr::PWRITEV, &broken, 2, 0), 5, "a bad second part");
    let got = raw(nr::PREADV, [1, both.as_ptr() as usize, 1, 0, 0, 0]);
    require!(got < 0, "the console has no places");
}

fn descriptors() {
    check::section(16, "descriptors");
    let file = File::new(0);
    require_result!(file.write(b"0123456789"), 10, "write");
    let double = File(raw(nr::DUP, [file.0, 0, 0, 0, 0, 0]) as usize);
    require!(double.0 != file.0, "dup");
    require_result!(double.seek(3, SEEK_SET), 3, "lseek");
    require_result!(file.seek(0, 1), 3, "duplicates share the offset");
    require_result!(file.control(F_SETFD, 1), 0, "F_SETFD");
    require_result!(double.control(F_GETFD, 0), 0, "and not close-on-exec");
    let flags = file.control(F_GETFL, 0);
    require!(flags & 3 == 2, "opened for reading and writing: {flags:#x}");
    require_result!(double.control(F_SETFL, O_APPEND), 0, "F_SETFL");
    let now = file.control(F_GETFL, 0);
    require_result!(now, flags | O_APPEND as isize, "duplicates share flags");
    require_result!(file.write(b"ab"), 2, "append");
    require_result!(file.seek(0, 1), 12, "after what was appended");
    require_result!(file.write_at(b"cd", 0), 2, "pwrite appends, as Linux does");
    require!(file.size() == 14, "the size is {}", file.size());
    let target = file.control(F_DUPFD, 20);
    require!(target >= 20, "F_DUPFD");
    let same = raw(nr::DUP3, [file.0, file.0, 0, 0, 0, 0]);
    require_result!(same, -errno::EINVAL, "dup3 to itself");
    let got = raw(nr::DUP3, [file.0, target as usize, 0o2000000, 0, 0, 0]);
    require_result!(got, target, "dup3 over an open one");
    let third = File(target as usize);
    require_result!(third.control(F_GETFD, 0), 1, "dup3 with O_CLOEXEC");
    drop(file);
    let mut bytes = [0; 4];
    require_result!(third.read_at(&mut bytes, 10), 4, "still open");
    require!(&bytes == b"abcd", "{bytes:?}");
    require!(
        third.call(nr::IOCTL, [0x5401, 0, 0, 0]) == -errno::ENOTTY,
        "ioctl"
    );
    let got = raw(nr::DUP, [900, 0, 0, 0, 0, 0]);
    require_result!(got, -errno::EBADF, "dup of none");
}
