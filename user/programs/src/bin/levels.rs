//! Address ranges that grow under running threads: `levels [BITS]`.
//!
//! Spinners read and write far below 39 bits all the time. Beside them the program maps memory
//! above 39 bits and, where the CPU has as many, above 48: by hint, at fixed addresses, by moving,
//! and because nothing is free below. Helpers that have been running since before use the new
//! memory at once, half of them as code first and half as data first.

use programs::memory::{Area, readable, writable};
use programs::sys::{PAGE, errno, map, nr, sched_yield, syscall};
use programs::{check, require, require_result};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

const GIB: usize = 1 << 30;
const HELPERS: usize = 4;
const SPINNERS: usize = 2;
/// Pages of a mapping that helpers use: data, then one page of code.
const PAGES: usize = HELPERS + 2;
const CODE: usize = (PAGES - 1) * PAGE;

/// What threads tell each other.
#[derive(Default)]
struct Stage {
    /// Rounds announced; helpers use `area` of the round.
    round: AtomicU64,
    area: std::sync::RwLock<Option<Area>>,
    finished: AtomicUsize,
    stop: AtomicBool,
    spins: AtomicU64,
}

fn main() {
    check::aarch64_only();
    check::start("levels");
    check::section(10, "which addresses there are");
    let expected = check::number_argument(1, 0);
    let stage = Stage::default();
    thread::scope(|scope| {
        for number in 0..SPINNERS {
            let stage = &stage;
            scope.spawn(move || spin(number, stage));
        }
        for number in 0..HELPERS {
            let stage = &stage;
            scope.spawn(move || help(number, stage));
        }
        while stage.spins.load(Ordering::Relaxed) < 2 * SPINNERS as u64 {
            sched_yield();
        }
        let bits = run(&stage);
        require!(
            expected == 0 || expected == bits as u64,
            "there are {bits} bits, not {expected}"
        );
        println!("levels: addresses have {bits} bits");
        stage.stop.store(true, Ordering::Relaxed);
    });
    check::pass();
}

/// Runs all sections and says how many bits addresses have.
fn run(stage: &Stage) -> u32 {
    check::section(11, "above 39 bits by hint");
    let first = above(39);
    let area = Area::near(first, PAGES * PAGE, map::RW, false);
    use_everywhere(stage, expect_at(area, first));
    let pairs = [((1 << 47) - 3 * GIB, false), ((1 << 47) + 3 * GIB, true)];
    for (at, exactly) in pairs {
        let area = Area::near(at, PAGES * PAGE, map::RW, exactly);
        use_everywhere(stage, expect_at(area, at));
    }
    check::section(12, "above 48 bits");
    let wish = above(48);
    let area = Area::near(wish, PAGES * PAGE, map::RW, false).expect("a hint never fails");
    let bits = if area.addr(0) == wish { 52 } else { 48 };
    require!(
        bits == 52 || area.addr(0) < 1 << 48,
        "without wider addresses a hint is not honoured"
    );
    use_everywhere(stage, area);
    fixed(stage, bits);
    calls();
    moves();
    no_room();
    bits
}

/// An address of its own some way above `1 << bits`.
fn above(bits: u32) -> usize {
    (1 << bits) + 5 * GIB + 7 * PAGE
}

fn expect_at(area: Result<Area, isize>, at: usize) -> Area {
    let area = match area {
        Ok(area) => area,
        Err(error) => {
            let error = programs::sys::describe(error);
            check::fail(file!(), line!(), &format!("mmap at {at:#x}: {error}"))
        }
    };
    require!(
        area.addr(0) == at,
        "free memory at {at:#x}, mapped at {:#x}",
        area.addr(0)
    );
    area
}

fn fixed(stage: &Stage, bits: u32) {
    check::section(13, "fixed addresses");
    let end = 1usize << bits;
    let last = end - PAGES * PAGE;
    let area = Area::near(last, PAGES * PAGE, map::RW, true);
    use_everywhere(stage, expect_at(area, last));
    let beyond = Area::near(end - PAGE, 2 * PAGE, map::RW, true);
    let answer = beyond.map(|area| area.addr(0));
    require!(
        answer == Err(-errno::ENOMEM),
        "over the end of {bits} bits: {answer:x?}"
    );
    let hinted = Area::near(end + GIB, PAGE, map::RW, false).expect("a hint never fails");
    require!(hinted.addr(0) < end, "beyond the end by hint");
}

/// System calls take pointers anywhere, and refuse those where nothing is.
fn calls() {
    check::section(14, "pointers above 39 bits in system calls");
    let at = above(40);
    let area = expect_at(Area::near(at, 2 * PAGE, map::RW, false), at);
    require!(writable(&area, 5), "the kernel cannot write there");
    require!(
        readable(area.addr(PAGE)) && area.get(PAGE) == 0,
        "the kernel cannot read there"
    );
    let unmapped = area.addr(0);
    drop(area);
    require!(!readable(unmapped), "read where nothing is mapped");
    let nowhere = (1usize << 52) - PAGE;
    for pointer in [unmapped, nowhere, 1 << 52, 1 << 54, usize::MAX & !3] {
        // SAFETY: the call would write where nothing of this program is.
        let got = unsafe { syscall(nr::GETRANDOM, [pointer, 1, 0, 0, 0, 0]) };
        require_result!(got, -errno::EFAULT, "getrandom to {pointer:#x}");
    }
}

/// Memory that moves between the ranges keeps its contents.
fn moves() {
    check::section(15, "mremap between the ranges");
    let low = Area::new(2 * PAGE, map::RW);
    let at = above(41);
    let high = expect_at(Area::near(at, 2 * PAGE, map::PROT_NONE, true), at);
    low.fill(0, 2 * PAGE, 0x5a);
    let flags = map::MREMAP_MAYMOVE | map::MREMAP_FIXED;
    let (from, to, len) = (low.addr(0), high.addr(0), 2 * PAGE);
    // SAFETY: both ranges belong to areas of this function.
    let up = unsafe { syscall(nr::MREMAP, [from, len, len, flags, to, 0]) };
    require_result!(up, to as isize, "mremap upwards");
    require!(high.holds(0, len, 0x5a), "contents after the move upwards");
    require!(!readable(from), "the old place is empty");
    require_result!(high.protect(0, PAGE, map::PROT_READ), 0, "mprotect above");
    require!(!writable(&high, 0) && writable(&high, PAGE), "rights above");
    require_result!(high.advise(PAGE, PAGE, map::MADV_DONTNEED), 0, "madvise");
    require!(high.holds(PAGE, PAGE, 0), "dropped pages are zero");
    require_result!(high.protect(0, PAGE, map::RW), 0, "mprotect back");
    // SAFETY: as above.
    let down = unsafe { syscall(nr::MREMAP, [to, len, len, flags, from, 0]) };
    require_result!(down, from as isize, "mremap downwards");
    require!(
        low.holds(0, PAGE, 0x5a),
        "contents after the move downwards"
    );
    // Beyond the present range of some machines, and empty: no error.
    // SAFETY: nothing of this program is there.
    let got = unsafe { syscall(nr::MUNMAP, [(1 << 48) - 4 * GIB, 2 * GIB, 0, 0, 0, 0]) };
    require_result!(got, 0, "munmap of a hole");
}

/// More than 39 bits have room for, without a wish.
fn no_room() {
    check::section(16, "no room below");
    let areas = [(); 4].map(|()| {
        let area = Area::near(0, 300 * GIB, map::RW, false).expect("room for 300 GiB");
        require!(area.addr(area.len()) <= 1 << 48, "in the default window");
        for at in [0, 123 * GIB, 300 * GIB - PAGE] {
            area.set_u64(at, (area.addr(at)) as u64);
        }
        area
    });
    for area in &areas {
        for at in [0, 123 * GIB, 300 * GIB - PAGE] {
            require!(
                area.get_u64(at) == area.addr(at) as u64,
                "contents at {:#x}",
                area.addr(at)
            );
        }
    }
}

/// Uses memory below 39 bits and nothing else, without a system call.
fn spin(number: usize, stage: &Stage) {
    let area = Area::new(64 * PAGE, map::RW);
    let mut value = number as u64 + 1;
    while !stage.stop.load(Ordering::Relaxed) {
        for page in 0..64 {
            area.set_u64(page * PAGE + 8 * number, value + page as u64);
        }
        for page in 0..64 {
            let found = area.get_u64(page * PAGE + 8 * number);
            if found != value + page as u64 {
                require!(false, "a spinner's page {page} holds {found}");
            }
        }
        value += 1;
        stage.spins.fetch_add(1, Ordering::Relaxed);
    }
}

/// Puts code and data in the area, has all helpers use it, and looks at what they left.
fn use_everywhere(stage: &Stage, area: Area) {
    let round = stage.round.load(Ordering::Relaxed) + 1;
    for helper in 0..HELPERS {
        area.set_u64(helper * PAGE, round * 1000 + helper as u64);
    }
    prepare_code(&area, round);
    *stage.area.write().expect("nobody panics") = Some(area);
    stage.finished.store(0, Ordering::Relaxed);
    stage.round.store(round, Ordering::Release);
    while stage.finished.load(Ordering::Acquire) < HELPERS {
        sched_yield();
    }
    let area = stage.area.write().expect("nobody panics").take();
    let area = area.expect("put there above");
    for helper in 0..HELPERS {
        let found = area.get_u64(helper * PAGE);
        let expected = round * 2000 + helper as u64;
        require!(found == expected, "helper {helper} left {found}");
    }
}

/// One of the threads that have been at EL0 since before the address space grew.
fn help(number: usize, stage: &Stage) {
    let mut seen = 0;
    loop {
        let mut round = stage.round.load(Ordering::Acquire);
        while round == seen {
            if stage.stop.load(Ordering::Relaxed) {
                return;
            }
            // Mostly no call: the CPU keeps the tables that it has loaded.
            if stage.spins.load(Ordering::Relaxed).is_multiple_of(64) {
                sched_yield();
            }
            round = stage.round.load(Ordering::Acquire);
        }
        seen = round;
        let area = stage.area.read().expect("nobody panics");
        let area = area.as_ref().expect("announced");
        if number.is_multiple_of(2) {
            run_code(area, round);
        }
        let at = number * PAGE;
        let found = area.get_u64(at);
        let expected = round * 1000 + number as u64;
        require!(found == expected, "helper {number} found {found}");
        area.set_u64(at, round * 2000 + number as u64);
        run_code(area, round);
        stage.finished.fetch_add(1, Ordering::Release);
    }
}

#[cfg(target_arch = "aarch64")]
fn prepare_code(area: &Area, round: u64) {
    programs::code::write_code(area, CODE, round as u16);
    require_result!(area.protect(CODE, PAGE, map::RX), 0, "to execute");
}

#[cfg(target_arch = "aarch64")]
fn run_code(area: &Area, round: u64) {
    let got = programs::code::call(area, CODE);
    require!(u64::from(got) == round, "the code returned {got}");
}

#[cfg(not(target_arch = "aarch64"))]
fn prepare_code(area: &Area, round: u64) {
    area.set_u64(CODE, round);
}

#[cfg(not(target_arch = "aarch64"))]
fn run_code(area: &Area, round: u64) {
    require!(area.get_u64(CODE) == round, "the word in the page of code");
}
