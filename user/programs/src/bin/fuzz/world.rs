//! What random arguments are made of: memory, handles and numbers that mean something.

use programs::memory::Area;
use programs::random::Random;
use programs::sys::{PAGE, map};

/// Memory whose mapping calls may change, for all threads of a process.
const PLAYGROUND: usize = 4 << 20;
/// Memory of each thread that stays, so that structures can be written to it.
const OWN: usize = 4 * PAGE;
/// Where in it structures begin that are written for one call: a time, a vector, a text.
const TIME: usize = 0;
const VECTORS: [usize; 2] = [64, 192];
const PATH: usize = 320;
const REGISTERS: usize = 512;
/// Where the rest begins.
const FREE: usize = PAGE;
/// Longest time that is waited, in nanoseconds.
const PATIENCE: u64 = 200_000;
/// Kinds of handles (`abi::Kind`), and further pools: of mappings, of objects with a pager.
const KINDS: usize = 8;
pub const MAPPINGS: usize = KINDS;
pub const PAGERS: usize = KINDS + 1;

/// Numbers that were answered lately.
#[derive(Clone, Copy, Debug, Default)]
struct Pool {
    numbers: [u64; 12],
    count: usize,
    next: usize,
}

impl Pool {
    fn put(&mut self, number: u64) {
        self.numbers[self.next] = number;
        self.next = (self.next + 1) % self.numbers.len();
        self.count = (self.count + 1).min(self.numbers.len());
    }

    /// Drops a number, if it is not the last.
    fn remove(&mut self, number: u64) {
        let known = &self.numbers[..self.count];
        if let Some(at) = known.iter().position(|&known| known == number)
            && self.count > 1
        {
            self.count -= 1;
            self.numbers.swap(at, self.count);
            self.next = self.count;
        }
    }
}

/// What a thread knows.
pub struct World {
    /// Its numbers.
    pub random: Random,
    /// Where the playground is.
    start: u64,
    own: Area,
    /// Where the heap ended when the threads began.
    heap: u64,
    pid: u64,
    meeting: u64,
    pools: [Pool; KINDS + 2],
    /// Whether the thread has received what wants an answer.
    pub owes: bool,
}

/// The playground: mapped, in whole blocks, with as much free space behind it.
pub fn playground() -> u64 {
    let area = Area::unmapped(3 * PLAYGROUND);
    let start = area.addr(0).next_multiple_of(PLAYGROUND / 2) - area.addr(0);
    area.map_over(start, PLAYGROUND, map::RW);
    let at = area.addr(start) as u64;
    // It stays for the life of the process.
    std::mem::forget(area);
    at
}

impl World {
    /// The world of a thread with its numbers, around a playground.
    pub fn new(random: Random, start: u64, heap: u64, meeting: u64) -> Self {
        let own = Area::new(OWN, map::RW);
        let pools = [Pool::default(); KINDS + 2];
        Self {
            random,
            start,
            own,
            heap,
            pid: programs::sys::gettid(),
            meeting,
            pools,
            owes: false,
        }
    }

    /// Notes a handle or a mapping, to be used again.
    pub fn learn(&mut self, kind: usize, number: u64) {
        if let Some(pool) = self.pools.get_mut(kind) {
            pool.put(number);
        }
    }

    /// Forgets a handle that is none any more.
    pub fn forget(&mut self, handle: u64) {
        self.pools[..KINDS]
            .iter_mut()
            .for_each(|pool| pool.remove(handle));
        self.pools[PAGERS].remove(handle);
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// One of these.
    pub fn one(&mut self, of: &[u64]) -> u64 {
        of[self.random.index(of.len())]
    }

    /// A handle of this kind that is known, or any.
    pub fn handle(&mut self, kind: abi::Kind) -> u64 {
        self.known(kind as usize)
    }

    /// An endpoint: mostly the one at which the threads of the process meet.
    pub fn endpoint(&mut self) -> u64 {
        match self.random.below(4) {
            0 => self.handle(abi::Kind::Endpoint),
            _ => self.meeting,
        }
    }

    /// A number from a pool, or any handle.
    pub fn known(&mut self, pool: usize) -> u64 {
        let pool = self.pools[pool];
        match self.random.below(16) {
            0 => self.any_handle(),
            _ if pool.count == 0 => self.any_handle(),
            _ => pool.numbers[self.random.index(pool.count)],
        }
    }

    /// Any handle.
    pub fn any_handle(&mut self) -> u64 {
        let pool = self.pools[self.random.index(KINDS)];
        match self.random.below(8) {
            0 => 3 + self.random.below(8),
            1 => abi::slot::FIRST + self.random.below(48),
            _ if pool.count > 0 => pool.numbers[self.random.index(pool.count)],
            _ => abi::slot::PROCESS,
        }
    }

    /// A descriptor, never one of the console's: whoever reads there waits for people.
    pub fn file(&mut self) -> u64 {
        let odd = [
            1 << 31,
            u32::MAX.into(),
            1000,
            1024,
            3 + self.random.below(60),
        ];
        match self.random.below(16) {
            0 => self.one(&odd),
            _ => self.handle(abi::Kind::Memory).max(3),
        }
    }

    /// Where a range begins whose mapping is changed.
    pub fn range(&mut self) -> u64 {
        let page = self.random.below((PLAYGROUND / PAGE) as u64);
        match self.random.below(16) {
            0 | 1 => self.start + page * PAGE as u64 + 1,
            2 => self.start,
            3 => self.start + PLAYGROUND as u64 / 2,
            // Most ranges are where others are, too.
            4..10 => self.start + page % 32 * PAGE as u64,
            _ => self.start + page * PAGE as u64,
        }
    }

    /// Bytes of a range.
    pub fn length(&mut self) -> u64 {
        let pages = 1 + self.random.below(16);
        match self.random.below(16) {
            0 => PLAYGROUND as u64 / 2 * (pages % 3),
            1 => pages * 64 * 1024 / 4,
            2 => self.random.below(PLAYGROUND as u64),
            3 => u64::MAX - pages * PAGE as u64,
            _ => pages * PAGE as u64,
        }
    }

    /// Bytes to be copied, or a place in a file.
    pub fn size(&mut self) -> u64 {
        match self.random.below(16) {
            0 => 0,
            1 => self.one(&[1 << 40, i64::MAX as u64, u64::MAX, 1 << 63, 1 << 32]),
            2..6 => self.random.below(64) * PAGE as u64,
            6 | 7 => self.random.below(64 * PAGE as u64),
            _ => self.random.below(256),
        }
    }

    /// An address to read or to write at.
    pub fn address(&mut self) -> u64 {
        let tag = if self.random.chance(4) { 0xa << 56 } else { 0 };
        tag | match self.random.below(8) {
            0..4 => self.own.addr(FREE + self.random.index(OWN - FREE)) as u64 & !7,
            4 => self.start + self.random.below(PLAYGROUND as u64),
            5 => self.range() + PAGE as u64 - self.random.below(64),
            6 => self.range(),
            _ => self.start + self.random.below(1024) * 8,
        }
    }

    /// The address of a word at which threads meet.
    pub fn word(&mut self) -> u64 {
        match self.random.below(8) {
            0 => self.address(),
            1 => self.own.addr(FREE) as u64 + 4 * self.random.below(16),
            _ => self.start + 4 * self.random.below(8),
        }
    }

    /// A number that means nothing here.
    pub fn odd(&mut self) -> u64 {
        let word = self.random.next_u64();
        let near = self.random.below(3).wrapping_sub(1);
        match self.random.below(8) {
            0 => near,
            1 => (1 << (word % 64)) + near % 2,
            2 => (1u64 << (word % 64)).wrapping_sub(1),
            3 => u64::MAX - word % 4096,
            4 => 0xffff_0000_0000_0000 | word >> 16,
            5 => (1u64 << 48).wrapping_add(near),
            6 => word % 16,
            // Far from every mapping.
            _ => word | 1 << 60,
        }
    }

    /// The end of the heap, never below where it was.
    pub fn heap(&mut self) -> u64 {
        match self.random.below(4) {
            0 => 0,
            _ => self.heap + self.random.below(32 * PAGE as u64),
        }
    }

    /// The number of a thread, or of the process.
    pub fn tid(&mut self) -> u64 {
        match self.random.below(4) {
            0 => 0,
            _ => self.pid + self.random.below(6),
        }
    }

    /// A time-out in nanoseconds.
    pub fn patience(&mut self) -> u64 {
        self.random.below(PATIENCE)
    }

    /// The address of a short time, or of one that is refused; never of none at all.
    pub fn time(&mut self) -> u64 {
        let seconds = if self.random.chance(12) { u64::MAX } else { 0 };
        let nanoseconds = match self.random.below(32) {
            0 => 1_000_000_000,
            _ => self.random.below(PATIENCE),
        };
        self.own.set_u64(TIME, seconds);
        self.own.set_u64(TIME + 8, nanoseconds);
        self.own.addr(TIME) as u64
    }

    /// The address of a vector of eight ranges; `which` of two.
    pub fn vector(&mut self, which: usize) -> u64 {
        for at in (0..128).step_by(16) {
            let (address, len) = (self.address(), self.size());
            self.own.set_u64(VECTORS[which] + at, address);
            self.own.set_u64(VECTORS[which] + at + 8, len);
        }
        self.own.addr(VECTORS[which]) as u64
    }

    /// The address of a path: of the process's maps, or of nothing.
    pub fn path(&mut self) -> u64 {
        let path = self.one(&[u64::from_le_bytes(*b"/proc/se"), 0x2f]);
        let words = [path, u64::from_le_bytes(*b"lf/maps\0"), 0];
        for (word, at) in words.into_iter().zip((PATH..).step_by(8)) {
            self.own.set_u64(at, word);
        }
        self.own.addr(PATH) as u64
    }

    /// The address of general registers with which a thread may go on: not for long.
    pub fn registers(&mut self, pc: u64) -> u64 {
        for at in 0..34 {
            let word = match self.random.below(4) {
                0 => self.odd(),
                _ => self.address(),
            };
            self.own.set_u64(REGISTERS + 8 * at, word);
        }
        let pc = match self.random.below(16) {
            0 => self.address(),
            _ => pc,
        };
        self.own.set_u64(REGISTERS + 8 * 32, pc);
        if !self.random.chance(64) {
            self.own.set_u64(REGISTERS + 8 * 33, 0);
        }
        self.own.addr(REGISTERS) as u64
    }

    /// Writes a few words that may be a structure to where addresses point.
    pub fn stir(&mut self) {
        let at = FREE + self.random.index(OWN - FREE - 64);
        for word in 0..8 {
            let value = match self.random.below(4) {
                0 => self.odd(),
                1 => self.random.below(64),
                2 => self.address(),
                _ => 0,
            };
            self.own.set_u64((at & !7) + 8 * word, value);
        }
    }

    /// Maps the playground anew.
    pub fn refresh(&self) -> [usize; 6] {
        let flags = map::PRIVATE | map::ANONYMOUS | map::FIXED;
        [
            self.start as usize,
            PLAYGROUND,
            map::RW,
            flags,
            usize::MAX,
            0,
        ]
    }
}
