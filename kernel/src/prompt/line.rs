//! Line editing at the prompt: as little as makes typing bearable.

/// Longest line; more is not taken.
pub const LINE_MAX: usize = 200;

/// What a key did to the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The character was added: show it.
    Added(u8),
    /// The last character was taken back: erase it.
    Erased,
    /// The line is complete.
    Complete,
    /// The line was given up (control-C or control-U).
    Cancelled,
    /// Nothing.
    Ignored,
}

/// A line being typed.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    bytes: [u8; LINE_MAX],
    len: usize,
}

impl Line {
    /// An empty line.
    pub const fn new() -> Self {
        Self {
            bytes: [0; LINE_MAX],
            len: 0,
        }
    }

    /// Takes one byte from the keyboard. Escape sequences are not understood; their printable
    /// part is added like any text.
    pub fn key(&mut self, byte: u8) -> Key {
        match byte {
            b'\r' | b'\n' => Key::Complete,
            0x08 | 0x7f if self.len > 0 => {
                self.len -= 1;
                Key::Erased
            }
            0x03 | 0x15 => {
                self.len = 0;
                Key::Cancelled
            }
            b' '..=b'~' if self.len < LINE_MAX => {
                self.bytes[self.len] = byte;
                self.len += 1;
                Key::Added(byte)
            }
            _ => Key::Ignored,
        }
    }

    /// What has been typed: printable ASCII.
    pub fn text(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("")
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> Line {
        let mut line = Line::new();
        keys.iter().for_each(|&key| {
            line.key(key);
        });
        line
    }

    #[test]
    fn backspace_takes_back_and_stops_at_the_start() {
        assert_eq!(typed(b"helo\x7f\x08lp").text(), "help");
        let mut line = typed(b"a\x7f");
        assert_eq!(line.key(0x7f), Key::Ignored);
        assert_eq!(line.text(), "");
    }

    #[test]
    fn control_characters_are_not_text() {
        assert_eq!(typed(b"a\x1bb\tc\xc3\xa9").text(), "abc");
        assert_eq!(typed(b"abc\x03d").text(), "d");
        assert_eq!(Line::new().key(b'\r'), Key::Complete);
    }

    #[test]
    fn a_line_that_is_too_long_stops_growing() {
        let mut line = typed(&[b'x'; LINE_MAX]);
        assert_eq!(line.key(b'y'), Key::Ignored);
        assert_eq!(line.text().len(), LINE_MAX);
        assert_eq!(line.key(b'\n'), Key::Complete);
    }
}
