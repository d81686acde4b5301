//! What a verb can answer instead of a result, and the errno it is.

use linux_raw_sys::errno;
use pgtable::{LockError, TableError};

use crate::object::ObjectError;

/// Why a change of a map was refused. Every case but [`MmError::Busy`] is the caller's to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MmError {
    /// Bad alignment, length, flag or combination.
    Invalid,
    /// No memory, no address range, too many areas, or a hole where a mapping was demanded.
    NoMemory,
    /// `MAP_FIXED_NOREPLACE` over an existing mapping.
    Exists,
    /// The old range of a remap is not one mapping.
    BadAddress,
    /// The lowest addresses cannot be mapped.
    NotPermitted,
    /// The mapping must not get these rights.
    Access,
    /// The object ends beyond what an offset can say.
    Overflow,
    /// What the descriptor stands for cannot be mapped.
    NoDevice,
    /// A flag that the object does not know, where it was asked to say so.
    NotSupported,
    /// Another change owns the map: park and begin again. Never seen by a program.
    Busy,
}

impl MmError {
    /// The positive errno of Linux.
    pub const fn errno(self) -> i32 {
        (match self {
            Self::Invalid => errno::EINVAL,
            Self::NoMemory => errno::ENOMEM,
            Self::Exists => errno::EEXIST,
            Self::BadAddress => errno::EFAULT,
            Self::NotPermitted => errno::EPERM,
            Self::Access => errno::EACCES,
            Self::Overflow => errno::EOVERFLOW,
            Self::NoDevice => errno::ENODEV,
            Self::NotSupported => errno::EOPNOTSUPP,
            Self::Busy => errno::EAGAIN,
        }) as i32
    }
}

impl From<TableError> for MmError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::NoMemory | TableError::Refused => Self::NoMemory,
            TableError::BadRange | TableError::Occupied => Self::Invalid,
        }
    }
}

impl From<LockError> for MmError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Table(error) => error.into(),
            LockError::Retired => Self::Busy,
        }
    }
}

impl From<ObjectError> for MmError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::NoMemory => Self::NoMemory,
            ObjectError::TooLarge => Self::Overflow,
            ObjectError::Sealed => Self::NotPermitted,
            ObjectError::Mapped | ObjectError::Busy | ObjectError::Absent => Self::Busy,
            ObjectError::Paged => Self::NotSupported,
        }
    }
}
