//! Handles: what a process may reach, and how (D8).
//!
//! A file descriptor is a slot of the process's table. The first program has the console in slots 0
//! to 2 and the handles of [`abi::slot`]; every other process has what it is given. Descriptors of
//! files belong to the personality server and are not in the kernel at all.
//!
//! The table's lock is a leaf, so a handle that is taken out of it is dropped after it has been
//! released: it may be the last that knows an object.

#[cfg(target_os = "none")]
pub mod changes;
#[cfg(target_os = "none")]
pub mod console;
pub mod grant;
pub mod memory;
pub mod paged;
#[cfg(target_os = "none")]
pub mod remove;
#[cfg(target_os = "none")]
pub mod segments;
pub mod table;
#[cfg(target_os = "none")]
pub mod transfer;

use abi::{Kind, Rights};
use frame::Frames;
use frame::slab::Ref;
use linux_raw_sys::general as linux;

use crate::errno::Errno;
use grant::Grant;
use memory::MemoryFile;
pub use table::{HandleTable, SLOTS, table};

#[cfg(target_os = "none")]
use crate::{
    ipc::{Port, reply::Saved},
    machine::{device::Device, interrupt::Interrupt},
    process::Process,
    thread::Thread,
};

/// Prepares the caches that tables and what is in them come from, once, at boot.
pub fn init(frames: &'static Frames) {
    table::init(frames);
    grant::init(frames);
    memory::init(frames);
}

/// What a slot can hold.
#[derive(Clone, Debug)]
pub enum Object {
    /// The serial console.
    Console {
        /// Status flags that `F_SETFL` may change (`O_APPEND`, `O_NONBLOCK`, …).
        status: u32,
    },
    /// A memory object, opened; duplicates share what is remembered about it.
    Memory(Ref<MemoryFile>),
    /// The machine itself.
    Machine,
    /// An endpoint, with the badge of this handle.
    #[cfg(target_os = "none")]
    Endpoint(Port),
    /// An answer that is owed.
    #[cfg(target_os = "none")]
    Reply(Ref<Saved>),
    /// A process.
    #[cfg(target_os = "none")]
    Process(Ref<Process>),
    /// A thread.
    #[cfg(target_os = "none")]
    Thread(Ref<Thread>),
    /// An interrupt.
    #[cfg(target_os = "none")]
    Interrupt(Ref<Interrupt>),
    /// Registers of a device.
    #[cfg(target_os = "none")]
    Device(Ref<Device>),
}

impl Object {
    /// What it is, as programs are told.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Console { .. } => Kind::Console,
            Self::Memory(_) => Kind::Memory,
            Self::Machine => Kind::Machine,
            #[cfg(target_os = "none")]
            Self::Endpoint(_) => Kind::Endpoint,
            #[cfg(target_os = "none")]
            Self::Reply(_) => Kind::Reply,
            #[cfg(target_os = "none")]
            Self::Process(_) => Kind::Process,
            #[cfg(target_os = "none")]
            Self::Thread(_) => Kind::Thread,
            #[cfg(target_os = "none")]
            Self::Interrupt(_) => Kind::Interrupt,
            #[cfg(target_os = "none")]
            Self::Device(_) => Kind::Device,
        }
    }
}

/// A handle: an object, what may be done with it, and what is remembered about it.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The object.
    pub object: Object,
    /// What may be done.
    pub rights: Rights,
    /// `FD_CLOEXEC`.
    pub close_on_exec: bool,
    /// By whose grace it is there, if that can end.
    pub grant: Option<Ref<Grant>>,
}

impl Handle {
    /// A handle of `object` that nobody can revoke.
    pub const fn new(object: Object, rights: Rights) -> Self {
        Self {
            object,
            rights,
            close_on_exec: false,
            grant: None,
        }
    }

    /// A handle that a Linux call makes: with every right that a descriptor has.
    pub const fn descriptor(object: Object, close_on_exec: bool) -> Self {
        let rights = Rights::DUPLICATE
            .union(Rights::TRANSFER)
            .union(Rights::READ)
            .union(Rights::WRITE)
            .union(Rights::EXEC);
        Self {
            object,
            rights,
            close_on_exec,
            grant: None,
        }
    }

    /// Whether it has not been revoked.
    pub fn is_live(&self) -> bool {
        self.grant.as_ref().is_none_or(|grant| grant.is_live())
    }

    /// From here on it is there by the grace of `grant`, which is new, and below the one that it had.
    pub fn put_under(&mut self, grant: Ref<Grant>) {
        #[cfg(target_os = "none")]
        if let Object::Endpoint(port) = &mut self.object {
            port.put_under(grant.clone());
        }
        self.grant = Some(grant);
    }

    /// The same with `rights` only.
    ///
    /// # Errors
    /// `EACCES` if it does not have them.
    pub fn limited(mut self, rights: Rights) -> Result<Self, Errno> {
        if !self.rights.contains(rights) {
            return Err(Errno::EACCES);
        }
        self.rights = rights;
        #[cfg(target_os = "none")]
        if let Object::Endpoint(port) = &mut self.object {
            port.limit(rights);
        }
        Ok(self)
    }

    /// Checks the rights.
    ///
    /// # Errors
    /// `EACCES`.
    pub fn allow(&self, rights: Rights) -> Result<&Object, Errno> {
        match self.rights.contains(rights) {
            true => Ok(&self.object),
            false => Err(Errno::EACCES),
        }
    }

    /// Access mode and status flags, as `F_GETFL` answers.
    pub fn flags(&self) -> u32 {
        match &self.object {
            Object::Console { status } => linux::O_RDWR | status,
            Object::Memory(file) if !self.rights.contains(Rights::WRITE) => {
                file.flags() & !linux::O_ACCMODE | linux::O_RDONLY
            }
            Object::Memory(file) => file.flags(),
            _ => linux::O_RDWR,
        }
    }

    /// Sets status flags, of those that may be changed.
    pub fn set_status(&mut self, flags: u32) {
        match &mut self.object {
            Object::Console { status } => *status = flags,
            Object::Memory(file) => file.set_status(flags),
            _ => {}
        }
    }

    /// The memory object.
    ///
    /// # Errors
    /// `other` for what is none.
    pub fn file(&self, other: Errno) -> Result<&Ref<MemoryFile>, Errno> {
        match &self.object {
            Object::Memory(file) => Ok(file),
            _ => Err(other),
        }
    }

    /// Whether it may be written: by its rights, and as it was opened.
    pub fn may_write(&self, file: &MemoryFile) -> bool {
        self.rights.contains(Rights::WRITE) && file.is_writable()
    }
}
