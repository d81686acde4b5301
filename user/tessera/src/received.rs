//! What a server receives: messages of others, and of the kernel.

use abi::message::{Kind, Tag, exception, request, resolved};

use crate::Error;
use crate::message::Message;
use crate::reply::{self, Reply};
use crate::sys::Frame;

/// A message that was received.
#[derive(Debug)]
pub struct Received {
    /// Badge of the handle that it came through; 0 for none.
    pub badge: u64,
    /// Number of the thread that sent it.
    pub sender: u64,
    /// What it is.
    pub event: Event,
}

/// What may be received. Whoever has a [`Reply`] waits for it.
#[derive(Debug)]
pub enum Event {
    /// A message that nobody waits for.
    Send(Message<'static>),
    /// A message that wants an answer.
    Call(Message<'static>, Reply),
    /// Notification bits.
    Notification(u64),
    /// A Linux call that the kernel does not own.
    LinuxCall(LinuxCall, Reply),
    /// A fault that nothing resolves, or another exception.
    Exception(Exception, Reply),
    /// A page fault that has been resolved.
    Fault(ResolvedFault, Reply),
    /// A page of an object is wanted.
    Page(PageRequest, Reply),
}

/// A Linux call of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinuxCall {
    /// Its number, arm64's.
    pub number: u32,
    /// `x0` to `x5`.
    pub arguments: [u64; 6],
}

/// How memory was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Written.
    Write,
    /// As an instruction.
    Execute,
    /// Not at all.
    None,
}

/// A fault that nothing resolves, or another exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The signal that Linux would send.
    pub signal: u32,
    /// Linux's `si_code`.
    pub code: i32,
    /// The address concerned, without tag bits.
    pub address: u64,
    /// Where it happened.
    pub pc: u64,
    /// How memory was touched.
    pub access: Access,
    /// The process's number.
    pub process: u64,
}

/// A page fault that has been resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedFault {
    /// The address, without tag bits.
    pub address: u64,
    /// Where it happened.
    pub pc: u64,
    /// Instructions that resolving it took, or cycles where instructions are not counted.
    pub cost: u64,
    /// How memory was touched.
    pub access: Access,
    /// The process's number.
    pub process: u64,
}

/// A page of an object is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// The key that the object was made with.
    pub key: u64,
    /// Byte offset of the page in the object.
    pub offset: u64,
    /// First byte of the window around it that would be welcome.
    pub window: u64,
    /// Bytes of that window.
    pub length: u64,
    /// How memory was touched.
    pub access: Access,
    /// The number of the process that wants it.
    pub process: u64,
}

impl Received {
    /// Takes what was received out of registers.
    #[inline(always)]
    pub(crate) fn unload(got: Result<u64, Error>, frame: &Frame) -> Result<Self, Error> {
        let owed = reply::received();
        got?;
        Ok(Self {
            badge: frame.x9,
            sender: frame.x10,
            event: Event::unload(frame, owed)?,
        })
    }
}

impl Event {
    #[inline(always)]
    fn unload(frame: &Frame, reply: Reply) -> Result<Self, Error> {
        let tag = Tag(frame.x[1]);
        let words = words(frame);
        Ok(match tag.kind().ok_or(Error::Invalid)? {
            Kind::Send => Self::Send(Message::unload(frame)),
            Kind::Call => Self::Call(Message::unload(frame), reply),
            Kind::Notification => Self::Notification(words[0]),
            Kind::LinuxCall => Self::LinuxCall(LinuxCall::new(tag, words), reply),
            Kind::Exception => Self::Exception(Exception::new(tag, words), reply),
            Kind::Fault => Self::Fault(ResolvedFault::new(words), reply),
            Kind::Page => Self::Page(PageRequest::new(words), reply),
        })
    }
}

type Words = [u64; 6];

fn words(frame: &Frame) -> Words {
    std::array::from_fn(|n| frame.x[2 + n])
}

impl Access {
    const fn new(word: u64) -> Self {
        match word {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Execute,
            _ => Self::None,
        }
    }

    /// A verb for people.
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Execute => "execute",
            Self::None => "none",
        }
    }
}

impl LinuxCall {
    const fn new(tag: Tag, arguments: Words) -> Self {
        Self {
            number: tag.label(),
            arguments,
        }
    }
}

impl Exception {
    const fn new(tag: Tag, words: Words) -> Self {
        Self {
            signal: tag.label(),
            code: words[exception::CODE] as i32,
            address: words[exception::ADDRESS],
            pc: words[exception::PC],
            access: Access::new(words[exception::ACCESS]),
            process: words[exception::PROCESS],
        }
    }
}

impl ResolvedFault {
    const fn new(words: Words) -> Self {
        Self {
            address: words[resolved::ADDRESS],
            pc: words[resolved::PC],
            cost: words[resolved::COST],
            access: Access::new(words[resolved::ACCESS]),
            process: words[resolved::PROCESS],
        }
    }
}

impl PageRequest {
    const fn new(words: Words) -> Self {
        Self {
            key: words[request::KEY],
            offset: words[request::OFFSET],
            window: words[request::WINDOW],
            length: words[request::LENGTH],
            access: Access::new(words[request::ACCESS]),
            process: words[request::PROCESS],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: Kind, label: u32) -> Frame {
        let mut frame = Frame::new([0, Tag::of_kind(kind, label).0, 10, 11, 12, 2, 14, 15]);
        (frame.x9, frame.x10) = (99, 3);
        frame
    }

    #[test]
    fn each_kind_is_told_from_the_others() {
        let event = |kind, label| {
            let received = Received::unload(Ok(0), &frame(kind, label)).unwrap();
            assert_eq!((received.badge, received.sender), (99, 3));
            received.event
        };
        assert!(matches!(event(Kind::Send, 1), Event::Send(m) if m.word(5) == 15));
        assert!(matches!(event(Kind::Call, 1), Event::Call(m, _) if m.label == 1));
        assert!(matches!(
            event(Kind::Notification, 0),
            Event::Notification(10)
        ));
        let Event::LinuxCall(call, _) = event(Kind::LinuxCall, 160) else {
            panic!("no call");
        };
        assert_eq!(call.number, 160);
        assert_eq!(call.arguments, [10, 11, 12, 2, 14, 15]);
        let Event::Exception(fault, _) = event(Kind::Exception, 11) else {
            panic!("no exception");
        };
        assert_eq!((fault.signal, fault.address, fault.pc), (11, 10, 11));
        assert_eq!((fault.code, fault.access), (12, Access::Execute));
        let Event::Page(page, _) = event(Kind::Page, 0) else {
            panic!("no request");
        };
        assert_eq!((page.key, page.offset, page.window), (10, 11, 12));
        assert_eq!(page.process, 15);
    }

    #[test]
    fn an_unknown_kind_is_an_error() {
        let mut odd = frame(Kind::Send, 0);
        odd.x[1] |= 0xff << 48;
        assert_eq!(Received::unload(Ok(0), &odd).unwrap_err(), Error::Invalid);
    }
}
