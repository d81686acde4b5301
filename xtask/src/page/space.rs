//! The address space at the program's end: areas, and what is mapped in them.

use std::fmt;

use crate::control::Line;

const PAGE: u64 = 4096;

/// An area of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// First byte.
    pub start: u64,
    /// First byte behind it.
    pub end: u64,
    /// Rights, as the map shows them.
    pub rights: String,
    /// What it is, if it has a name.
    pub name: String,
    /// What is mapped in it.
    pub ranges: Vec<Range>,
}

/// How pages are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// One entry each.
    Page,
    /// Sixteen entries that are one translation.
    Contiguous,
    /// Entries of level 2 or 1.
    Block,
}

impl Size {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Page, Self::Contiguous, Self::Block];

    /// As a class of the style sheet.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Contiguous => "contiguous",
            Self::Block => "block",
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Page => "single pages",
            Self::Contiguous => "contiguous blocks of 64 KiB",
            Self::Block => "blocks of 2 MiB and more",
        })
    }
}

/// Pages that are mapped alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// First byte behind it.
    pub end: u64,
    /// How.
    pub size: Size,
    /// The kernel's words for it.
    pub words: String,
}

impl Area {
    /// Bytes mapped in it by entries of this size.
    #[must_use]
    pub fn mapped(&self, size: Size) -> u64 {
        let alike = self.ranges.iter().filter(|range| range.size == size);
        alike.map(|range| range.end - range.start).sum()
    }

    /// Bytes.
    #[must_use]
    pub fn span(&self) -> u64 {
        self.end - self.start
    }

    fn parse(text: &str) -> Option<Self> {
        let (range, rest) = text.split_once(' ')?;
        let (start, end) = addresses(range)?;
        let mut words = rest.split_ascii_whitespace();
        let rights = words.next()?.to_owned();
        // Offset, device, inode.
        let name = words.skip(3).collect::<Vec<_>>().join(" ");
        Some(Self {
            start,
            end,
            rights,
            name,
            ranges: Vec::new(),
        })
    }
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (range, rest) = text.trim_start().split_once(' ')?;
        let (start, end) = addresses(range)?;
        let words = rest.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let size = match () {
            () if words.contains("blocks") => Size::Block,
            () if words.contains("contiguous") => Size::Contiguous,
            () => Size::Page,
        };
        Some(Self {
            start,
            end,
            size,
            words,
        })
    }
}

fn addresses(range: &str) -> Option<(u64, u64)> {
    let (start, end) = range.split_once('-')?;
    let parse = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = (parse(start)?, parse(end)?);
    (start < end).then_some((start, end))
}

/// The space that the control lines of a run describe. Lines that do not say a range are left out:
/// the kernel's summary is one.
#[must_use]
pub fn of(lines: &[Line]) -> Vec<Area> {
    let texts = |event| {
        let alike = lines.iter().filter(move |line| line.event() == event);
        alike.filter_map(|line| line.get("text"))
    };
    let mut areas: Vec<_> = texts("area").filter_map(Area::parse).collect();
    areas.sort_by_key(|area| area.start);
    for range in texts("mapping").filter_map(Range::parse) {
        place(&mut areas, &range);
    }
    areas
}

/// Puts the parts of a range into the areas that they are in.
fn place(areas: &mut [Area], range: &Range) {
    let first = areas.partition_point(|area| area.end <= range.start);
    for area in &mut areas[first..] {
        if area.start >= range.end {
            break;
        }
        area.ranges.push(Range {
            start: range.start.max(area.start),
            end: range.end.min(area.end),
            ..range.clone()
        });
    }
}

/// Pages mapped in all areas by entries of this size.
#[must_use]
pub fn pages(areas: &[Area], size: Size) -> u64 {
    areas.iter().map(|area| area.mapped(size) / PAGE).sum()
}

/// A size for people: `64 KiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = units.iter().find(|(shift, _)| count >= 1 << shift);
    match fits {
        Some((shift, unit)) if count.is_multiple_of(1 << shift) => {
            format!("{} {unit}", count >> shift)
        }
        Some((shift, unit)) => format!("{:.1} {unit}", count as f64 / (1u64 << shift) as f64),
        None => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|text| Line::parse(text)).collect()
    }

    #[test]
    fn ranges_are_put_into_the_areas_that_they_are_in() {
        let areas = of(&lines(&[
            "area text=00400000-00600000 rw-p 00000000 00:00 0          [heap]",
            "area text=00200000-00214000 r--p 00000000 00:00 0          program",
            "area text=00214000-00216000 rw-p 00000000 00:00 0",
            "mapping text=0000000000212000-0000000000216000        16 KiB  r--u normal   L3 4 KiB pages",
            "mapping text=0000000000400000-0000000000420000       128 KiB  rw-u normal   L3 4 KiB pages contiguous",
            "mapping text=0000000000420000-0000000000600000       128 KiB  rw-u normal   L2 2 MiB blocks",
            "mapping text=ranges both writable and executable: 0",
        ]));
        let all: Vec<_> = areas
            .iter()
            .map(|area| (area.name.as_str(), Size::ALL.map(|size| area.mapped(size))))
            .collect();
        assert_eq!(
            all,
            [
                ("program", [0x2000, 0, 0]),
                ("", [0x2000, 0, 0]),
                ("[heap]", [0, 0x20000, 0x1e0000]),
            ]
        );
        assert_eq!(Size::ALL.map(|size| pages(&areas, size)), [4, 32, 480]);
        assert_eq!(areas[2].rights, "rw-p");
    }

    #[test]
    fn nonsense_is_left_out() {
        let wrong = [
            "area text=",
            "area text=5-4 rw-p",
            "area",
            "mapping text=x-y z",
            "area text=1-2",
        ];
        assert_eq!(of(&lines(&wrong)), []);
    }

    #[test]
    fn sizes_for_people() {
        let sizes = [5, 4096, 65536, 1 << 21, 3 << 30, 1536];
        let words = ["5 bytes", "4 KiB", "64 KiB", "2 MiB", "3 GiB", "1.5 KiB"];
        assert_eq!(sizes.map(bytes), words);
    }
}
