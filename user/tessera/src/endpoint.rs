//! Endpoints: where threads meet to pass a message.

use std::time::Duration;

use abi::{Rights, calls};

use crate::handle::kind_of_handle;
use crate::message::Message;
use crate::received::Received;
use crate::sys::{self, Frame, linux};
use crate::{Error, Handle};

/// A handle of an endpoint. A server receives; its clients have copies that may only send, each with
/// a badge by which the server knows them.
#[derive(Debug)]
pub struct Endpoint(Handle);

kind_of_handle!(Endpoint);

/// A time-out as the kernel takes it.
#[inline]
pub(crate) fn nanoseconds(limit: Option<Duration>) -> u64 {
    limit.map_or(abi::FOREVER, |limit| {
        u64::try_from(limit.as_nanos()).unwrap_or(abi::FOREVER)
    })
}

impl Endpoint {
    /// A new endpoint, with all rights.
    ///
    /// # Errors
    /// The table of handles is full, or there is no memory.
    pub fn create() -> Result<Self, Error> {
        let number = sys::control(calls::ENDPOINT_CREATE, [])?;
        Ok(Self(Handle::made(number)))
    }

    /// A handle for a client: it may send and notify, and may be passed on. Messages that come
    /// through it, or a copy of it, carry the badge, which is not 0.
    ///
    /// # Errors
    /// This handle has a badge itself, or lacks the rights.
    pub fn client(&self, badge: u64) -> Result<Self, Error> {
        let rights = Rights::SEND | Rights::NOTIFY | Rights::TRANSFER | Rights::DUPLICATE;
        self.0.copy(rights, badge, false).map(Self)
    }

    /// Sends a message, and waits until somebody has received it.
    ///
    /// # Errors
    /// Nobody can receive any more ([`Error::Closed`]), or a handle in it may not be sent.
    #[inline]
    pub fn send(&self, message: Message<'_>) -> Result<(), Error> {
        self.send_within(message, None)
    }

    /// [`Endpoint::send`] that waits no longer than this.
    ///
    /// # Errors
    /// Those of [`Endpoint::send`], and [`Error::TimedOut`].
    #[inline]
    pub fn send_within(&self, message: Message<'_>, limit: Option<Duration>) -> Result<(), Error> {
        let mut frame = self.frame(limit);
        message.load(&mut frame);
        sys::call(calls::ENDPOINT_SEND, &mut frame)?;
        message.sent();
        Ok(())
    }

    /// Sends a message and waits for the answer.
    ///
    /// # Errors
    /// Nobody can receive any more, or the receiver will not answer ([`Error::Closed`]); a handle in
    /// it may not be sent.
    #[inline]
    pub fn call(&self, message: Message<'_>) -> Result<Message<'static>, Error> {
        self.call_within(message, None)
    }

    /// [`Endpoint::call`] that waits no longer than this.
    ///
    /// # Errors
    /// Those of [`Endpoint::call`], and [`Error::TimedOut`].
    #[inline]
    pub fn call_within(
        &self,
        message: Message<'_>,
        limit: Option<Duration>,
    ) -> Result<Message<'static>, Error> {
        let mut frame = self.frame(limit);
        message.load(&mut frame);
        let got = sys::call(calls::ENDPOINT_CALL, &mut frame);
        // Where the message may have been received, the handles given may have left: better one that
        // is never closed than one closed that is somebody else's by now.
        if matches!(got, Ok(_) | Err(Error::Closed | Error::TimedOut)) {
            message.sent();
        }
        got.map(|_| Message::unload(&frame))
    }

    /// Waits for a message. An answer that this thread owes and has not given or saved is given up.
    ///
    /// # Errors
    /// The handle lacks the rights.
    #[inline]
    pub fn receive(&self) -> Result<Received, Error> {
        self.receive_within(None)
    }

    /// [`Endpoint::receive`] that waits no longer than this.
    ///
    /// # Errors
    /// Those of [`Endpoint::receive`], and [`Error::TimedOut`].
    #[inline]
    pub fn receive_within(&self, limit: Option<Duration>) -> Result<Received, Error> {
        let mut frame = self.frame(limit);
        let got = sys::call(calls::ENDPOINT_RECEIVE, &mut frame);
        Received::unload(got, &frame)
    }

    /// Sets notification bits. Nobody waits: who receives next gets all bits that are set.
    ///
    /// # Errors
    /// No bits, or nobody can receive any more.
    pub fn notify(&self, bits: u64) -> Result<(), Error> {
        sys::control(calls::ENDPOINT_NOTIFY, [self.0.number(), bits]).map(drop)
    }

    /// Sets notification bits after a while, in place of what was set before.
    ///
    /// # Errors
    /// No memory.
    pub fn notify_after(&self, bits: u64, delay: Duration) -> Result<(), Error> {
        let deadline = linux::now().saturating_add(nanoseconds(Some(delay)));
        sys::control(calls::ENDPOINT_TIMER, [self.0.number(), bits, deadline]).map(drop)
    }

    #[inline]
    pub(crate) fn frame(&self, limit: Option<Duration>) -> Frame {
        Frame::new([self.0.number()]).within(nanoseconds(limit))
    }
}
