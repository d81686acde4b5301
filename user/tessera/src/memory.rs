//! Memory objects: memory that is not part of a process, and can be mapped into several.

use crate::handle::kind_of_handle;
use crate::sys::linux;
use crate::sys::mapping::Mapping;
use crate::{Error, Handle, Prot};

/// A handle of a memory object, which is a file descriptor, too.
#[derive(Debug)]
pub struct MemoryObject(Handle);

kind_of_handle!(MemoryObject);

impl MemoryObject {
    /// A new object of `size` bytes of zeros. The name is for people who look at maps.
    ///
    /// # Errors
    /// The table of handles is full, or there is no memory.
    pub fn create(name: &str, size: u64) -> Result<Self, Error> {
        let object = Self(Handle::made(linux::memory_file(name)?));
        linux::resize(object.0.number(), size)?;
        Ok(object)
    }

    /// A new object with these contents.
    ///
    /// # Errors
    /// As [`MemoryObject::create`].
    pub fn with_contents(name: &str, contents: &[u8]) -> Result<Self, Error> {
        let object = Self::create(name, contents.len() as u64)?;
        object.write_at(0, contents)?;
        Ok(object)
    }

    /// Its size in bytes.
    ///
    /// # Errors
    /// It is no memory object.
    pub fn size(&self) -> Result<u64, Error> {
        linux::size(self.0.number())
    }

    /// Copies out of it; fewer bytes at its end.
    ///
    /// # Errors
    /// The handle lacks the rights.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        linux::read_at(self.0.number(), offset, buffer)
    }

    /// Copies into it.
    ///
    /// # Errors
    /// The handle lacks the rights, or there is no memory.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        linux::write_at(self.0.number(), offset, bytes)
    }

    /// Maps a part of it here, shared with everybody else who does.
    ///
    /// # Errors
    /// As `mmap`.
    pub fn map(&self, offset: u64, len: usize, prot: Prot) -> Result<Mapping, Error> {
        Mapping::new(self.0.number(), offset, len, prot)
    }
}
