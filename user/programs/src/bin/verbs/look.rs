//! The arena's part of /proc/self/maps.

use crate::arena::{At, END, MARGIN, START, call};
use crate::out::Out;
use crate::put;
use crate::touch::Hash;
use programs::sys::{PAGE, nr};
use std::fmt::{self, Display, Formatter};

const MOST: usize = 1024;
const AT_FDCWD: usize = -100isize as usize;

/// One range of the map, as it stands there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Range {
    start: usize,
    end: usize,
    rights: [u8; 4],
    offset: usize,
    /// Device and inode, which tell objects apart; never written down.
    object: (u32, u64),
}

/// The ranges of the arena, and the text they come from.
pub struct Maps {
    text: [u8; 1 << 17],
    ranges: [Range; MOST],
    count: usize,
    /// The answer of the kernel, if there is no map.
    error: isize,
}

const NOTHING: Range = Range {
    start: 0,
    end: 0,
    rights: *b"----",
    offset: 0,
    object: (0, 0),
};

impl Maps {
    pub const fn new() -> Self {
        Self {
            text: [0; 1 << 17],
            ranges: [NOTHING; MOST],
            count: 0,
            error: 0,
        }
    }

    /// Reads the map again.
    pub fn read(&mut self) {
        self.count = 0;
        let path = c"/proc/self/maps".as_ptr() as usize;
        self.error = call(nr::OPENAT, [AT_FDCWD, path, 0, 0, 0, 0]);
        if self.error < 0 {
            return;
        }
        let file = self.error as usize;
        let mut used = 0;
        loop {
            let rest = &mut self.text[used..];
            let args = [file, rest.as_mut_ptr() as usize, rest.len(), 0, 0, 0];
            match call(nr::READ, args) {
                got if got > 0 => used += got as usize,
                got => break self.error = got,
            }
        }
        let _ = call(nr::CLOSE, [file, 0, 0, 0, 0, 0]);
        for line in self.text[..used].split(|byte| *byte == b'\n') {
            if let Some(range) = parse(line).filter(|range| range.is_of_arena())
                && self.count < MOST
            {
                self.ranges[self.count] = range;
                self.count += 1;
            }
        }
    }

    fn ranges(&self) -> &[Range] {
        &self.ranges[..self.count]
    }

    /// Whether a page can be read.
    pub fn readable(&self, at: usize) -> bool {
        let covers = |range: &&Range| range.start <= at && at < range.end;
        let range = self.ranges().iter().find(covers);
        range.is_some_and(|range| range.rights[0] == b'r')
    }

    /// Writes all ranges, one a line; a star where one could be one with the next.
    pub fn list(&self, out: &mut Out) {
        for (at, range) in self.ranges().iter().enumerate() {
            let next = self.ranges().get(at + 1);
            let joint = next.is_some_and(|next| range.continues(next));
            put!(out, "  {range}{}\n", if joint { " *" } else { "" });
        }
    }
}

/// Number of ranges and their hash; then the same after ranges that could be one have been joined.
impl Display for Maps {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        if self.error < 0 {
            return write!(to, "no map");
        }
        let (mut all, mut joined, mut count) = (Hash::new(), Hash::new(), 0);
        let mut previous: Option<&Range> = None;
        for range in self.ranges() {
            range.hash(&mut all, true);
            let joint = previous.is_some_and(|previous| previous.continues(range));
            if !joint {
                count += 1;
                previous
                    .iter()
                    .for_each(|previous| joined.add(&previous.end.to_le_bytes()));
                range.hash(&mut joined, false);
            }
            previous = Some(range);
        }
        previous
            .iter()
            .for_each(|previous| joined.add(&previous.end.to_le_bytes()));
        write!(to, "{} {:08x} {count} {:08x}", self.count, all.0, joined.0)
    }
}

impl Range {
    fn is_of_arena(&self) -> bool {
        self.end > START - MARGIN && self.start < END + MARGIN
    }

    /// Whether nothing but the kernel's own knowledge separates the two.
    fn continues(&self, next: &Self) -> bool {
        let offset = match self.object {
            (0, 0) => 0,
            _ => self.offset + (next.start - self.start),
        };
        self.end == next.start
            && self.rights == next.rights
            && self.object == next.object
            && next.offset == offset
    }

    fn hash(&self, hash: &mut Hash, whole: bool) {
        hash.add(&self.start.to_le_bytes());
        hash.add(&self.rights);
        hash.add(&self.offset.to_le_bytes());
        if whole {
            hash.add(&self.end.to_le_bytes());
        }
    }
}

impl Display for Range {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let rights = std::str::from_utf8(&self.rights).unwrap_or("????");
        write!(to, "{} {} {rights}", At(self.start), At(self.end))?;
        match self.object {
            (0, 0) => Ok(()),
            _ => write!(to, " {}", self.offset / PAGE),
        }
    }
}

/// A line: `start-end rights offset major:minor inode name`, numbers hexadecimal but the inode.
fn parse(line: &[u8]) -> Option<Range> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let number = |text: &str| usize::from_str_radix(text, 16).ok();
    let (start, end) = words.next()?.split_once('-')?;
    let rights = words.next()?.as_bytes().try_into().ok()?;
    let offset = number(words.next()?)?;
    let (major, minor) = words.next()?.split_once(':')?;
    let device = (number(major)? as u32) << 20 | number(minor)? as u32;
    Some(Range {
        start: number(start)?,
        end: number(end)?,
        rights,
        offset,
        object: (device, words.next()?.parse().ok()?),
    })
}
