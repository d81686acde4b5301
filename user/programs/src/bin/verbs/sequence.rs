//! One sequence: calls in random order, each written down with its answer.

use crate::arena::{self, Answer, At, END, MARGIN, PAGES, START, call};
use crate::choose::Choose;
use crate::files::Files;
use crate::look::Maps;
use crate::out::Out;
use crate::put;
use crate::touch::Page;
use programs::sys::{PAGE, map, nr};

const PR_SET_THP_DISABLE: usize = 41;
/// Calls between two looks at everything.
const LOOK: u64 = 16;

/// A sequence and all that its calls lend to the kernel. Large: it lives in one allocation made
/// before the first call.
pub struct Sequence {
    pub out: Out,
    pub choose: Choose,
    pub files: Files,
    pub maps: Maps,
    /// One byte for each page of the arena and its margins, for `mincore`.
    pub resident: [u8; PAGES + 2 * MARGIN / PAGE],
    /// Contents on their way.
    pub bytes: [u8; 2 * PAGE],
    /// What the last look found in each page.
    pub seen: [Page; PAGES],
    /// The program break when the sequence began.
    pub heap: usize,
    /// Whether each page is resident by itself, so that residency can be compared.
    pub single: bool,
    full: bool,
}

impl Sequence {
    pub const fn new(full: bool) -> Self {
        Self {
            out: Out::new(),
            choose: Choose::new(0),
            files: Files::new(),
            maps: Maps::new(),
            resident: [0; PAGES + 2 * MARGIN / PAGE],
            bytes: [0; 2 * PAGE],
            seen: [Page::Unreadable; PAGES],
            heap: 0,
            single: false,
            full,
        }
    }

    /// Runs the sequence of a seed.
    pub fn run(&mut self, seed: u64, count: u64) {
        put!(self.out, "seed {seed}, {count} calls\n");
        self.choose = Choose::new(seed);
        self.begin(seed);
        for number in 1..=count {
            put!(self.out, "{number} ");
            self.step();
            self.maps.read();
            put!(self.out, " [{}]\n", self.maps);
            if self.full {
                self.maps.list(&mut self.out);
            }
            if number % LOOK == 0 || number == count {
                self.look();
            }
        }
        self.end();
    }

    /// An arena that is empty or reserved, a fresh file, and pages of one size for odd seeds.
    fn begin(&mut self, seed: u64) {
        self.single = seed % 2 == 1;
        let got = call(
            nr::PRCTL,
            [PR_SET_THP_DISABLE, usize::from(self.single), 0, 0, 0, 0],
        );
        put!(
            self.out,
            "pages of one size: {} = {}\n",
            self.single,
            Answer(got)
        );
        let flags = map::PRIVATE | map::ANONYMOUS | map::FIXED_NOREPLACE | map::NORESERVE;
        let args = [START, PAGES * PAGE, map::PROT_NONE, flags, usize::MAX, 0];
        let got = call(nr::MMAP, args);
        put!(self.out, "reserve = {}\n", Place(got));
        if seed % 4 < 2 {
            put!(self.out, "clear = {}\n", Answer(arena::clear()));
        }
        self.seen = [Page::Unreadable; PAGES];
        self.heap = call(nr::BRK, [0; 6]) as usize;
        self.files.begin(&mut self.out);
        for _ in 0..4 {
            self.mmap();
            put!(self.out, "\n");
        }
    }

    fn end(&mut self) {
        let heap = call(nr::BRK, [self.heap, 0, 0, 0, 0, 0]) as usize;
        put!(self.out, "brk back = {}\n", heap == self.heap);
        self.files.end();
        put!(self.out, "clear = {}\n", Answer(arena::clear()));
        put!(self.out, "end of seed\n");
    }

    /// One call.
    fn step(&mut self) {
        match self.choose.below(100) {
            0..24 => self.mmap(),
            24..28 => self.munmap(),
            28..40 => self.mprotect(),
            40..52 => self.madvise(),
            52..57 => self.mincore(),
            57..59 => self.brk(),
            59..70 => self.mremap(),
            70..79 => self.file(),
            79..90 => self.poke(),
            90..93 => self.peek(),
            93..96 => self.copy_out(),
            _ => self.copy_in(),
        }
    }

    /// All that can be seen of the arena: its map and the contents of every readable page.
    fn look(&mut self) {
        self.maps.list(&mut self.out);
        self.contents();
    }
}

/// Whether an address belongs to the arena or its margins.
pub const fn in_arena(addr: usize) -> bool {
    addr >= START - MARGIN && addr < END + MARGIN
}

/// The answer of a call that answers an address: only in the arena does it say which.
pub struct Place(pub isize);

impl std::fmt::Display for Place {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            -4095..=0 => Answer(self.0).fmt(to),
            at if in_arena(at as usize) => At(at as usize).fmt(to),
            _ => to.write_str("elsewhere"),
        }
    }
}
