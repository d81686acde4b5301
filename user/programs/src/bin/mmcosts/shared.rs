//! Shared memory: a memfd filled by `write`, mapped and read, written, and written privately; and
//! shared anonymous memory.

use crate::anonymous::gone;
use crate::folios::Size;
use crate::pages::{self, MARK};
use programs::measure::{Choice, Done, accept, confirm, row, run};
use programs::memory::Area;
use programs::sys::{self, PAGE, errno, map, nr, syscall};

const LEN: usize = 64 << 20;
const PAGES: u64 = (LEN / PAGE) as u64;
/// Bytes for each call of `write`.
const CHUNK: usize = 64 << 10;
/// What `write` is given, on pages of its own: each goes into one page of the file.
#[repr(C, align(4096))]
struct Chunk([u8; CHUNK]);

/// What the file is filled with.
const FILL: u8 = 7;
/// Pages that one read fault maps at most, by the kernel's default of `fault_around_bytes`.
const AROUND: u64 = 16;

/// A memory file, closed when dropped.
struct Memfd(usize);

impl Memfd {
    fn new() -> Done<Self> {
        let name = c"mmcosts";
        // SAFETY: the name is read, no memory changes.
        let got = unsafe { syscall(nr::MEMFD_CREATE, [name.as_ptr() as usize, 0, 0, 0, 0, 0]) };
        accept(got, "memfd_create").map(Self)
    }

    /// Writes `LEN` bytes; the first answer that is not a whole chunk ends it.
    fn fill(&self, chunk: &[u8]) -> isize {
        for _ in 0..LEN / CHUNK {
            let got = sys::write(self.0 as i32, chunk.as_ptr() as usize, chunk.len());
            if got != chunk.len() as isize {
                return got.min(-errno::EIO);
            }
        }
        0
    }

    fn map(&self, area: &Area, flags: usize) -> Done {
        accept(area.map_file(0, LEN, map::RW, flags, self.0), "mmap").map(|_| ())
    }
}

impl Drop for Memfd {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours alone.
        let _ = unsafe { syscall(nr::CLOSE, [self.0, 0, 0, 0, 0, 0]) };
    }
}

/// Group `shmem`, in single pages.
pub fn memfd(choice: &Choice) {
    let names = [
        "shmem_write_syscall",
        "shmem_read_fault",
        "shmem_munmap",
        "shmem_read_fault_madv_random",
        "shmem_write_fault",
        "shmem_private_cow_fault",
    ];
    let rows = names.map(|name| row(name, "", "page", PAGES));
    let area = Area::unmapped(LEN);
    static FILLING: Chunk = Chunk([FILL; CHUNK]);
    run(choice, "shmem", &rows, |meter| {
        Size::Small.choose()?;
        let file = Memfd::new()?;
        meter.time_call(0, "write", || file.fill(&FILLING.0))?;
        file.map(&area, map::SHARED)?;
        let read = meter.time(1, || pages::read(&area, LEN));
        meter.claim_faults(1, read, PAGES / AROUND);
        pages::hold(&area, LEN, FILL, FILL)?;
        meter.time_call(2, "munmap", || area.unmap(0, LEN))?;
        gone(&area, LEN)?;
        file.map(&area, map::SHARED)?;
        accept(area.advise(0, LEN, map::MADV_RANDOM), "madvise")?;
        let read = meter.time(3, || pages::read(&area, LEN));
        meter.claim_faults(3, read, PAGES / AROUND);
        pages::hold(&area, LEN, FILL, FILL)?;
        file.map(&area, map::PRIVATE)?;
        let copied = meter.time(5, || pages::write(&area, LEN));
        meter.claim_faults(5, copied, PAGES);
        pages::hold(&area, LEN, MARK, FILL)?;
        file.map(&area, map::SHARED)?;
        // No page is read before: that would map it.
        let written = meter.time(4, || pages::write(&area, LEN));
        meter.claim_faults(4, written, PAGES);
        file.map(&area, map::SHARED)?;
        pages::hold(&area, LEN, MARK, FILL)?;
        accept(area.unmap(0, LEN), "munmap")?;
        copies_stay_private(&area, &file)
    });
}

/// What is written to a private mapping is not in the file.
fn copies_stay_private(area: &Area, file: &Memfd) -> Done {
    file.map(area, map::PRIVATE)?;
    area.set(1, 99);
    confirm(area.get(1) == 99, || {
        "a private page lost a byte".to_owned()
    })?;
    file.map(area, map::SHARED)?;
    confirm(area.get(1) == FILL, || {
        "a private byte is in the file".to_owned()
    })?;
    accept(area.unmap(0, LEN), "munmap").map(|_| ())
}

/// Groups `shmemanon_*`: filled, mapping dropped (the object keeps the pages), read back, freed.
pub fn anonymous(choice: &Choice, size: Size) {
    let names = [
        "shmem_anon_populate_write_fault",
        "shmem_anon_madv_dontneed",
        "shmem_anon_read_fault",
        "shmem_anon_munmap_and_free",
    ];
    let rows = names.map(|name| row(name, size.suffix(), "page", PAGES));
    let area = Area::unmapped(LEN);
    run(
        choice,
        &format!("shmemanon{}", size.suffix()),
        &rows,
        |meter| {
            size.choose()?;
            let flags = map::SHARED | map::ANONYMOUS | map::FIXED;
            accept(area.map_raw(0, LEN, map::RW, flags), "mmap")?;
            // Larger folios of shared memory come where they are asked for.
            let advised = match size {
                Size::Medium => Size::Large,
                size => size,
            };
            advised.advise(&area, LEN)?;
            let written = meter.time(0, || pages::write(&area, LEN));
            meter.claim_faults(0, written, size.faults(LEN));
            pages::hold(&area, LEN, MARK, 0)?;
            meter.time_call(1, "madvise", || area.advise(0, LEN, map::MADV_DONTNEED))?;
            let read = meter.time(2, || pages::read(&area, LEN));
            meter.claim_faults(2, read, PAGES / AROUND);
            pages::hold(&area, LEN, MARK, 0)?;
            meter.time_call(3, "munmap", || area.unmap(0, LEN))?;
            gone(&area, LEN)
        },
    );
}
