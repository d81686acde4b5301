//! Pagers: servers that answer for the contents of a memory object, page by page.

use std::time::Duration;

use abi::calls;
use abi::message::{Reason, answer};

use crate::endpoint::{Endpoint, nanoseconds};
use crate::memory::MemoryObject;
use crate::message::Message;
use crate::received::{Event, PageRequest, Received};
use crate::reply::Reply;
use crate::sys::mapping::Pages;
use crate::sys::{self, Frame};
use crate::{Error, PAGE};

/// Most bytes that are supplied at once.
pub const WINDOW: u64 = 64 * 1024;

/// What has the contents of an object.
pub trait PageSource {
    /// Fills the buffer with what is at `offset`, and returns how many bytes are meant; zeros follow.
    ///
    /// # Errors
    /// The reason why there is nothing.
    fn fill(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, Reason>;
}

/// Bytes in memory; beyond their end there are zeros.
impl PageSource for &[u8] {
    fn fill(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, Reason> {
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.len());
        let count = buffer.len().min(self.len() - from);
        buffer[..count].copy_from_slice(&self[from..from + count]);
        Ok(count)
    }
}

/// How an object is paged.
#[derive(Clone, Copy, Debug)]
pub struct PagerOptions {
    /// Comes with each request, to tell objects apart that have the same endpoint.
    pub key: u64,
    /// Bytes around a page that are asked for with it: a power of two from a page to [`WINDOW`].
    pub window: u64,
    /// How long somebody waits for a page before it is a bus error; none: for ever.
    pub limit: Option<Duration>,
}

impl Default for PagerOptions {
    fn default() -> Self {
        Self {
            key: 0,
            window: WINDOW,
            limit: None,
        }
    }
}

/// What a pager has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PagerCounts {
    /// Requests that were answered.
    pub requests: u64,
    /// Pages that went into the object.
    pub pages: u64,
    /// Requests for which there was nothing.
    pub failed: u64,
}

/// An object and the source of its contents.
///
/// ```no_run
/// # fn example(contents: &'static [u8]) -> Result<(), tessera::Error> {
/// use tessera::{Endpoint, Pager, PagerOptions};
/// let endpoint = Endpoint::create()?;
/// let mut pager = Pager::create(&endpoint, contents.len() as u64, PagerOptions::default(), contents)?;
/// // … map `pager.object()` somewhere …
/// let other = pager.serve(&endpoint)?;
/// # drop(other);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pager<S> {
    object: MemoryObject,
    source: S,
    buffer: Pages,
    counts: PagerCounts,
}

impl<S: PageSource> Pager<S> {
    /// A new object of `size` bytes whose pages are asked for at the endpoint.
    ///
    /// # Errors
    /// The window is no power of two in its bounds; the table of handles is full; no memory.
    pub fn create(
        endpoint: &Endpoint,
        size: u64,
        options: PagerOptions,
        source: S,
    ) -> Result<Self, Error> {
        let PagerOptions { key, window, limit } = options;
        let endpoint = endpoint.as_ref().number();
        let mut frame = Frame::new([endpoint, size, key, window]).within(nanoseconds(limit));
        let number = sys::call(calls::PAGER_CREATE, &mut frame)?;
        Ok(Self {
            object: crate::Handle::made(number).into(),
            source,
            buffer: Pages::new(WINDOW as usize)?,
            counts: PagerCounts::default(),
        })
    }

    /// The object, to be mapped and passed on.
    pub const fn object(&self) -> &MemoryObject {
        &self.object
    }

    /// What has been done so far.
    pub const fn counts(&self) -> PagerCounts {
        self.counts
    }

    /// Answers a request for a page of this object.
    ///
    /// # Errors
    /// The pages cannot be supplied. Whoever waits has been told that there is no page. That nobody
    /// waits any more is no error.
    pub fn answer(&mut self, request: &PageRequest, reply: Reply) -> Result<(), Error> {
        let (answer, supplied) = self.supply(request);
        match (supplied, reply.answer(answer)) {
            (Ok(()), Err(Error::Gone)) => Ok(()),
            (Ok(()), answered) => answered,
            (failed, _) => failed,
        }
    }

    /// Answers requests, each in one call with the wait for the next, until something else arrives at
    /// the endpoint.
    ///
    /// # Errors
    /// Those of [`Pager::answer`] and of [`Endpoint::receive`].
    pub fn serve(&mut self, endpoint: &Endpoint) -> Result<Received, Error> {
        let mut received = endpoint.receive()?;
        loop {
            let (request, reply) = match received.event {
                Event::Page(request, reply) => (request, reply),
                _ => return Ok(received),
            };
            let (answer, supplied) = self.supply(&request);
            received = match supplied {
                Ok(()) => reply.answer_and_receive(answer, endpoint, None)?,
                Err(error) => {
                    let _ = reply.answer(answer);
                    return Err(error);
                }
            };
        }
    }

    /// Supplies what a request asks for; the answer to it, and whether the kernel took the pages.
    fn supply(&mut self, request: &PageRequest) -> (Message<'static>, Result<(), Error>) {
        self.counts.requests += 1;
        let window = (request.window, request.length);
        let alone = (request.offset, PAGE as u64);
        let (reason, supplied) = match self.provide(window).or_else(|_| self.provide(alone)) {
            Ok(()) => return (Message::new(answer::DONE), Ok(())),
            Err(Failure::Source(reason)) => (reason, Ok(())),
            Err(Failure::Kernel(error)) => (Reason::NoMemory, Err(error)),
        };
        self.counts.failed += 1;
        let answer = Message::new(answer::FAIL).number(0, reason as u64);
        (answer, supplied)
    }

    /// Gets a range of whole pages from the source and moves it into the object.
    fn provide(&mut self, (start, len): (u64, u64)) -> Result<(), Failure> {
        let pages = &mut self.buffer[..len.min(WINDOW) as usize];
        let count = self.source.fill(start, pages).map_err(Failure::Source)?;
        pages[count..].fill(0);
        let mut at = 0;
        while at < pages.len() {
            at += match sys::supply(
                self.object.as_ref().number(),
                start + at as u64,
                &mut pages[at..],
            ) {
                Ok(bytes) if bytes > 0 => {
                    self.counts.pages += (bytes / PAGE) as u64;
                    bytes
                }
                // Somebody else's fault has brought this page.
                Ok(_) | Err(Error::Exists) => PAGE,
                Err(error) => return Err(Failure::Kernel(error)),
            };
        }
        Ok(())
    }

    /// Which pages of a range have been written since they were last asked about: one bit each. Pages of a
    /// window of 64 KiB may be told together; a window of one page tells them apart.
    ///
    /// # Errors
    /// The range is larger than 32 MiB.
    pub fn take_dirty(&self, offset: u64, len: u64) -> Result<Vec<u64>, Error> {
        let pages = usize::try_from(len)
            .map_err(|_| Error::Invalid)?
            .div_ceil(PAGE);
        let mut bitmap = vec![0; pages.div_ceil(64)];
        sys::dirty(self.object.as_ref().number(), offset, len, &mut bitmap)?;
        Ok(bitmap)
    }

    /// Drops the pages of a range that are clean, and returns how many: they will be asked for again.
    ///
    /// # Errors
    /// The range makes no sense.
    pub fn drop_clean(&self, offset: u64, len: u64) -> Result<u64, Error> {
        let object = self.object.as_ref().number();
        sys::control(calls::PAGER_DROP, [object, offset, len])
    }
}

/// Why there is no page.
#[derive(Debug)]
enum Failure {
    Source(Reason),
    Kernel(Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_a_source_with_zeros_behind_their_end() {
        let mut source: &[u8] = &[1, 2, 3, 4, 5];
        let mut buffer = [9; 4];
        assert_eq!(source.fill(0, &mut buffer), Ok(4));
        assert_eq!(buffer, [1, 2, 3, 4]);
        assert_eq!(source.fill(3, &mut buffer), Ok(2));
        assert_eq!(buffer[..2], [4, 5]);
        assert_eq!(source.fill(5, &mut buffer), Ok(0));
        assert_eq!(source.fill(u64::MAX, &mut buffer), Ok(0));
    }
}
