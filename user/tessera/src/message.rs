//! Messages: 32 bits that say what it is about, and six words, each a number or a handle.

use std::marker::PhantomData;

use abi::NONE;
use abi::message::{Tag, WORDS};

use crate::Handle;
use crate::sys::Frame;

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
    words: [u64; WORDS],
    /// Words that are handles of which the receiver gets a copy, one bit each.
    lent: u8,
    /// Words that are handles that the receiver gets, and the sender has no more: this message owns
    /// them. The handles that are received are of this kind.
    given: u8,
    lender: PhantomData<&'a Handle>,
}

impl<'a> Message<'a> {
    /// A message of zeros.
    #[inline]
    pub const fn new(label: u32) -> Self {
        Self {
            label,
            words: [0; WORDS],
            lent: 0,
            given: 0,
            lender: PhantomData,
        }
    }

    /// With a number as word `n`.
    #[inline]
    #[must_use]
    pub fn number(mut self, n: usize, number: u64) -> Self {
        self.put(n, number);
        self
    }

    /// With a copy of a handle as word `n`.
    #[must_use]
    pub fn lend(mut self, n: usize, handle: &'a impl AsRef<Handle>) -> Self {
        self.put(n, handle.as_ref().number());
        self.lent |= 1 << n;
        self
    }

    /// With a handle as word `n`, which leaves this process.
    #[must_use]
    pub fn give(mut self, n: usize, handle: impl Into<Handle>) -> Self {
        self.put(n, handle.into().into_number());
        self.given |= 1 << n;
        self
    }

    #[inline]
    fn put(&mut self, n: usize, word: u64) {
        if self.given != 0 {
            drop(self.take(n));
        }
        self.words[n] = word;
        self.lent &= !(1 << n);
    }

    const fn is_handle(&self, n: usize) -> bool {
        (self.lent | self.given) >> n & 1 != 0
    }

    /// Word `n` as a number; 0 where it is a handle.
    #[inline]
    pub const fn word(&self, n: usize) -> u64 {
        match self.is_handle(n) {
            false => self.words[n],
            true => 0,
        }
    }

    /// Takes the handle that was sent as word `n`, if one was, and could be delivered.
    pub fn take(&mut self, n: usize) -> Option<Handle> {
        let bit = 1 << n;
        if self.given & bit == 0 {
            return None;
        }
        self.given &= !bit;
        Some(Handle::made(std::mem::take(&mut self.words[n])))
    }

    /// Puts the message into registers.
    #[inline]
    pub(crate) fn load(&self, frame: &mut Frame) {
        frame.x[1] = Tag::with_handles(self.label, self.lent, self.given).0;
        frame.x[2..].copy_from_slice(&self.words);
    }

    /// Lets go of the handles that were given, after they have left.
    #[inline]
    pub(crate) fn sent(self) {
        std::mem::forget(self);
    }
}

impl Message<'static> {
    /// Takes a message out of registers.
    #[inline]
    pub(crate) fn unload(frame: &Frame) -> Self {
        let tag = Tag(frame.x[1]);
        let mut message = Self::new(tag.label());
        message.words.copy_from_slice(&frame.x[2..]);
        if tag.handles() != 0 {
            message.receive_handles(tag.handles());
        }
        message
    }

    /// These words are handles, where they could be delivered.
    #[cold]
    fn receive_handles(&mut self, words: u64) {
        let delivered = (0..WORDS).filter(|&n| words >> n & 1 != 0 && self.words[n] != NONE);
        self.given = delivered.fold(0, |given, n| given | 1 << n);
    }
}

impl Drop for Message<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.given != 0 {
            (0..WORDS).for_each(|n| drop(self.take(n)));
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
