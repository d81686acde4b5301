//! What the kernel answers when it does not do what it was asked.

use std::fmt;

macro_rules! errors {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        /// Why a call failed: Linux's error numbers, as the kernel uses them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Error {
            $(#[doc = concat!("Number ", $number, ": ", $text, ".")] $name,)*
            /// Another number.
            Other(i32),
        }

        impl Error {
            /// The error of a positive error number.
            pub const fn from_number(number: i32) -> Self {
                match number {
                    $($number => Self::$name,)*
                    other => Self::Other(other),
                }
            }

            /// The positive error number.
            pub const fn number(self) -> i32 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Other(number) => number,
                }
            }
        }

        impl fmt::Display for Error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str($text),)*
                    Self::Other(number) => write!(f, "error number {number}"),
                }
            }
        }
    };
}

errors! {
    NotOwed = 1, "no answer is owed, or it is not allowed";
    NotFound = 2, "there is no such file";
    Gone = 3, "whoever was meant is no longer there";
    NoHandle = 9, "there is no such handle";
    Again = 11, "not now";
    NoMemory = 12, "no memory";
    Denied = 13, "the handle is of another kind or lacks the rights";
    BadAddress = 14, "there is no such memory";
    Busy = 16, "it is in use";
    Exists = 17, "it is there already";
    NoDevice = 19, "there is no such device";
    Invalid = 22, "the arguments make no sense";
    TooManyHandles = 24, "the table of handles is full";
    NoSpace = 28, "no room for its pages";
    Closed = 32, "the other side has gone";
    NoCall = 38, "the kernel has no such call";
    TimedOut = 110, "time-out";
    Quota = 122, "over the limit of the process";
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::from_raw_os_error(error.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_way_to_a_name_and_back() {
        for number in 1..200 {
            assert_eq!(Error::from_number(number).number(), number);
        }
        assert_eq!(Error::from_number(libc::ETIMEDOUT), Error::TimedOut);
        assert_eq!(Error::from_number(libc::EDQUOT), Error::Quota);
        assert_eq!(Error::from_number(libc::ENOSYS), Error::NoCall);
        assert_eq!(Error::from_number(libc::EPIPE), Error::Closed);
    }
}
