//! Text for people, on the serial console.

use core::fmt;

use crate::arch::uart;

/// Prints, whole: no other CPU's text comes between.
pub fn print(args: fmt::Arguments<'_>) {
    uart::write_fmt(args);
}

/// Prints without waiting for the console's lock for long: for the kernel-bug report, which may
/// have interrupted the lock's holder.
pub(crate) fn print_in_bug(args: fmt::Arguments<'_>) {
    uart::write_fmt_in_bug(args);
}

/// Prints formatted text and a line break.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($arg)*))) };
}

/// Prints formatted text.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::console::print(format_args!($($arg)*)) };
}
