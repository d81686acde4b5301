//! The calls on ranges of addresses.

use crate::arena::{Answer, At, Len, call};
use crate::choose::{GROWSDOWN, HUGETLB, NONBLOCK, PROTS, STACK};
use crate::files::File;
use crate::put;
use crate::sequence::{Place, Sequence, in_arena};
use programs::sys::{PAGE, map, nr};

/// Bits of `mprotect` beside the rights: GROWSDOWN, GROWSUP, both, unknown ones.
const ODD_RIGHTS: [usize; 5] = [0x100_0000, 0x200_0000, 0x300_0000, 0x8, 0x1000];
/// Advice of all kinds. 8 (FREE) comes by itself, see `free`; 100 and 101 break memory.
const ADVICE: [usize; 34] = [
    0,
    1,
    2,
    3,
    4,
    4,
    4,
    4,
    4,
    9,
    9,
    9,
    22,
    22,
    23,
    23,
    14,
    15,
    10,
    11,
    16,
    17,
    18,
    19,
    20,
    12,
    13,
    25,
    5,
    6,
    7,
    26,
    99,
    0xffff_ffff,
];
const FREE: usize = 8;
const COLLAPSE: usize = 25;
const MAYMOVE: usize = map::MREMAP_MAYMOVE;
const FIXED: usize = map::MREMAP_FIXED;
const DONTUNMAP: usize = 4;
const REMAPS: [usize; 19] = [
    0,
    0,
    MAYMOVE,
    MAYMOVE,
    MAYMOVE,
    MAYMOVE,
    MAYMOVE | FIXED,
    MAYMOVE | FIXED,
    MAYMOVE | FIXED,
    MAYMOVE | FIXED,
    MAYMOVE | FIXED,
    MAYMOVE | FIXED | DONTUNMAP,
    MAYMOVE | FIXED | DONTUNMAP,
    MAYMOVE | FIXED | DONTUNMAP,
    MAYMOVE | DONTUNMAP,
    MAYMOVE | DONTUNMAP,
    FIXED,
    DONTUNMAP,
    8,
];

/// Rights as in /proc/self/maps; other bits as a number.
struct Prot(usize);

impl std::fmt::Display for Prot {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let letters = [(1, 'r'), (2, 'w'), (4, 'x')];
        for (bit, letter) in letters {
            write!(to, "{}", if self.0 & bit == 0 { '-' } else { letter })?;
        }
        match self.0 & !7 {
            0 => Ok(()),
            odd => write!(to, "+{odd:#x}"),
        }
    }
}

impl Sequence {
    fn prot(&mut self) -> usize {
        self.choose.of(&PROTS)
    }

    pub fn mmap(&mut self) {
        let kind = self
            .choose
            .of(&[map::PRIVATE, map::PRIVATE, map::PRIVATE, map::SHARED]);
        let kind = if self.choose.chance(6) {
            self.choose.of(&[0, 3, 5])
        } else {
            kind
        };
        let anonymous = self.choose.below(5) < 3;
        let how = match self.choose.below(16) {
            0..11 => map::FIXED,
            11 | 12 => map::FIXED_NOREPLACE,
            13 => map::FIXED_NOREPLACE | map::FIXED,
            _ => 0,
        };
        let mut flags = kind | how;
        for (flag, share) in [
            (map::NORESERVE, 24),
            (map::POPULATE, 24),
            (GROWSDOWN, 20),
            (STACK, 4),
            (NONBLOCK, 4),
            (0x8000_0000, 4),
        ] {
            if self.choose.chance(share) {
                flags |= flag;
            }
        }
        if anonymous {
            self.map_anonymous(flags | map::ANONYMOUS);
        } else {
            self.map_file(flags);
        }
    }

    fn map_anonymous(&mut self, flags: usize) {
        let (place, prot) = (self.choose.place(), self.prot());
        let (mut len, mut flags, mut prot) = (self.choose.mapping(), flags, prot);
        if flags & (map::FIXED | map::FIXED_NOREPLACE) == 0 {
            match self.choose.below(16) {
                // More than there is, promised or not.
                0 => (len, prot) = (1 << 40, map::RW),
                1 => (len, prot) = (1 << 40, map::PROT_NONE),
                2 => (len, flags) = (1 << 40, flags | map::NORESERVE),
                3 => (len, flags) = (512 * PAGE, flags & !map::NORESERVE | HUGETLB),
                _ => {}
            }
            if len == 1 << 40 {
                flags &= !map::POPULATE;
            }
        }
        let what = (At(place), Len(len), Prot(prot));
        put!(self.out, "mmap {} {} {} {flags:#x}", what.0, what.1, what.2);
        let got = call(nr::MMAP, [place, len, prot, flags, usize::MAX, 0]);
        self.mapped(got, len);
    }

    fn map_file(&mut self, flags: usize) {
        let file = self.some_file();
        let (place, len, prot) = (self.choose.place(), self.choose.mapping(), self.prot());
        let offset = self.choose.offset();
        let what = (At(place), Len(len), Prot(prot));
        put!(
            self.out,
            "mmap {} {} {} {flags:#x} ",
            what.0,
            what.1,
            what.2
        );
        put!(self.out, "{}+{}", File(file), Len(offset));
        let fd = self.files.of[file] as usize;
        let got = call(nr::MMAP, [place, len, prot, flags, fd, offset]);
        self.mapped(got, len);
    }

    /// Writes down where a mapping came to lie, and takes it away if that is not in the arena.
    fn mapped(&mut self, got: isize, len: usize) {
        put!(self.out, " = {}", Place(got));
        if got > 0 && !in_arena(got as usize) {
            let got = call(nr::MUNMAP, [got as usize, len, 0, 0, 0, 0]);
            put!(self.out, " munmap {}", Answer(got));
        }
    }

    pub fn munmap(&mut self) {
        let (at, len) = (self.choose.tagged(), self.choose.len());
        let got = call(nr::MUNMAP, [at, len, 0, 0, 0, 0]);
        put!(self.out, "munmap {} {} = {}", At(at), Len(len), Answer(got));
    }

    pub fn mprotect(&mut self) {
        let (at, len) = (self.choose.tagged(), self.choose.len());
        let odd = if self.choose.chance(20) {
            self.choose.of(&ODD_RIGHTS)
        } else {
            0
        };
        let prot = self.prot() | odd;
        let got = call(nr::MPROTECT, [at, len, prot, 0, 0, 0]);
        let what = (At(at), Len(len), Prot(prot));
        put!(self.out, "mprotect {} {} {} = ", what.0, what.1, what.2);
        put!(self.out, "{}", Answer(got));
    }

    pub fn madvise(&mut self) {
        if self.choose.chance(16) {
            return self.free();
        }
        let advice = self.choose.of(&ADVICE);
        let (at, len) = self.range_that_may_wrap();
        let (at, len) = match advice {
            COLLAPSE if self.choose.chance(128) => (at & !((2 << 20) - 1), 2 << 20),
            _ => (at, len),
        };
        let got = call(nr::MADVISE, [at, len, advice, 0, 0, 0]);
        let got = Answer(got);
        put!(self.out, "madvise {} {} {advice} = {got}", At(at), Len(len));
    }

    /// Advice about everything else would hurt the program, so nothing that wraps begins there.
    fn range_that_may_wrap(&mut self) -> (usize, usize) {
        let len = self.choose.wrapping();
        match len > 1 << 32 {
            true => (self.choose.page(), len),
            false => (self.choose.tagged(), len),
        }
    }

    /// MADV_FREE, and then MADV_DONTNEED: the first alone lets the kernel choose the contents.
    fn free(&mut self) {
        let (at, len) = self.range_that_may_wrap();
        let answers = [FREE, map::MADV_DONTNEED].map(|advice| {
            let got = call(nr::MADVISE, [at, len, advice, 0, 0, 0]);
            Answer(got)
        });
        put!(self.out, "madvise {} {} 8,4 = ", At(at), Len(len));
        put!(self.out, "{},{}", answers[0], answers[1]);
    }

    pub fn brk(&mut self) {
        let wish = match self.choose.below(12) {
            0 => 0,
            1 => PAGE,
            2 => usize::MAX - PAGE,
            3 => 1 << 56,
            4..7 => self.heap + self.choose.below(24 * PAGE),
            _ => self.heap + self.choose.below(24) * PAGE,
        };
        let got = call(nr::BRK, [wish, 0, 0, 0, 0, 0]) as usize;
        let from = self.heap;
        let [wish, got] = [wish, got].map(|at| match at.checked_sub(from) {
            Some(by) if by < 1 << 32 => Len(by),
            _ => Len(at),
        });
        put!(self.out, "brk {wish} = {got}");
        self.touch_heap();
    }

    pub fn mremap(&mut self) {
        let flags = self.choose.of(&REMAPS);
        let (from, to) = (self.choose.place(), self.choose.place());
        let old = self.choose.len();
        let new = match self.choose.below(3) {
            0 => old,
            _ => self.choose.len(),
        };
        let what = (At(from), Len(old), Len(new));
        put!(
            self.out,
            "mremap {} {} {} {flags:#x}",
            what.0,
            what.1,
            what.2
        );
        if flags & (FIXED | DONTUNMAP) != 0 {
            put!(self.out, " {}", At(to));
        }
        let got = call(nr::MREMAP, [from, old, new, flags, to, 0]);
        if got > 0 && !in_arena(got as usize) {
            let (first, last) = (got as usize, got as usize + new.next_multiple_of(PAGE) - 1);
            let ends = [self.byte_at(first), self.byte_at(last)];
            put!(self.out, " holds {} {}", ends[0], ends[1]);
        }
        self.mapped(got, new);
    }
}
