//! Messages: 32 bits that say what it is about, and six words, each a number or a handle.

use abi::NONE;
use abi::message::{Tag, WORDS};

use crate::Handle;
use crate::sys::Frame;

/// A word of a message.
#[derive(Debug)]
pub enum Word<'a> {
    /// A number.
    Number(u64),
    /// A handle of which the receiver gets a copy.
    Lent(&'a Handle),
    /// A handle that the receiver gets, and the sender has no more. What is received is of this kind.
    Given(Handle),
}

/// A message, to be sent or received.
///
/// ```no_run
/// # fn example(memory: &tessera::MemoryObject, server: &tessera::Endpoint) -> Result<(), tessera::Error> {
/// use tessera::Message;
/// let answer = server.call(Message::new(7).number(0, 4096).lend(1, memory))?;
/// println!("{} {}", answer.label, answer.word(0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Message<'a> {
    /// What it is about, as sender and receiver have agreed.
    pub label: u32,
    /// The words.
    pub words: [Word<'a>; WORDS],
}

impl<'a> Message<'a> {
    /// A message of zeros.
    pub const fn new(label: u32) -> Self {
        let words = [const { Word::Number(0) }; WORDS];
        Self { label, words }
    }

    /// With a number as word `n`.
    #[must_use]
    pub fn number(self, n: usize, number: u64) -> Self {
        self.with(n, Word::Number(number))
    }

    /// With a copy of a handle as word `n`.
    #[must_use]
    pub fn lend(self, n: usize, handle: &'a impl AsRef<Handle>) -> Self {
        self.with(n, Word::Lent(handle.as_ref()))
    }

    /// With a handle as word `n`, which leaves this process.
    #[must_use]
    pub fn give(self, n: usize, handle: impl Into<Handle>) -> Self {
        self.with(n, Word::Given(handle.into()))
    }

    fn with(mut self, n: usize, word: Word<'a>) -> Self {
        self.words[n] = word;
        self
    }

    /// Word `n` as a number; 0 where it is a handle.
    pub const fn word(&self, n: usize) -> u64 {
        match self.words[n] {
            Word::Number(number) => number,
            _ => 0,
        }
    }

    /// Takes the handle that was sent as word `n`, if one was, and could be delivered.
    pub fn take(&mut self, n: usize) -> Option<Handle> {
        match std::mem::replace(&mut self.words[n], Word::Number(0)) {
            Word::Given(handle) => Some(handle),
            other => {
                self.words[n] = other;
                None
            }
        }
    }

    /// Puts the message into registers.
    pub(crate) fn load(&self, frame: &mut Frame) {
        let mut tag = Tag::new(self.label);
        for (n, word) in self.words.iter().enumerate() {
            frame.x[2 + n] = match word {
                Word::Number(number) => *number,
                Word::Lent(handle) => {
                    tag = tag.copying(n);
                    handle.number()
                }
                Word::Given(handle) => {
                    tag = tag.moving(n);
                    handle.number()
                }
            };
        }
        frame.x[1] = tag.0;
    }

    /// Lets go of the handles that were given, after they have left.
    pub(crate) fn sent(self) {
        for word in self.words {
            if let Word::Given(handle) = word {
                handle.into_number();
            }
        }
    }
}

impl Message<'static> {
    /// Takes a message out of registers.
    pub(crate) fn unload(frame: &Frame) -> Self {
        let tag = Tag(frame.x[1]);
        let word = |n| match frame.x[2 + n] {
            handle if tag.handles() >> n & 1 != 0 && handle != NONE => {
                Word::Given(Handle::made(handle))
            }
            number => Word::Number(number),
        };
        Self {
            label: tag.label(),
            words: std::array::from_fn(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_is_received() {
        let lent = Handle::made(70);
        let mut frame = Frame::default();
        let message = Message::new(5)
            .number(0, 11)
            .lend(1, &lent)
            .give(5, Handle::made(71));
        message.load(&mut frame);
        message.sent();
        assert_eq!(Tag(frame.x[1]).copies(), 1 << 1);
        assert_eq!(Tag(frame.x[1]).moves(), 1 << 5);
        let mut seen = Message::unload(&frame);
        assert_eq!((seen.label, seen.word(0), seen.word(1)), (5, 11, 0));
        assert!(seen.take(0).is_none());
        assert_eq!(seen.take(1).unwrap().number(), 70);
        assert_eq!(seen.take(5).unwrap().number(), 71);
        assert!(seen.take(5).is_none());
        // The receiver's table was full.
        frame.x[7] = NONE;
        assert!(Message::unload(&frame).take(5).is_none());
    }
}
