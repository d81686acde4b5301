//! Opened memory objects: what `memfd_create` makes, and texts of the kernel's that are read as
//! files.

use frame::slab::{Cache, Ref};
use linux_raw_sys::general as linux;
use mm::object::MemObject;
use sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::paged::Listed;
use crate::errno::Errno;

static FILES: Cache<MemoryFile> = Cache::new("memory file");

/// Prepares the cache that they come from, once, at boot.
pub fn init(frames: &'static frame::Frames) {
    FILES.init(frames);
}

/// What an opened object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory, for reading, writing and mapping.
    Memory {
        /// Permission bits.
        mode: u32,
    },
    /// A text of the kernel's, for reading.
    Text,
}

/// An open file description: its duplicates share offset and flags.
pub struct MemoryFile {
    object: Ref<MemObject>,
    kind: Kind,
    offset: AtomicU64,
    status: AtomicU32,
    _listed: Option<Listed>,
}

/// A stretch of the file that a transfer has moved the offset over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}

impl MemoryFile {
    /// Opens `object`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn open(object: Ref<MemObject>, kind: Kind) -> Result<Ref<Self>, Errno> {
        let listed = match object.is_paged() {
            true => Some(Listed::new(&object)?),
            false => None,
        };
        let file = Self {
            object,
            _listed: listed,
            kind,
            offset: AtomicU64::new(0),
            status: AtomicU32::new(0),
        };
        FILES.alloc_ref(file).map_err(|_| Errno::ENOMEM)
    }

    /// The object.
    pub fn object(&self) -> &Ref<MemObject> {
        &self.object
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it was opened for writing.
    pub fn is_writable(&self) -> bool {
        self.is_mappable()
    }

    /// Whether it can be mapped.
    pub fn is_mappable(&self) -> bool {
        matches!(self.kind, Kind::Memory { .. })
    }

    /// Access mode and status flags.
    pub fn flags(&self) -> u32 {
        let mode = match self.kind {
            Kind::Memory { .. } => linux::O_RDWR,
            Kind::Text => linux::O_RDONLY,
        };
        mode | linux::O_LARGEFILE | self.status.load(Ordering::Relaxed)
    }

    /// Sets the status flags.
    pub fn set_status(&self, flags: u32) {
        self.status.store(flags, Ordering::Relaxed);
    }

    /// Whether writes go to the end.
    pub fn appends(&self) -> bool {
        self.status.load(Ordering::Relaxed) & linux::O_APPEND != 0
    }

    /// Where the next read or write begins.
    pub fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// Sets that.
    pub fn seek(&self, offset: u64) {
        self.offset.store(offset, Ordering::Relaxed);
    }

    /// Moves the offset over up to `len` bytes that there are to read, so that no other thread
    /// reads them too.
    pub fn claim_read(&self, len: u64) -> Claim {
        self.claim(|offset| Claim {
            start: offset,
            len: self.object.size().saturating_sub(offset).min(len),
        })
    }

    /// Moves the offset over `len` bytes that are going to be written.
    pub fn claim_write(&self, len: u64) -> Claim {
        self.claim(|offset| Claim {
            start: match self.appends() {
                true => self.object.size(),
                false => offset,
            },
            len,
        })
    }

    fn claim(&self, choose: impl Fn(u64) -> Claim) -> Claim {
        loop {
            let offset = self.offset();
            let claim = choose(offset);
            let end = claim.start.saturating_add(claim.len);
            let (order, retry) = (Ordering::Relaxed, Ordering::Relaxed);
            let moved = self.offset.compare_exchange(offset, end, order, retry);
            if moved.is_ok() {
                return claim;
            }
        }
    }

    /// A transfer over `claim` has ended after `done` bytes: the offset goes back to there, unless
    /// somebody else has moved it.
    pub fn settle(&self, claim: Claim, done: u64) {
        let end = claim.start.saturating_add(claim.len);
        let (order, stop) = (Ordering::Relaxed, claim.start + done);
        // Whoever has moved it meanwhile knows better.
        let _ = self.offset.compare_exchange(end, stop, order, order);
    }
}

impl core::fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "MemoryFile({:?} at {})", self.object, self.offset())
    }
}
