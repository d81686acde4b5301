//! A simple model of a range of mappings, and random operations on both.
//!
//! The model is one record per page: mapped or not, with which protection, with which contents.
//! Every operation is done to the kernel and to the model, and the answers must be equal; now and
//! then every page is compared. Where Linux's answer depends on how it has split or merged
//! mappings inside, the operation is not tried.

use crate::memory::{Area, readable, writable};
use crate::random::Random;
use crate::sys::{PAGE, errno, map};
use crate::{require, require_result};

/// One mapped page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    prot: usize,
    value: u64,
}

/// A range of addresses with the record of what must be there.
#[derive(Debug)]
pub struct Model {
    area: Area,
    pages: Vec<Option<Page>>,
    random: Random,
    /// Operations done, for messages.
    done: u64,
}

const PROTS: [usize; 5] = [map::RW, map::RW, map::PROT_READ, map::RX, map::PROT_NONE];
/// Where in a page its value stands: both ends and somewhere in between.
const PLACES: [usize; 3] = [0, 1032, PAGE - 8];

impl Model {
    /// A range of `pages` pages with nothing mapped.
    pub fn new(pages: usize, seed: u64) -> Self {
        let area = Area::unmapped(pages * PAGE);
        Self {
            area,
            pages: vec![None; pages],
            random: Random::new(seed),
            done: 0,
        }
    }

    /// A random part: the first page and a length of at least one page.
    fn part(&mut self) -> (usize, usize) {
        let start = self.random.index(self.pages.len());
        let longest = (self.pages.len() - start).min(12);
        (start, 1 + self.random.index(longest))
    }

    fn prot(&mut self) -> usize {
        PROTS[self.random.index(PROTS.len())]
    }

    /// Does one random operation and compares the answers.
    pub fn step(&mut self) {
        self.done += 1;
        match self.random.below(16) {
            0..=2 => self.map_over(),
            3 => self.map_if_free(),
            4..=5 => self.unmap(),
            6..=8 => self.protect(),
            9 => self.discard(),
            10 => self.remap(),
            11 => self.grow(),
            _ => self.write(),
        }
    }

    fn map_over(&mut self) {
        let ((start, len), prot) = (self.part(), self.prot());
        let got = self.area.map_over(start * PAGE, len * PAGE, prot);
        require_result!(
            got,
            self.area.addr(start * PAGE) as isize,
            "mmap, step {}",
            self.done
        );
        self.pages[start..start + len].fill(Some(Page { prot, value: 0 }));
    }

    fn map_if_free(&mut self) {
        let ((start, len), prot) = (self.part(), self.prot());
        let flags = map::PRIVATE | map::ANONYMOUS | map::FIXED_NOREPLACE;
        let got = self.area.map_raw(start * PAGE, len * PAGE, prot, flags);
        let part = &mut self.pages[start..start + len];
        if part.iter().all(Option::is_none) {
            part.fill(Some(Page { prot, value: 0 }));
            let expected = self.area.addr(start * PAGE) as isize;
            require_result!(got, expected, "mmap NOREPLACE, step {}", self.done);
        } else {
            require_result!(got, -errno::EEXIST, "mmap NOREPLACE, step {}", self.done);
        }
    }

    fn unmap(&mut self) {
        let (start, len) = self.part();
        let got = self.area.unmap(start * PAGE, len * PAGE);
        require_result!(got, 0, "munmap, step {}", self.done);
        self.pages[start..start + len].fill(None);
    }

    /// The pages up to the first hole get the new protection, also when there is a hole.
    fn protect(&mut self) {
        let ((start, len), prot) = (self.part(), self.prot());
        let got = self.area.protect(start * PAGE, len * PAGE, prot);
        let part = &mut self.pages[start..start + len];
        let before_hole = part.iter().position(Option::is_none).unwrap_or(len);
        part[..before_hole]
            .iter_mut()
            .flatten()
            .for_each(|page| page.prot = prot);
        let expected = if before_hole == len {
            0
        } else {
            -errno::ENOMEM
        };
        require_result!(got, expected, "mprotect, step {}", self.done);
    }

    /// All mapped pages lose their contents, also when there is a hole.
    fn discard(&mut self) {
        let (start, len) = self.part();
        let got = self
            .area
            .advise(start * PAGE, len * PAGE, map::MADV_DONTNEED);
        let part = &mut self.pages[start..start + len];
        let expected = if part.iter().any(Option::is_none) {
            -errno::ENOMEM
        } else {
            0
        };
        part.iter_mut().flatten().for_each(|page| page.value = 0);
        require_result!(got, expected, "madvise DONTNEED, step {}", self.done);
    }

    /// Moves one page over others and lets it grow; a single page is never in two mappings.
    fn remap(&mut self) {
        let (from, (to, len)) = (self.random.index(self.pages.len()), self.part());
        let got = self.area.remap(from * PAGE, PAGE, to * PAGE, len * PAGE);
        let what = "mremap FIXED";
        if self.pages[from].is_none() && (to..to + len).contains(&from) {
            // Which of the two is said depends on Linux's version: 6.12 says the first.
            let either = got == -errno::EFAULT || got == -errno::EINVAL;
            require!(either, "{what} of a hole on itself, step {}", self.done);
        } else if self.pages[from].is_none() {
            require_result!(got, -errno::EFAULT, "{what} of a hole, step {}", self.done);
        } else if (to..to + len).contains(&from) {
            require_result!(got, -errno::EINVAL, "{what} on itself, step {}", self.done);
        } else if let Some(page) = self.pages[from].take() {
            let expected = self.area.addr(to * PAGE) as isize;
            require_result!(got, expected, "{what}, step {}", self.done);
            self.pages[to..to + len].fill(Some(Page { value: 0, ..page }));
            self.pages[to] = Some(page);
        }
    }

    /// Grows one page in place, which needs free addresses behind it.
    fn grow(&mut self) {
        let (start, len) = self.part();
        let len = len.max(2);
        if start + len > self.pages.len() {
            return;
        }
        let got = self.area.resize(start * PAGE, PAGE, len * PAGE);
        let (page, behind) = self.pages[start..start + len]
            .split_first_mut()
            .expect("len > 1");
        let expected = match page {
            None => -errno::EFAULT,
            Some(_) if behind.iter().any(Option::is_some) => -errno::ENOMEM,
            Some(page) => {
                behind.fill(Some(Page { value: 0, ..*page }));
                self.area.addr(start * PAGE) as isize
            }
        };
        require_result!(got, expected, "mremap in place, step {}", self.done);
    }

    fn write(&mut self) {
        let at = self.random.index(self.pages.len());
        let value = self.random.next_u64();
        if let Some(page) = &mut self.pages[at]
            && page.prot & map::PROT_WRITE != 0
        {
            page.value = value;
            PLACES
                .iter()
                .for_each(|place| self.area.set_u64(at * PAGE + place, value));
        }
    }

    /// Compares every page with the model; with `writes`, also asks the kernel whether it could
    /// write there, which is slower.
    pub fn check(&mut self, writes: bool) {
        for at in 0..self.pages.len() {
            let offset = at * PAGE;
            let page = self.pages[at];
            let may_read = page.is_some_and(|page| page.prot & map::PROT_READ != 0);
            let can_read = readable(self.area.addr(offset));
            require!(
                can_read == may_read,
                "page {at} readable: {can_read}, {}",
                self.state(at)
            );
            if let Some(page) = page.filter(|_| may_read) {
                let wrong = PLACES
                    .iter()
                    .find(|p| self.area.get_u64(offset + *p) != page.value);
                require!(
                    wrong.is_none(),
                    "page {at} differs at {wrong:?}, {}",
                    self.state(at)
                );
            }
            if writes {
                self.check_write(at, page);
            }
        }
    }

    fn check_write(&mut self, at: usize, page: Option<Page>) {
        let may_write = page.is_some_and(|page| page.prot & map::PROT_WRITE != 0);
        let can_write = writable(&self.area, at * PAGE);
        require!(
            can_write == may_write,
            "page {at} writable: {can_write}, {}",
            self.state(at)
        );
        if let Some(page) = page.filter(|_| can_write) {
            self.area.set_u64(at * PAGE, page.value);
        }
    }

    fn state(&self, at: usize) -> String {
        format!(
            "the model says {:x?} after {} steps",
            self.pages[at], self.done
        )
    }
}
