//! Control lines: what the kernel tells a machine that listens on the serial console.
//!
//! A line is `@TOKEN event key=value …`, and is printed only when the boot argument
//! `tessera.token` gave a token: a program cannot forge a line without knowing it.

use core::fmt::{self, Write};

use sync::Once;

use crate::bootargs::Token;
use crate::console;

static TOKEN: Once<Token> = Once::new();

/// Sets the token, once, at boot.
pub fn init(token: Token) {
    TOKEN.call_once(|| token);
}

/// Whether somebody listens: without a token the same events are told to people instead.
pub fn enabled() -> bool {
    TOKEN.get().is_some()
}

/// Prints one control line, whole, on one line; nothing without a token. Line breaks in `args`
/// become spaces.
pub fn line(args: fmt::Arguments<'_>) {
    if let Some(token) = TOKEN.get() {
        console::print(format_args!("@{} {}\n", token.as_str(), OneLine(args)));
    }
}

/// The same for the kernel-bug report: ignores the console's lock.
pub(crate) fn line_in_bug(args: fmt::Arguments<'_>) {
    if let Some(token) = TOKEN.get() {
        console::print_in_bug(format_args!("@{} {}\n", token.as_str(), OneLine(args)));
    }
}

/// Displays its contents with control characters replaced by spaces.
pub struct OneLine<'a>(pub fmt::Arguments<'a>);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Flatten(f).write_fmt(self.0)
    }
}

struct Flatten<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Flatten<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut pieces = text.split(|c: char| c.is_ascii_control());
        if let Some(first) = pieces.next() {
            self.0.write_str(first)?;
        }
        pieces.try_for_each(|piece| {
            self.0.write_char(' ')?;
            self.0.write_str(piece)
        })
    }
}
