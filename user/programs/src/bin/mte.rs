//! Allocation tags (MTE) as Linux gives them to programs. Without arguments: the rules. With one, the end
//! by a tag check fault: `sync`, `write`, `async`, `asymm`, `kernel`.
//!
//! On a machine without MTE it checks that the kernel says so, and passes.

#[cfg(target_arch = "aarch64")]
use std::arch::asm;

use libc::{MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE};
use programs::figures::all_counts;
use programs::{check, require};

const PAGE: usize = 4096;
const GRANULE: usize = 16;
const PROT_MTE: i32 = 0x20;
const RW: i32 = PROT_READ | PROT_WRITE;
const HWCAP2_MTE: u64 = 1 << 18;
/// `PR_SET_TAGGED_ADDR_CTRL`, `PR_GET_TAGGED_ADDR_CTRL` and their bits.
const SET: i32 = 55;
const GET: i32 = 56;
const ENABLE: u64 = 1;
const SYNC: u64 = 1 << 1;
const ASYNC: u64 = 1 << 2;
const TAGS: u64 = 0xfffe << 3;

fn main() {
    let scene = std::env::args().nth(1);
    check::start("mte");
    check::aarch64_only();
    // SAFETY: reads the auxiliary vector.
    if unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_MTE == 0 {
        check::section(10, "a machine without tags says so");
        require!(control(SET, ENABLE | SYNC) == -1, "a mode is taken");
        let page = map(1, RW | PROT_MTE, MAP_PRIVATE);
        require!(
            protect(page, 1, RW | PROT_MTE) == -1,
            "mprotect takes PROT_MTE"
        );
        return check::pass();
    }
    match scene.as_deref() {
        None => rules(),
        Some("sync") => end(SYNC, |page| page.load(0)),
        Some("write") => end(SYNC, |page| page.store(0, 1)),
        Some("async") => end(ASYNC, |page| page.store(0, 1)),
        Some("asymm") => end(SYNC | ASYNC, |page| page.store(0, 1)),
        Some(other) => check::usage(&format!("no scene {other:?}")),
    }
}

fn rules() {
    check::section(11, "modes are kept for each thread");
    modes();
    check::section(12, "fresh memory has zeros and tags of zero");
    fresh();
    check::section(13, "mprotect reserves nothing, and a touch makes tags");
    on_access();
    check::section(14, "PROT_MTE cannot be taken away");
    set_only();
    check::section(15, "tags go along");
    along();
    check::section(16, "memory files share tags, copies copy them");
    files();
    check::section(17, "calls take tagged pointers and compare tags");
    calls();
    check::section(18, "IRG makes tags of the mask");
    mask();
    check::section(19, "memory that may not be read or only executed");
    no_access();
    check::pass();
}

/// One or more pages, by a pointer with a tag.
#[derive(Clone, Copy)]
struct Pages(usize);

impl Pages {
    fn at(self, offset: usize) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.0 + offset)
    }

    fn load(self, offset: usize) -> u8 {
        // SAFETY: the pages are mapped; where a test has no access, the program ends by a signal.
        unsafe { self.at(offset).read_volatile() }
    }

    fn store(self, offset: usize, value: u8) -> u8 {
        // SAFETY: as above.
        unsafe { self.at(offset).write_volatile(value) }
        value
    }

    fn plain(self) -> Self {
        Self(self.0 & !(0xff << 56))
    }

    fn tagged(self, tag: usize) -> Self {
        Self(self.plain().0 | tag << 56)
    }

    /// The tag in memory.
    fn tag(self, offset: usize) -> usize {
        load_tag(self.plain().0 + offset)
    }

    fn set_tag(self, offset: usize, tag: usize) {
        store_tag(self.tagged(tag).0 + offset);
    }

    fn set_all(self, pages: usize, tag: usize) -> Self {
        for offset in (0..pages * PAGE).step_by(GRANULE) {
            self.set_tag(offset, tag);
        }
        self.tagged(tag)
    }
}

fn map(pages: usize, prot: i32, flags: i32) -> Pages {
    let flags = flags | MAP_ANONYMOUS;
    // SAFETY: a new mapping.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), pages * PAGE, prot, flags, -1, 0) };
    require!(at != MAP_FAILED, "no memory");
    Pages(at.expose_provenance())
}

fn protect(pages: Pages, count: usize, prot: i32) -> i32 {
    // SAFETY: pages of this program's, which nothing but the test uses.
    unsafe { libc::mprotect(pages.at(0).cast(), count * PAGE, prot) }
}

fn control(call: i32, word: u64) -> i32 {
    // SAFETY: about this thread's tag checks only.
    unsafe { libc::prctl(call, word, 0u64, 0u64, 0u64) }
}

fn checks(mode: u64) {
    require!(
        control(SET, ENABLE | mode | TAGS) == 0,
        "the mode {mode} is refused"
    );
}

/// The tag of the granule at `at`.
#[cfg(target_arch = "aarch64")]
fn load_tag(at: usize) -> usize {
    let mut found = at;
    // SAFETY: loads a tag; the page is mapped.
    unsafe {
        asm!(".arch_extension memtag", "ldg {0}, [{1}]", inout(reg) found, in(reg) at);
    }
    found >> 56 & 0xf
}

/// Makes the tag of the granule at `at` that of this pointer.
#[cfg(target_arch = "aarch64")]
fn store_tag(at: usize) {
    // SAFETY: stores a tag; the page is mapped and writable.
    unsafe { asm!(".arch_extension memtag", "stg {0}, [{0}]", in(reg) at) }
}

#[cfg(target_arch = "aarch64")]
fn random_tag(pointer: usize) -> usize {
    let tagged: usize;
    // SAFETY: makes a pointer.
    unsafe {
        asm!(".arch_extension memtag", "irg {0}, {1}", out(reg) tagged, in(reg) pointer);
    }
    tagged >> 56 & 0xf
}

/// Other machines have no tags, and the program says so before it comes here.
#[cfg(not(target_arch = "aarch64"))]
fn load_tag(_at: usize) -> usize {
    0
}

#[cfg(not(target_arch = "aarch64"))]
fn store_tag(_at: usize) {}

#[cfg(not(target_arch = "aarch64"))]
fn random_tag(_pointer: usize) -> usize {
    0
}

fn end(mode: u64, access: impl Fn(Pages) -> u8) {
    check::section(20, "a wrong tag ends the program");
    checks(mode);
    let page = map(1, RW | PROT_MTE, MAP_PRIVATE);
    page.set_tag(0, 5);
    println!("{:#x}", page.0);
    access(page);
    std::thread::yield_now();
    require!(false, "it goes on");
}

fn modes() {
    require!(control(GET, 0) >= 0, "no mode to begin with");
    for word in [
        0,
        ENABLE,
        ENABLE | SYNC,
        ASYNC,
        ENABLE | SYNC | ASYNC | TAGS,
    ] {
        require!(control(SET, word) == 0, "{word:#x} is refused");
        require!(control(GET, 0) as u64 == word, "{word:#x} is not kept");
    }
    for bad in [1 << 19, 1 << 20, 1 << 31, 1 << 40, u64::MAX] {
        require!(control(SET, bad) == -1, "{bad:#x} is taken");
    }
    // SAFETY: as in `control`.
    let more = unsafe { libc::prctl(SET, ENABLE, 1u64, 0u64, 0u64) };
    require!(more == -1, "an argument too many is taken");
    control(SET, ENABLE | SYNC | 0x10 << 3);
    let threads: Vec<_> = (1u64..6)
        .map(|n| {
            std::thread::spawn(move || {
                let inherited = control(GET, 0) as u64;
                let word = ENABLE | SYNC | 1 << (n + 3);
                let mut kept = inherited == ENABLE | SYNC | 0x10 << 3;
                control(SET, word);
                for _ in 0..50 {
                    std::thread::yield_now();
                    kept &= control(GET, 0) as u64 == word && random_tag(0x1000) == n as usize;
                }
                kept
            })
        })
        .collect();
    for thread in threads {
        require!(
            thread.join().is_ok_and(|kept| kept),
            "a thread has another's mode"
        );
    }
    checks(SYNC);
}

fn fresh() {
    for flags in [MAP_PRIVATE, MAP_SHARED] {
        let pages = map(64, RW | PROT_MTE, flags);
        for page in (0..64).step_by(3) {
            require!(pages.load(page * PAGE + 8) == 0, "page {page} is not zero");
            require!(pages.tag(page * PAGE + 64) == 0, "page {page} has a tag");
            let mine = pages.set_all(1, 0).tagged(0);
            mine.store(page * PAGE, 3);
            require!(
                pages.tag(page * PAGE) == 0,
                "page {page} got a tag by a write"
            );
        }
    }
}

fn on_access() {
    let pages = map(1024, RW, MAP_PRIVATE);
    for page in 0..1024 {
        pages.store(page * PAGE, page as u8);
    }
    all_counts(&[("faults_tag", 0..=0), ("pages_tagged", 0..=0)], || {
        require!(
            protect(pages, 1024, RW | PROT_MTE) == 0,
            "mprotect refuses PROT_MTE"
        );
    });
    all_counts(&[("faults_tag", 3..=3), ("pages_tagged", 3..=3)], || {
        for page in [0, 100, 1023] {
            require!(
                pages.load(page * PAGE) == page as u8,
                "page {page} is another"
            );
            require!(pages.tag(page * PAGE) == 0, "page {page} has a tag");
        }
    });
    let mine = pages.set_all(1024, 9);
    for page in 0..1024 {
        require!(mine.load(page * PAGE) == page as u8, "page {page} is lost");
    }
}

fn set_only() {
    let pages = map(4, RW, MAP_PRIVATE);
    pages.store(0, 1);
    require!(
        protect(pages, 4, RW | PROT_MTE) == 0,
        "mprotect refuses PROT_MTE"
    );
    pages.set_tag(0, 6);
    require!(
        protect(pages, 4, PROT_READ) == 0 && protect(pages, 4, RW) == 0,
        "mprotect"
    );
    require!(pages.tag(0) == 6, "the tag is gone");
    require!(pages.tagged(6).load(0) == 1, "the page is another");
    pages.set_tag(PAGE, 7);
    require!(pages.tag(PAGE) == 7, "the next page carries none");
    require!(
        protect(pages, 4, RW | 0x40) == -1,
        "an unknown right is taken"
    );
}

fn along() {
    let pages = map(8, RW | PROT_MTE, MAP_PRIVATE);
    let mine = pages.set_all(8, 4);
    mine.store(3 * PAGE + 5, 77);
    let (old, len, flags) = (pages.at(0).cast(), 8 * PAGE, libc::MREMAP_MAYMOVE);
    // SAFETY: the mapping is moved, and the old pointers are not used again.
    let moved = unsafe { libc::mremap(old, len, 512 * PAGE, flags) };
    require!(moved != MAP_FAILED, "mremap");
    let moved = Pages(moved.expose_provenance());
    require!(
        moved.tag(3 * PAGE) == 4 && moved.tagged(4).load(3 * PAGE + 5) == 77,
        "mremap loses"
    );
    require!(moved.tag(100 * PAGE) == 0, "what is new has a tag");
    // SAFETY: the contents are given up.
    let given_up = unsafe { libc::madvise(moved.at(0).cast(), 8 * PAGE, libc::MADV_DONTNEED) };
    require!(given_up == 0, "madvise");
    require!(
        moved.tag(3 * PAGE) == 0 && moved.load(3 * PAGE + 5) == 0,
        "contents are kept"
    );
    // SAFETY: nothing uses it.
    unsafe { libc::munmap(moved.tagged(3).at(0).cast(), 512 * PAGE) };
}

fn files() {
    // SAFETY: a new file.
    let file = unsafe { libc::memfd_create(c"tags".as_ptr(), 0) };
    // SAFETY: of this program.
    let sized = unsafe { libc::ftruncate(file, 4 * PAGE as i64) };
    require!(file >= 0 && sized == 0, "memfd");
    let of_file = |prot, flags| {
        // SAFETY: a new mapping.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), 4 * PAGE, prot, flags, file, 0) };
        require!(at != MAP_FAILED, "mmap of a file");
        Pages(at.expose_provenance())
    };
    let (one, other) = (
        of_file(RW | PROT_MTE, MAP_SHARED),
        of_file(RW | PROT_MTE, MAP_SHARED),
    );
    let plain = of_file(RW, MAP_SHARED);
    one.set_tag(32, 8);
    one.tagged(8).store(32, 1);
    require!(
        other.tag(32) == 8 && plain.load(32) == 1,
        "the tag is not the file's"
    );
    require!(plain.tag(32) == 0, "a plain mapping shows tags");
    let copy = of_file(RW | PROT_MTE, MAP_PRIVATE);
    copy.store(0, 5);
    require!(
        copy.tag(32) == 8 && copy.tagged(8).load(32) == 1,
        "the copy has other tags"
    );
    copy.set_tag(32, 2);
    require!(one.tag(32) == 8, "the file has the copy's tag");
}

fn calls() {
    let pages = map(2, RW | PROT_MTE, MAP_PRIVATE);
    let mine = pages.set_all(1, 3);
    // SAFETY: a new file, and buffers of this program; what the kernel refuses it does not touch.
    unsafe {
        let file = libc::memfd_create(c"bytes".as_ptr(), 0);
        require!(
            libc::write(file, mine.at(0).cast(), 100) == 100,
            "a tagged pointer is refused"
        );
        let wrong = libc::write(file, mine.tagged(4).at(0).cast(), 100);
        require!(wrong == -1, "a wrong tag is not noticed: {wrong}");
        // The second page has tags of zero: the pointer's are right up to there.
        let short = libc::write(file, mine.at(PAGE - 64).cast(), 200);
        require!(short == 64, "{short} bytes instead of 64");
        libc::lseek(file, 0, libc::SEEK_SET);
        let short = libc::read(file, mine.at(PAGE - 32).cast(), 100);
        require!(short == 32, "{short} bytes instead of 32");
        checks(ASYNC);
        let all = libc::write(file, mine.tagged(4).at(0).cast(), 100);
        require!(all == 100, "checked though checks come late: {all}");
        control(SET, SYNC);
        let refused = libc::write(file, mine.at(0).cast(), 100);
        require!(refused == -1, "a tag is taken that was not asked for");
        checks(SYNC);
        libc::close(file);
    }
}

fn mask() {
    for included in [0u64, 1, 0x8000, 0x0f0, 0xffff] {
        control(SET, ENABLE | included << 3);
        let mut seen = 0;
        for _ in 0..300 {
            seen |= 1 << random_tag(0x1000);
        }
        let allowed = if included == 0 { 1 } else { included };
        require!(seen & !allowed == 0, "mask {included:#x} made {seen:#x}");
        require!(
            included.count_ones() < 4 || u64::count_ones(seen) > 1,
            "always the same"
        );
    }
    checks(SYNC);
}

fn no_access() {
    let pages = map(2, RW, MAP_PRIVATE);
    pages.store(0, 1);
    require!(protect(pages, 2, PROT_NONE | PROT_MTE) == 0, "mprotect");
    require!(protect(pages, 2, RW) == 0, "mprotect");
    pages.set_tag(0, 2);
    require!(
        pages.tag(0) == 2 && pages.tagged(2).load(0) == 1,
        "the page is another"
    );
    let code = map(1, RW, MAP_PRIVATE);
    code.store(0, 1);
    all_counts(&[("pages_tagged", 0..=0)], || {
        require!(
            protect(code, 1, libc::PROT_EXEC | PROT_MTE) == 0,
            "mprotect"
        );
        require!(code.load(0) == 1, "the page is another");
    });
    require!(protect(code, 1, PROT_READ | PROT_WRITE) == 0, "mprotect");
    code.set_tag(0, 1);
    require!(code.tag(0) == 1, "it carries no tags when it may be read");
}
