//! The kernel's own calls, `svc #1`: numbers, rights, messages. Shared by the kernel and by programs at
//! EL0; `docs/calls.md` is made from [`calls::TABLE`].
//!
//! A call's number is in `x8` and its arguments from `x0` on; the result is in `x0`, as Linux's negative
//! error numbers where it fails. Calls that receive messages change `x1` to `x10`, and those that say so
//! in the table some of `x1` to `x4`; no other register changes.

#![no_std]
#![forbid(unsafe_code)]

pub mod calls;
pub mod message;

bitflags::bitflags! {
    /// What may be done through a handle. A copy has the rights of its original, or fewer.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rights: u32 {
        /// Make further handles of the same object in the same table.
        const DUPLICATE = 1 << 0;
        /// Send copies to others in messages, or put them into another process's table.
        const TRANSFER = 1 << 1;
        /// Read: a memory object's contents, a thread's registers, a process's memory.
        const READ = 1 << 2;
        /// Write the same.
        const WRITE = 1 << 3;
        /// Map a memory object executable.
        const EXEC = 1 << 4;
        /// Send messages to an endpoint, and call it.
        const SEND = 1 << 5;
        /// Receive messages from an endpoint.
        const RECEIVE = 1 << 6;
        /// Set an endpoint's notification bits.
        const NOTIFY = 1 << 7;
        /// Control a process or a thread: map, bind, start, suspend, end.
        const CONTROL = 1 << 8;
        /// Answer for a memory object's pages: supply, collect what is dirty, drop what is clean.
        const SUPPLY = 1 << 9;
        /// Revoke: end this handle and all copies of it at once.
        const REVOKE = 1 << 10;
    }
}

impl Rights {
    /// In place of rights: those of the original.
    pub const SAME: u32 = u32::MAX;
}

/// What a handle stands for, as [`calls::HANDLE_INFO`] tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Kind {
    /// The serial console.
    Console = 0,
    /// A memory object, opened (what `memfd_create` returns).
    Memory = 1,
    /// An endpoint.
    Endpoint = 2,
    /// A reply that is owed.
    Reply = 3,
    /// A process.
    Process = 4,
    /// A thread.
    Thread = 5,
    /// The machine itself: interrupts, device memory, policies.
    Machine = 6,
    /// An interrupt.
    Interrupt = 7,
    /// Registers of a device.
    Device = 8,
}

/// Handles that the first program starts with, beside the console in 0 to 2. Every other process has
/// what it is given, and nothing else.
pub mod slot {
    /// First number of handles that are not made by Linux's calls.
    pub const FIRST: u64 = 64;
    /// Its own process.
    pub const PROCESS: u64 = 64;
    /// The machine.
    pub const MACHINE: u64 = 65;
    /// The initrd, a cpio archive (`newc`), as a memory object that can be read.
    pub const INITRD: u64 = 66;
    /// Most handles of one process.
    pub const COUNT: u64 = 1024;
}

/// In place of a handle of a thread: whom the calling thread owes an answer.
pub const PEER: u64 = u64::MAX;
/// In place of a handle: none.
pub const NONE: u64 = u64::MAX;
/// In place of a time-out in nanoseconds: none.
pub const FOREVER: u64 = u64::MAX;

/// What [`calls::PROCESS_BIND`] binds an endpoint to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Binding {
    /// Faults without a resolver and other exceptions.
    Exceptions = 0,
    /// Linux calls that the kernel does not own.
    Calls = 1,
    /// Every page fault, after it has been resolved.
    Faults = 2,
    /// The end of the process: notification bit 63.
    End = 3,
}

impl Binding {
    /// All, by number.
    pub const ALL: [Self; 4] = [Self::Exceptions, Self::Calls, Self::Faults, Self::End];
    /// The notification bit of [`Self::End`].
    pub const ENDED: u64 = 1 << 63;
}

/// Sets of registers of [`calls::THREAD_READ`] and [`calls::THREAD_WRITE`].
pub mod registers {
    /// `x0` to `x30`, `sp`, `pc`, `pstate`: 34 words of 64 bits, as Linux's `struct user_pt_regs`.
    pub const GENERAL: u64 = 0;
    /// `v0` to `v31`, then `fpsr` and `fpcr` of 32 bits each, then 8 bytes of nothing, as Linux's
    /// `struct user_fpsimd_state`.
    pub const VECTOR: u64 = 1;
    /// `TPIDR_EL0`.
    pub const TLS: u64 = 2;
    /// Bytes of each set.
    pub const BYTES: [u64; 3] = [272, 528, 8];
}
