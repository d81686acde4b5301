//! Answers that are owed.
//!
//! The kernel remembers for each thread whom it received from last, and owes an answer. A [`Reply`]
//! stands for that: it is used up by answering, stays in its thread, and is void once the thread has
//! received again.

use std::cell::Cell;
use std::marker::PhantomData;
use std::time::Duration;

use abi::message::{Reason, answer};
use abi::{PEER, calls};

use crate::endpoint::Endpoint;
use crate::handle::kind_of_handle;
use crate::message::Message;
use crate::received::Received;
use crate::registers::{self, Registers, VectorRegisters};
use crate::sys::{self, Frame};
use crate::{Error, Handle};

thread_local! {
    /// How often this thread has received.
    static RECEIVED: Cell<u64> = const { Cell::new(0) };
}

/// Notes that this thread has received, or tried to: what it owed is given up by either.
#[inline]
pub fn received() -> Reply {
    let count = RECEIVED.get() + 1;
    RECEIVED.set(count);
    Reply {
        count,
        in_thread: PhantomData,
    }
}

/// An answer that this thread owes. If it is dropped, whoever waits for it is told so
/// ([`Error::Closed`]) when the thread next receives.
#[derive(Debug)]
pub struct Reply {
    count: u64,
    in_thread: PhantomData<*const ()>,
}

impl Reply {
    /// Answers.
    ///
    /// # Errors
    /// Nobody waits for it any more ([`Error::Gone`]).
    #[inline]
    pub fn answer(self, message: Message<'_>) -> Result<(), Error> {
        self.check()?;
        let mut frame = Frame::default();
        message.load(&mut frame);
        sys::call(calls::REPLY, &mut frame)?;
        message.sent();
        Ok(())
    }

    /// Answers and receives the next message, in one call. That nobody waits for the answer any more
    /// is no error.
    ///
    /// # Errors
    /// Those of [`Endpoint::receive_within`].
    #[inline]
    pub fn answer_and_receive(
        self,
        message: Message<'_>,
        endpoint: &Endpoint,
        limit: Option<Duration>,
    ) -> Result<Received, Error> {
        self.check()?;
        let mut frame = endpoint.frame(limit);
        message.load(&mut frame);
        let got = sys::call(calls::REPLY_RECEIVE, &mut frame);
        if matches!(got, Ok(_) | Err(Error::TimedOut)) {
            message.sent();
        }
        Received::unload(got, &frame)
    }

    /// To the kernel: done. A Linux call has this result, a fault is tried again, a page has been
    /// supplied.
    ///
    /// # Errors
    /// Nobody waits for it any more.
    pub fn done(self, result: u64) -> Result<(), Error> {
        self.answer(Message::new(answer::DONE).number(0, result))
    }

    /// To the kernel: a Linux call has failed.
    ///
    /// # Errors
    /// Nobody waits for it any more.
    pub fn failed(self, error: Error) -> Result<(), Error> {
        self.done(-i64::from(error.number()) as u64)
    }

    /// To the kernel: the thread goes on with its registers as they are by now.
    ///
    /// # Errors
    /// Nobody waits for it any more.
    pub fn resume(self) -> Result<(), Error> {
        self.answer(Message::new(answer::RESUME))
    }

    /// To the kernel: do what you would do if I were not there.
    ///
    /// # Errors
    /// Nobody waits for it any more.
    pub fn pass(self) -> Result<(), Error> {
        self.answer(Message::new(answer::PASS))
    }

    /// To the kernel: end the process by this signal.
    ///
    /// # Errors
    /// Nobody waits for it any more.
    pub fn kill(self, signal: u32, code: i32) -> Result<(), Error> {
        let message = Message::new(answer::KILL).number(0, signal.into());
        self.answer(message.number(1, code as u64))
    }

    /// To the kernel: there will be no page.
    ///
    /// # Errors
    /// Nobody waits for it any more.
    pub fn fail(self, reason: Reason) -> Result<(), Error> {
        self.answer(Message::new(answer::FAIL).number(0, reason as u64))
    }

    /// Makes it a thing that can be kept, and passed to another thread or process.
    ///
    /// # Errors
    /// The table of handles is full.
    pub fn save(self) -> Result<SavedReply, Error> {
        self.check()?;
        let number = sys::control(calls::REPLY_SAVE, [])?;
        Ok(SavedReply(Handle::made(number)))
    }

    /// Registers of the thread that waits.
    ///
    /// # Errors
    /// It is not a message of the kernel's about that thread.
    pub fn registers(&self) -> Result<Registers, Error> {
        self.check()?;
        registers::read(PEER)
    }

    /// Gives that thread other registers, with which [`Reply::resume`] lets it go on.
    ///
    /// # Errors
    /// As [`Reply::registers`].
    pub fn set_registers(&self, registers: &Registers) -> Result<(), Error> {
        self.check()?;
        registers::write(PEER, registers)
    }

    /// Vector registers of that thread.
    ///
    /// # Errors
    /// As [`Reply::registers`].
    pub fn vector_registers(&self) -> Result<VectorRegisters, Error> {
        self.check()?;
        registers::read_vector(PEER)
    }

    /// Gives that thread other vector registers.
    ///
    /// # Errors
    /// As [`Reply::registers`].
    pub fn set_vector_registers(&self, registers: &VectorRegisters) -> Result<(), Error> {
        self.check()?;
        registers::write_vector(PEER, registers)
    }

    /// An answer to an earlier message would go to whoever sent the last one.
    #[inline]
    fn check(&self) -> Result<(), Error> {
        match self.count == RECEIVED.get() {
            true => Ok(()),
            false => Err(Error::Gone),
        }
    }
}

/// An answer that was saved, to be given later, or by somebody else: it can be sent as a handle.
#[derive(Debug)]
pub struct SavedReply(Handle);

kind_of_handle!(SavedReply);

impl SavedReply {
    /// Answers.
    ///
    /// # Errors
    /// Nobody waits for it any more ([`Error::Gone`]).
    pub fn answer(self, message: Message<'_>) -> Result<(), Error> {
        let mut frame = Frame::new([self.0.number()]);
        message.load(&mut frame);
        let got = sys::call(calls::REPLY_SEND, &mut frame);
        if matches!(got, Ok(_) | Err(Error::Gone)) {
            // The kernel has closed the handle. A message that may not be sent leaves it open.
            self.0.into_number();
        }
        got?;
        message.sent();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_void_once_the_thread_has_received_again() {
        let first = received();
        assert_eq!(first.check(), Ok(()));
        let second = received();
        assert_eq!(first.done(0), Err(Error::Gone));
        assert_eq!(second.check(), Ok(()));
    }
}
