//! Messages: a tag and six words, all in registers.
//!
//! | register | sent | received |
//! |---|---|---|
//! | `x0` | the endpoint | 0, or the error |
//! | `x1` | tag | tag |
//! | `x2`–`x7` | words | words |
//! | `x9` | time-out in nanoseconds | badge of the handle that it was sent through |
//! | `x10` | – | number of the thread that sent it |

/// Words of a message.
pub const WORDS: usize = 6;

/// What a message is about: 32 bits of the sender's choice, which words are handles, and, set by the
/// kernel, of which kind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Tag(pub u64);

impl Tag {
    const COPIES: u32 = 32;
    const MOVES: u32 = 40;
    const KIND: u32 = 48;
    const SET: u64 = (1 << WORDS) - 1;

    /// A tag with `label`.
    pub const fn new(label: u32) -> Self {
        Self(label as u64)
    }

    /// A tag of the kernel's own.
    pub const fn of_kind(kind: Kind, label: u32) -> Self {
        Self(label as u64 | (kind as u64) << Self::KIND)
    }

    /// The sender's 32 bits.
    pub const fn label(self) -> u32 {
        self.0 as u32
    }

    /// The same, with a copy of the handle that word `n` names sent along.
    #[must_use]
    pub const fn copying(self, n: usize) -> Self {
        Self(self.0 | 1 << (Self::COPIES as usize + n))
    }

    /// The same, with the handle that word `n` names taken from the sender and sent along.
    #[must_use]
    pub const fn moving(self, n: usize) -> Self {
        Self(self.0 | 1 << (Self::MOVES as usize + n))
    }

    /// A tag with `label`, and handles to be copied and to be moved in the words of these bits.
    #[inline]
    pub const fn with_handles(label: u32, copies: u8, moves: u8) -> Self {
        let copies = (copies as u64 & Self::SET) << Self::COPIES;
        Self(label as u64 | copies | (moves as u64 & Self::SET) << Self::MOVES)
    }

    /// Bit n: word n is a handle to be copied.
    pub const fn copies(self) -> u64 {
        self.0 >> Self::COPIES & Self::SET
    }

    /// Bit n: word n is a handle to be moved.
    pub const fn moves(self) -> u64 {
        self.0 >> Self::MOVES & Self::SET
    }

    /// Bit n: word n is a handle.
    pub const fn handles(self) -> u64 {
        self.copies() | self.moves()
    }

    /// The tag as a sender may have chosen it: nothing in it but label and handles.
    #[must_use]
    pub const fn sendable(self, kind: Kind) -> Self {
        let kept =
            self.label() as u64 | self.copies() << Self::COPIES | self.moves() << Self::MOVES;
        Self(kept | (kind as u64) << Self::KIND)
    }

    /// The kind of a received message.
    pub const fn kind(self) -> Option<Kind> {
        let kind = self.0 >> Self::KIND & 0xff;
        if kind < Kind::ALL.len() as u64 {
            Some(Kind::ALL[kind as usize])
        } else {
            None
        }
    }
}

/// Who sends a message, and what it waits for. Only the kernel sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Kind {
    /// Sent: nobody waits.
    Send = 0,
    /// Called: the sender waits for the answer.
    Call = 1,
    /// Notification bits: word 0.
    Notification = 2,
    /// A Linux call that the kernel does not own: the label is its number, the words are `x0` to `x5`.
    LinuxCall = 3,
    /// A fault or another exception: see [`exception`].
    Exception = 4,
    /// A page fault that has been resolved: see [`resolved`].
    Fault = 5,
    /// A page of a memory object is wanted: see [`request`].
    Page = 6,
}

impl Kind {
    /// All, by number.
    pub const ALL: [Self; 7] = [
        Self::Send,
        Self::Call,
        Self::Notification,
        Self::LinuxCall,
        Self::Exception,
        Self::Fault,
        Self::Page,
    ];
}

/// Words of a message of kind [`Kind::Exception`]; the label is the number of the signal that Linux
/// would send.
pub mod exception {
    /// The address concerned, without tag bits.
    pub const ADDRESS: usize = 0;
    /// Program counter.
    pub const PC: usize = 1;
    /// Linux's `si_code`.
    pub const CODE: usize = 2;
    /// 0 read, 1 write, 2 instruction fetch, 3 none of these.
    pub const ACCESS: usize = 3;
    /// The process's number.
    pub const PROCESS: usize = 4;
}

/// Words of a message of kind [`Kind::Fault`]; the label is 0.
pub mod resolved {
    /// The address, without tag bits.
    pub const ADDRESS: usize = 0;
    /// Program counter.
    pub const PC: usize = 1;
    /// Instructions (cycles where there is no counter of instructions) that resolving it took.
    pub const COST: usize = 2;
    /// 0 read, 1 write, 2 instruction fetch.
    pub const ACCESS: usize = 3;
    /// The process's number.
    pub const PROCESS: usize = 4;
}

/// Words of a message of kind [`Kind::Page`]; the label is 0.
pub mod request {
    /// The key that the object was made with.
    pub const KEY: usize = 0;
    /// Byte offset of the page in the object.
    pub const OFFSET: usize = 1;
    /// First byte of the window around it that would be welcome.
    pub const WINDOW: usize = 2;
    /// Bytes of that window.
    pub const LENGTH: usize = 3;
    /// 0 read, 1 write, 2 instruction fetch.
    pub const ACCESS: usize = 4;
    /// The process's number.
    pub const PROCESS: usize = 5;
}

/// Labels of answers to messages of the kernel's own.
pub mod answer {
    /// Go on: a call has the result in word 0, a fault is tried again, a page has been supplied.
    pub const DONE: u32 = 0;
    /// Go on with the registers as they are by now; of a call too, which then has no result.
    pub const RESUME: u32 = 1;
    /// What the kernel would do if nobody were bound.
    pub const PASS: u32 = 2;
    /// End the process by signal word 0, code word 1.
    pub const KILL: u32 = 3;
    /// There will be no page, for the reason in word 0 ([`super::Reason`]).
    pub const FAIL: u32 = 4;
}

/// Why a pager has no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Reason {
    /// It could not be read (`BUS_ADRERR`).
    Io = 0,
    /// There is nothing at this place any more (`BUS_ADRERR`).
    Gone = 1,
    /// What was there is damaged (`BUS_MCEERR_AR`).
    Damaged = 2,
    /// The pager does not allow it (`SEGV_ACCERR`).
    Denied = 3,
    /// The pager has no memory for it (`BUS_OBJERR`).
    NoMemory = 4,
}

impl Reason {
    /// All, by number.
    pub const ALL: [Self; 5] = [
        Self::Io,
        Self::Gone,
        Self::Damaged,
        Self::Denied,
        Self::NoMemory,
    ];
}
