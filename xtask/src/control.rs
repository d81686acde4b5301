//! Control lines: what the kernel tells the host on the same serial line as the program's output.
//!
//! With the boot argument `tessera.token=T` the kernel prints `@T <event> key=value …\n`. A line is
//! the byte sequence from `@T ` up to and including the newline, wherever it stands, also in the
//! middle of a line of the program's output; [`Demux`] removes exactly those bytes. The token is
//! random per run, so that a program cannot print a control line by accident or by guessing.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Longest control line kept, in bytes: a longer one is the sign of a newline that got lost, and
/// is cut so that a broken kernel cannot make the host swallow the rest of the output.
const LONGEST_LINE: usize = 1 << 20;

/// A fresh random token: 16 hexadecimal digits.
#[must_use]
pub fn token() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// One control line: the event's name and the text behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    event: String,
    rest: String,
}

impl Line {
    /// Splits the text between `@T ` and the newline (neither included).
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim_end_matches(['\r', '\n']);
        let (event, rest) = text.split_once(' ').unwrap_or((text, ""));
        Self {
            event: event.to_owned(),
            rest: rest.trim_start().to_owned(),
        }
    }

    /// The event, the first word: `boot`, `exit`, `killed`, `stats`, …
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Everything behind the event, as printed.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.rest
    }

    /// The value of `key`. Values end at the next space; those of `text` and `json` at the end of
    /// the line, so these two keys must come last.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.fields()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// The value of `key` as a number, `0x…` or decimal.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        parse_number(self.get(key)?)
    }

    /// All `key=value` pairs in order. A word without `=` has an empty value.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = self.rest.as_str();
        std::iter::from_fn(move || {
            rest = rest.trim_start();
            if rest.is_empty() {
                return None;
            }
            let word_end = rest.find(' ').unwrap_or(rest.len());
            let equals = rest[..word_end].find('=');
            let (key, end) = match equals {
                Some(at) if matches!(&rest[..at], "text" | "json") => (&rest[..at], rest.len()),
                Some(at) => (&rest[..at], word_end),
                None => (&rest[..word_end], word_end),
            };
            let value = equals.map_or("", |at| &rest[at + 1..end]);
            rest = &rest[end..];
            Some((key, value))
        })
    }
}

/// Reads `0x1f` or `31`.
#[must_use]
pub fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// What [`Demux::push`] found, in the order of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Bytes that are not part of a control line.
    Output(Vec<u8>),
    /// A complete control line.
    Control(Line),
}

/// Separates program output and control lines in a stream of bytes cut anywhere.
///
/// Bytes that could be the beginning of a control line are held back until the next byte decides;
/// everything else is passed on at once.
#[derive(Debug)]
pub struct Demux {
    prefix: Vec<u8>,
    /// A proper prefix of `prefix`, or `prefix` and the line so far.
    held: Vec<u8>,
}

impl Demux {
    /// A filter for the lines of this token.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self {
            prefix: format!("@{token} ").into_bytes(),
            held: Vec::new(),
        }
    }

    /// A filter that finds no lines: for a kernel that was given no token.
    #[must_use]
    pub fn disabled() -> Self {
        Self {
            prefix: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Takes the next bytes of the stream.
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Found> {
        if self.prefix.is_empty() {
            return vec![Found::Output(bytes.to_vec())];
        }
        let mut found = Vec::new();
        let mut output = Vec::new();
        for &byte in bytes {
            if self.held.len() >= self.prefix.len() {
                self.push_line_byte(byte, &mut output, &mut found);
            } else if byte == self.prefix[self.held.len()] {
                self.held.push(byte);
            } else {
                output.append(&mut self.held);
                if byte == self.prefix[0] {
                    self.held.push(byte)
                } else {
                    output.push(byte)
                }
            }
        }
        if !output.is_empty() {
            found.push(Found::Output(output));
        }
        found
    }

    fn push_line_byte(&mut self, byte: u8, output: &mut Vec<u8>, found: &mut Vec<Found>) {
        if byte != b'\n' && self.held.len() < LONGEST_LINE {
            self.held.push(byte);
            return;
        }
        if !output.is_empty() {
            found.push(Found::Output(std::mem::take(output)));
        }
        let text = String::from_utf8_lossy(&self.held[self.prefix.len()..]).into_owned();
        self.held.clear();
        found.push(Found::Control(Line::parse(&text)));
    }

    /// Gives up bytes that are held back although they are no control line yet: for a terminal,
    /// after a pause. A line that has begun stays held.
    #[must_use]
    pub fn release(&mut self) -> Vec<u8> {
        if self.held.len() < self.prefix.len() {
            std::mem::take(&mut self.held)
        } else {
            Vec::new()
        }
    }

    /// The end of the stream: what was held, unless it is a control line cut off in the middle,
    /// which is returned as a line.
    #[must_use]
    pub fn finish(&mut self) -> Option<Found> {
        let mut held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return None;
        }
        if held.len() < self.prefix.len() {
            return Some(Found::Output(held));
        }
        let text = held.split_off(self.prefix.len());
        Some(Found::Control(Line::parse(&String::from_utf8_lossy(&text))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(demux: &mut Demux, pieces: &[&[u8]]) -> (Vec<u8>, Vec<Line>) {
        let (mut output, mut lines) = (Vec::new(), Vec::new());
        for found in pieces.iter().flat_map(|piece| demux.push(piece)) {
            match found {
                Found::Output(bytes) => output.extend(bytes),
                Found::Control(line) => lines.push(line),
            }
        }
        (output, lines)
    }

    #[test]
    fn a_control_line_in_the_middle_of_a_line_leaves_the_output_byte_exact() {
        let stream = b"half @ @ab @abc exit status=3\nother half\xff\n@abc halt status=3\n";
        for cut in 0..stream.len() {
            let mut demux = Demux::new("abc");
            let (output, lines) = collect(&mut demux, &[&stream[..cut], &stream[cut..]]);
            assert_eq!(output, b"half @ @ab other half\xff\n", "cut at {cut}");
            assert_eq!(lines.len(), 2);
            assert_eq!(lines[0].number("status"), Some(3));
            assert_eq!(demux.finish(), None);
        }
    }

    #[test]
    fn a_prefix_that_restarts_is_still_found() {
        let mut demux = Demux::new("abc");
        let (output, lines) = collect(&mut demux, &[b"@@abc exit status=0\n@a@abc boot cpus=1\n"]);
        assert_eq!((output.as_slice(), lines.len()), (b"@@a".as_slice(), 2));
    }

    #[test]
    fn output_is_not_delayed_and_a_lone_at_sign_can_be_released() {
        let mut demux = Demux::new("abc");
        assert_eq!(demux.push(b"user"), [Found::Output(b"user".to_vec())]);
        assert_eq!(demux.push(b"@"), []);
        assert_eq!(demux.release(), b"@");
        assert_eq!(demux.push(b"abc"), [Found::Output(b"abc".to_vec())]);
    }

    #[test]
    fn the_wrong_token_is_output() {
        let mut demux = Demux::new("abd");
        let (output, lines) = collect(&mut demux, &[b"@abc exit status=0\n"]);
        assert_eq!((output.len(), lines.len()), (19, 0));
    }

    #[test]
    fn values_end_at_a_space_but_text_and_json_at_the_line_end() {
        let line = Line::parse("killed signal=11 code=SEGV_MAPERR addr=0x10 text=a = b c\r");
        assert_eq!(line.event(), "killed");
        assert_eq!(line.number("addr"), Some(16));
        assert_eq!(line.get("text"), Some("a = b c"));
        let line = Line::parse("stats json={\"a\": 1}");
        assert_eq!(line.get("json"), Some("{\"a\": 1}"));
        assert_eq!(line.get("none"), None);
    }

    #[test]
    fn the_end_of_the_stream_gives_back_a_held_prefix_and_a_cut_line() {
        let mut demux = Demux::new("abc");
        assert_eq!(demux.push(b"@ab"), []);
        assert_eq!(demux.finish(), Some(Found::Output(b"@ab".to_vec())));
        let mut demux = Demux::new("abc");
        assert_eq!(demux.push(b"@abc bug law=3 te"), []);
        assert_eq!(
            demux.finish(),
            Some(Found::Control(Line::parse("bug law=3 te")))
        );
    }

    #[test]
    fn tokens_differ() {
        assert_ne!(token(), token());
        assert_eq!(token().len(), 16);
    }
}
