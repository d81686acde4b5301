//! A small runtime for native programs of Tessera: ordinary static Linux programs for arm64 that make
//! the kernel's own calls, too (`svc #1`; their numbers are in the crate `abi`).
//!
//! | module | what a program gets |
//! |---|---|
//! | [`Handle`] | what it may do, and to what: closed when dropped |
//! | [`Endpoint`], [`Message`], [`Received`], [`Reply`] | messages of others and of the kernel, and their answers |
//! | [`Process`], [`Thread`], [`Registers`] | other processes, from outside |
//! | [`MemoryObject`], [`Mapping`], [`Pager`] | memory to be shared, and memory whose contents a program answers for |
//! | [`Machine`], [`Interrupt`] | drivers |
//! | [`initrd`], [`Command`] | the files of the initial RAM disk, and programs that are started from it |
//!
//! `unsafe` and assembly are in the private module `sys`, and nowhere else. On other systems than
//! Tessera everything builds, and every call fails.

#![deny(unsafe_code)]

mod archive;
mod command;
mod elf;
mod endpoint;
mod error;
mod handle;
mod machine;
mod memory;
mod message;
mod pager;
mod process;
mod received;
mod registers;
mod reply;
mod stack;
#[expect(
    unsafe_code,
    reason = "the way into the kernel, and memory that it maps"
)]
mod sys;
mod thread;

pub use abi::message::Reason;
pub use abi::{Binding, Kind, Rights, slot};
pub use archive::{Archive, BadArchive, File, initrd};
pub use command::{Child, Command, SpawnError, find};
pub use elf::{BadElf, Program, Segment};
pub use endpoint::Endpoint;
pub use error::Error;
pub use handle::{Handle, Info};
pub use machine::{Device, Interrupt, Machine};
pub use memory::MemoryObject;
pub use message::Message;
pub use pager::{PageSource, Pager, PagerCounts, PagerOptions, WINDOW};
pub use process::{Area, End, Limits, Process, Usage};
pub use received::{Access, Event, Exception, LinuxCall, PageRequest, Received, ResolvedFault};
pub use registers::{Registers, VectorRegisters};
pub use reply::{Reply, SavedReply};
pub use sys::linux::now;
pub use sys::mapping::{Mapping, Pages};
pub use thread::Thread;

/// The way into the kernel with registers as they are, for programs that do what the types here would
/// not let them.
pub mod raw {
    pub use crate::sys::{Frame, enter_raw as enter};
}

/// Bytes of a page.
pub const PAGE: usize = 4096;

bitflags::bitflags! {
    /// What may be done with mapped memory, as `mmap` takes it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Prot: u32 {
        /// It may be read.
        const READ = 1;
        /// It may be written.
        const WRITE = 2;
        /// It may be executed.
        const EXEC = 4;
    }
}

bitflags::bitflags! {
    /// How memory is mapped, as `mmap` takes it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MapFlags: u32 {
        /// Writes go to the object.
        const SHARED = 0x01;
        /// Writes stay in the process.
        const PRIVATE = 0x02;
        /// At this address, in place of what is there.
        const FIXED = 0x10;
        /// No object: zeros.
        const ANONYMOUS = 0x20;
        /// At this address, or not at all.
        const FIXED_NOREPLACE = 0x10_0000;
    }
}
