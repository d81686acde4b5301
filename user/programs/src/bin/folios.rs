//! Memory in aligned blocks of 64 KiB whose parts are protected, unmapped, moved and mapped again:
//! `folios [STEPS] [SEED]`.
//!
//! A kernel that maps such blocks by larger translations has to take them apart and put them
//! together behind the program's back; contents and rights must be as if there were pages only. Each
//! thread compares its own blocks with a model, and all write to blocks that they share.

use programs::memory::{Area, readable, writable};
use programs::random::Random;
use programs::sys::{PAGE, map};
use programs::{check, require, require_result};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Pages of a block.
const BLOCK: usize = 16;
const BLOCKS: usize = 8;
const PAGES: usize = BLOCK * BLOCKS;

fn main() {
    check::start("folios");
    let steps = check::number_argument(1, 1_500);
    let seed = check::number_argument(2, 1);
    check::section(10, "a block whose parts change one after another");
    each_part_of_a_block();
    check::section(11, "a block that several threads write");
    shared_block();
    check::section(12, "random changes against a model");
    let threads = thread::available_parallelism().map_or(2, |n| n.get().max(2)) as u64;
    thread::scope(|scope| {
        for number in 0..threads {
            scope.spawn(move || storm(steps, seed * 1000 + number));
        }
    });
    check::pass();
}

/// Bytes of `pages` whole blocks that begin at a multiple of their size.
struct Blocks {
    area: Area,
    /// Offset of the first block in the area.
    start: usize,
}

impl Blocks {
    fn new(pages: usize) -> Self {
        let area = Area::unmapped((pages + BLOCK) * PAGE);
        let start = area.addr(0).next_multiple_of(BLOCK * PAGE) - area.addr(0);
        let blocks = Self { area, start };
        blocks.map(0, pages);
        blocks
    }

    fn at(&self, page: usize) -> usize {
        self.start + page * PAGE
    }

    fn map(&self, page: usize, count: usize) {
        let got = self.area.map_over(self.at(page), count * PAGE, map::RW);
        require_result!(got, self.area.addr(self.at(page)) as isize, "mmap");
    }

    fn protect(&self, page: usize, count: usize, prot: usize) {
        let got = self.area.protect(self.at(page), count * PAGE, prot);
        require_result!(got, 0, "mprotect");
    }

    fn unmap(&self, page: usize, count: usize) {
        let got = self.area.unmap(self.at(page), count * PAGE);
        require_result!(got, 0, "munmap");
    }

    fn get(&self, page: usize) -> u64 {
        self.area.get_u64(self.at(page) + 8 * (page % 512))
    }

    fn set(&self, page: usize, value: u64) {
        self.area.set_u64(self.at(page) + 8 * (page % 512), value);
    }

    /// Whether the program may read, and write, the page. What was written is written again.
    fn may(&self, page: usize, value: u64) -> (bool, bool) {
        let read = readable(self.area.addr(self.at(page)));
        let write = writable(&self.area, self.at(page));
        if write {
            self.area.set(self.at(page), 0);
            self.set(page, value);
        }
        (read, write)
    }
}

fn each_part_of_a_block() {
    for page in 0..BLOCK {
        let blocks = Blocks::new(BLOCK);
        for at in 0..BLOCK {
            require!(blocks.get(at) == 0, "page {at} is not zero");
            blocks.set(at, at as u64 + 1);
        }
        let expect = |odd: (bool, bool), what| {
            for at in 0..BLOCK {
                let wanted = if at == page { odd } else { (true, true) };
                let got = blocks.may(at, at as u64 + 1);
                require!(got == wanted, "{what} {page}: page {at} is {got:?}");
                if got.0 {
                    require!(blocks.get(at) == at as u64 + 1, "{what} {page}: page {at}");
                }
            }
        };
        blocks.protect(page, 1, map::PROT_READ);
        expect((true, false), "protected");
        blocks.protect(page, 1, map::PROT_NONE);
        expect((false, false), "without access");
        blocks.protect(0, BLOCK, map::RW);
        expect((true, true), "all alike");
        blocks.unmap(page, 1);
        expect((false, false), "unmapped");
        blocks.map(page, 1);
        require!(blocks.get(page) == 0, "page {page} mapped anew is not zero");
        blocks.set(page, page as u64 + 1);
        expect((true, true), "mapped anew");
    }
}

/// Each thread writes pages of its own in one block while another one changes a page that nobody
/// writes.
fn shared_block() {
    const WRITERS: usize = 3;
    let (blocks, stop) = (Blocks::new(BLOCK), AtomicBool::new(false));
    let start = Barrier::new(WRITERS + 1);
    thread::scope(|scope| {
        for number in 0..WRITERS {
            let (blocks, stop, start) = (&blocks, &stop, &start);
            scope.spawn(move || {
                start.wait();
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) || round < 100 {
                    for page in (0..BLOCK - 1).filter(|page| page % WRITERS == number) {
                        require!(blocks.get(page) == round, "page {page}, round {round}");
                        blocks.set(page, round + 1);
                    }
                    round += 1;
                    thread::yield_now();
                }
            });
        }
        start.wait();
        for round in 0..200 {
            blocks.protect(BLOCK - 1, 1, map::PROT_READ);
            blocks.protect(BLOCK - 1, 1, map::RW);
            blocks.set(BLOCK - 1, round);
            require!(blocks.get(BLOCK - 1) == round, "the page that changes");
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// A page as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    prot: usize,
    value: u64,
}

struct Model {
    blocks: Blocks,
    pages: [Option<Page>; PAGES],
    random: Random,
}

fn storm(steps: u64, seed: u64) {
    let fresh = Some(Page {
        prot: map::RW,
        value: 0,
    });
    let mut model = Model {
        blocks: Blocks::new(PAGES),
        pages: [fresh; PAGES],
        random: Random::new(seed),
    };
    for step in 1..=steps {
        model.step();
        if step % 64 == 0 {
            model.compare(step);
        }
    }
    model.compare(steps);
}

impl Model {
    fn step(&mut self) {
        match self.random.below(16) {
            0..=1 => self.map_blocks(),
            2 => self.unmap(),
            3..=4 => self.protect_part(),
            5..=6 => self.protect_blocks(),
            7 => self.move_page(),
            8 => self.discard(),
            _ => self.write(),
        }
    }

    /// A part of a few pages.
    fn part(&mut self) -> (usize, usize) {
        let first = self.random.index(PAGES);
        (first, 1 + self.random.index((PAGES - first).min(BLOCK + 4)))
    }

    /// One or two whole blocks.
    fn whole(&mut self) -> (usize, usize) {
        let first = self.random.index(BLOCKS - 1);
        (first * BLOCK, (1 + self.random.index(2)) * BLOCK)
    }

    fn map_blocks(&mut self) {
        let (first, count) = self.whole();
        self.blocks.map(first, count);
        let fresh = Page {
            prot: map::RW,
            value: 0,
        };
        self.pages[first..first + count].fill(Some(fresh));
    }

    fn unmap(&mut self) {
        let (first, count) = self.part();
        self.blocks.unmap(first, count);
        self.pages[first..first + count].fill(None);
    }

    fn protect(&mut self, first: usize, count: usize) {
        let prots = [map::RW, map::RW, map::PROT_READ, map::PROT_NONE];
        let prot = prots[self.random.index(prots.len())];
        // With a hole the answer would be ENOMEM, with the pages before it changed.
        let part = &mut self.pages[first..first + count];
        if part.iter().all(Option::is_some) {
            part.iter_mut().flatten().for_each(|page| page.prot = prot);
            self.blocks.protect(first, count, prot);
        }
    }

    fn protect_part(&mut self) {
        let (first, count) = self.part();
        self.protect(first, count);
    }

    fn protect_blocks(&mut self) {
        let (first, count) = self.whole();
        self.protect(first, count);
    }

    /// One page moves over another one: a part of one block into another block.
    fn move_page(&mut self) {
        let (from, to) = (self.random.index(PAGES), self.random.index(PAGES));
        if from == to || self.pages[from].is_none() {
            return;
        }
        let (old, new) = (self.blocks.at(from), self.blocks.at(to));
        let got = self.blocks.area.remap(old, PAGE, new, PAGE);
        require_result!(got, self.blocks.area.addr(new) as isize, "mremap");
        // The value stands where the page's number says: read it there before it is written anew.
        if let Some(page) = &mut self.pages[from] {
            if page.prot & map::PROT_READ != 0 {
                let moved = self.blocks.area.get_u64(new + 8 * (from % 512));
                require!(moved == page.value, "page {from} moved to {to}");
            }
            page.value = 0;
        }
        self.pages[to] = self.pages[from].take();
        self.clear(to, from);
    }

    /// Makes a moved page look like one of its new place.
    fn clear(&mut self, page: usize, came_from: usize) {
        let offset = self.blocks.at(page);
        let Some(entry) = &mut self.pages[page] else {
            return;
        };
        if entry.prot != map::RW {
            self.blocks.protect(page, 1, map::RW);
            entry.prot = map::RW;
        }
        self.blocks.area.set_u64(offset + 8 * (came_from % 512), 0);
        self.blocks.set(page, entry.value);
    }

    fn discard(&mut self) {
        let (first, count) = self.part();
        let part = &mut self.pages[first..first + count];
        if part.iter().all(Option::is_some) {
            part.iter_mut().flatten().for_each(|page| page.value = 0);
            let at = self.blocks.at(first);
            let advice = map::MADV_DONTNEED;
            let got = self.blocks.area.advise(at, count * PAGE, advice);
            require_result!(got, 0, "madvise");
        }
    }

    fn write(&mut self) {
        let (page, value) = (self.random.index(PAGES), self.random.next_u64());
        if let Some(entry) = self.pages[page]
            .as_mut()
            .filter(|page| page.prot == map::RW)
        {
            entry.value = value;
            self.blocks.set(page, value);
        }
    }

    fn compare(&self, step: u64) {
        for (page, entry) in self.pages.iter().enumerate() {
            let may = entry.is_some_and(|entry| entry.prot & map::PROT_READ != 0);
            let can = readable(self.blocks.area.addr(self.blocks.at(page)));
            require!(can == may, "step {step}: page {page} readable: {can}");
            if let Some(entry) = entry.filter(|_| may) {
                let got = self.blocks.get(page);
                require!(
                    got == entry.value,
                    "step {step}: page {page} holds {got:#x}"
                );
            }
        }
    }
}
