//! Reading the kernel's texts: groups of lines, walks, counters.
//!
//! The texts are meant for people and may change, so nothing here relies on more than their
//! shape: an unindented line opens a group, a line that names a level belongs to a walk, and
//! counters are numbers in JSON. What is not recognised is shown as it is.

use crate::text;

/// What a group of lines of the boot report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// CPUs, features, and everything else.
    Machine,
    /// RAM banks, reservations, image sections, free memory.
    Memory,
    /// Page tables, by level and by space.
    Tables,
}

/// The topic of a group by its first line.
fn topic(line: &str) -> Topic {
    let line = line.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
    if line.starts_with("cpu") || line.starts_with("feature") {
        Topic::Machine
    } else if has(&["table", "adopted", "constructed", "root", "ttbr", "level"]) {
        Topic::Tables
    } else if has(&["ram", "bank", "taken", "reserved", "image", "section"])
        || has(&["memory", "frame", "heap", "window", "map"])
    {
        Topic::Memory
    } else {
        Topic::Machine
    }
}

/// The lines of `report` which belong to `wanted`. Indented and empty lines go with the line that
/// opened their group, so that every line belongs to exactly one topic.
pub fn lines_about(report: &str, wanted: Topic) -> Vec<&str> {
    let mut current = Topic::Machine;
    let mut found = Vec::new();
    for line in report.lines() {
        let opens = !line.is_empty() && !line.starts_with([' ', '\t']);
        if opens {
            current = topic(line);
        }
        if current == wanted && !line.trim().is_empty() {
            found.push(line);
        }
    }
    found
}

/// The level that a line of a walk is about, as `L2`, with the rest of the line; `None` for a line
/// that names no level at its start.
fn level(line: &str) -> Option<(String, &str)> {
    let line = line.trim_start();
    let lower = line.get(..5).map(str::to_lowercase);
    let rest = match lower.as_deref() {
        Some("level") => line[5..].trim_start_matches([' ', '=']),
        _ => line.strip_prefix(['L', 'l'])?,
    };
    let digits = rest.strip_prefix(['-', 'm']).unwrap_or(rest);
    let number = digits.chars().next().filter(char::is_ascii_digit)?;
    let after = &digits[1..];
    if after.starts_with(|c: char| c.is_alphanumeric()) {
        return None;
    }
    let sign = if digits.len() < rest.len() { "-" } else { "" };
    Some((
        format!("L{sign}{number}"),
        after.trim_start_matches([':', '=']).trim(),
    ))
}

/// Draws a report about a fault: lines about a level become boxes joined by arrows, in the order
/// of the walk, and everything else stays text.
pub fn draw_walk(report: &str) -> String {
    let mut drawn = String::new();
    let mut walking = false;
    for line in report.lines().filter(|line| !line.trim().is_empty()) {
        let line = text::clean(line);
        match level(&line) {
            Some((name, rest)) => {
                if walking {
                    drawn.push_str(text::ARROW);
                }
                drawn.push_str(&text::boxed(&format!(" {name} "), rest));
                walking = true;
            }
            None => {
                drawn.push_str(if walking { "\n" } else { "" });
                drawn.push_str(&text::quoted([line.as_str()]));
                walking = false;
            }
        }
    }
    drawn
}

/// Of the lines of a map that name a range of addresses: how many there are, and how many of them
/// are both writable and executable.
pub fn count_ranges(map: &str) -> (usize, usize) {
    let ranges = map.lines().filter(|line| is_range(line));
    ranges.fold((0, 0), |(all, both), line| {
        (
            all + 1,
            both + usize::from(is_writable_and_executable(line)),
        )
    })
}

/// Whether a line starts with two hexadecimal addresses.
fn is_range(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    let hexadecimal = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_hexdigit());
    first
        .split_once('-')
        .is_some_and(|(start, end)| hexadecimal(start) && hexadecimal(end))
}

/// Whether the letters for the protection, close to the start of the line, have both.
fn is_writable_and_executable(line: &str) -> bool {
    line.split_whitespace().skip(1).take(3).any(|word| {
        (3..=5).contains(&word.len())
            && word.chars().all(|letter| "rwxups-".contains(letter))
            && word.contains('w')
            && word.contains('x')
    })
}

/// Every number in a JSON text, with the path of names that leads to it, in order. Text that is
/// not JSON gives what can be read of it.
pub fn numbers(json: &str) -> Vec<(String, i128)> {
    let mut reader = Reader {
        rest: json.as_bytes(),
        found: Vec::new(),
    };
    reader.value(&mut Vec::new());
    reader.found
}

/// How deep [`numbers`] follows nested objects.
const DEEPEST: usize = 32;

struct Reader<'a> {
    rest: &'a [u8],
    found: Vec<(String, i128)>,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<u8> {
        while let [b' ' | b'\n' | b'\r' | b'\t' | b',' | b':', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied()
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> String {
        let len = self
            .rest
            .iter()
            .position(|b| !wanted(*b))
            .unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        String::from_utf8_lossy(taken).into_owned()
    }

    /// A string without its quotes; escapes stay as they are, and hide the quote they escape.
    fn string(&mut self) -> String {
        self.rest = &self.rest[1..];
        let mut escaped = false;
        let end = self.rest.iter().position(|b| {
            let closes = *b == b'"' && !escaped;
            escaped = *b == b'\\' && !escaped;
            closes
        });
        let end = end.unwrap_or(self.rest.len());
        let taken = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        self.rest = self.rest.get(end + 1..).unwrap_or(&[]);
        taken
    }

    fn value(&mut self, path: &mut Vec<String>) {
        match self.peek() {
            Some(open @ (b'{' | b'[')) if path.len() < DEEPEST => self.members(open, path),
            Some(b'"') => drop(self.string()),
            Some(b'-' | b'0'..=b'9') => {
                let word = self.take_while(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
                if let Ok(number) = word.parse() {
                    self.found.push((path.join("."), number));
                }
            }
            Some(b) if b.is_ascii_alphabetic() => {
                drop(self.take_while(|b| b.is_ascii_alphabetic()))
            }
            Some(_) => self.rest = &self.rest[1..],
            None => {}
        }
    }

    fn members(&mut self, open: u8, path: &mut Vec<String>) {
        self.rest = &self.rest[1..];
        let mut index = 0;
        while let Some(next) = self.peek() {
            if next == b'}' || next == b']' {
                self.rest = &self.rest[1..];
                return;
            }
            let name = match open {
                b'{' if next == b'"' => self.string(),
                _ => index.to_string(),
            };
            path.push(name);
            self.value(path);
            path.pop();
            index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "cpu: 4 of 0x410fd491\n  features: lse pan\nRAM banks\n  0x40000000..\n\
                          image sections\n  .text 0x1000\ntables of space 1\n  L3: 4\nodd line\n";

    #[test]
    fn every_line_belongs_to_exactly_one_topic() {
        let topics = [Topic::Machine, Topic::Memory, Topic::Tables];
        let counts: Vec<_> = topics
            .iter()
            .map(|t| lines_about(REPORT, *t).len())
            .collect();
        assert_eq!(counts, [3, 4, 2]);
    }

    #[test]
    fn a_walk_is_drawn_level_by_level() {
        let walk =
            "address 0x1000\nbefore\n L1[0] 0x40001003 table\n  level 2: none\nafter\nL1 a\n";
        let drawn = draw_walk(walk);
        assert_eq!(drawn.matches("+- L1 ").count(), 2, "{drawn}");
        assert_eq!(drawn.matches("+- L2 ").count(), 1);
        assert_eq!(drawn.matches('v').count(), 1, "one arrow: {drawn}");
        assert!(drawn.contains("| [0] 0x40001003 table "));
    }

    #[test]
    fn words_that_only_look_like_levels_are_text() {
        for line in ["Last word", "L2x", "lines", "", "Level", "L"] {
            assert!(level(line).is_none(), "{line}");
        }
        assert_eq!(
            level("L-1 = x").map(|(name, _)| name),
            Some("L-1".to_owned())
        );
    }

    #[test]
    fn numbers_are_found_with_their_paths() {
        let json = r#"{"a":1,"b":{"c":-2,"d":[3,{"e":4}]},"s":"x\"9","t":true,"f":1.5,"z":5}"#;
        let expected = [
            ("a", 1),
            ("b.c", -2),
            ("b.d.0", 3),
            ("b.d.1.e", 4),
            ("z", 5),
        ];
        let found = numbers(json);
        let found: Vec<_> = found.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn broken_json_ends() {
        for text in [
            "",
            "{",
            "{\"a",
            "[[[[",
            "}{",
            "{\"a\":}",
            "\u{fffd}",
            "-",
            &"[".repeat(99),
        ] {
            let _ = numbers(text);
        }
    }

    #[test]
    fn only_ranges_are_counted_and_only_writable_and_executable_ones_twice() {
        let map = "00001000-00002000 rwxp 00000000 00:00 0   [heap]\n\
                   00002000-00003000 r-xp 00000000 00:00 0   program\n\
                   00003000-00004000 rw-p 00000000 00:00 0   wx\n";
        assert_eq!(count_ranges(map), (3, 1));
        let dump = "ffff800000000000-ffff800000200000      2048 KiB  r-x- normal   L2 2 MiB blocks\n\
                    ffff800000200000-ffff800000400000      2048 KiB  rwx- normal   L2 2 MiB blocks\n\
                    ranges both writable and executable: 1\n";
        assert_eq!(count_ranges(dump), (2, 1));
    }
}
