//! Error numbers of system calls, and how a result travels in `x0`.

use linux_raw_sys::errno;
use mm::object::ObjectError;

/// A positive error number of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(u32);

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        impl Errno {
            $($(#[$doc])* pub const $name: Self = Self(errno::$name);)+
        }
    };
}

names! {
    /// Operation not permitted.
    EPERM,
    /// No such file.
    ENOENT,
    /// No such thread or process.
    ESRCH,
    /// No such place in a file.
    ENXIO,
    /// Interrupted.
    EINTR,
    /// Argument list too long.
    E2BIG,
    /// Bad file descriptor.
    EBADF,
    /// Try again.
    EAGAIN,
    /// Out of memory.
    ENOMEM,
    /// Permission denied.
    EACCES,
    /// Bad address.
    EFAULT,
    /// In use.
    EBUSY,
    /// There already.
    EEXIST,
    /// Over a limit.
    EDQUOT,
    /// Nobody is at the other end.
    EPIPE,
    /// No such device.
    ENODEV,
    /// Invalid argument.
    EINVAL,
    /// Too many open files.
    EMFILE,
    /// Not a terminal.
    ENOTTY,
    /// File too large.
    EFBIG,
    /// No room left.
    ENOSPC,
    /// Illegal seek.
    ESPIPE,
    /// Result out of range.
    ERANGE,
    /// Would deadlock.
    EDEADLK,
    /// Name too long.
    ENAMETOOLONG,
    /// No such system call.
    ENOSYS,
    /// Operation not supported.
    EOPNOTSUPP,
    /// Timed out.
    ETIMEDOUT,
}

/// What a system call answers.
pub type SysResult = Result<u64, Errno>;

impl Errno {
    /// An error number from elsewhere; `EINVAL` for what is none.
    pub const fn new(number: i32) -> Self {
        if number > 0 && number < 4096 {
            Self(number as u32)
        } else {
            Self::EINVAL
        }
    }

    /// The number, positive.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The value of `x0`: the negative number.
    pub const fn to_register(self) -> u64 {
        (self.0 as u64).wrapping_neg()
    }
}

impl From<mm::MmError> for Errno {
    fn from(error: mm::MmError) -> Self {
        Self::new(error.errno())
    }
}

impl From<ObjectError> for Errno {
    /// What calls on files answer. [`ObjectError::Busy`] and [`ObjectError::Absent`] are waited for
    /// and never a program's to see.
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::NoMemory => Self::ENOSPC,
            ObjectError::TooLarge => Self::EFBIG,
            ObjectError::Sealed => Self::EPERM,
            ObjectError::Mapped => Self::EBUSY,
            ObjectError::Busy | ObjectError::Absent => Self::EAGAIN,
            ObjectError::Paged => Self::EOPNOTSUPP,
        }
    }
}

/// The value of `x0` for a result.
pub const fn register(result: SysResult) -> u64 {
    match result {
        Ok(value) => value,
        Err(errno) => errno.to_register(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_small_negative_numbers() {
        assert_eq!(register(Err(Errno::EFAULT)) as i64, -14);
        assert_eq!(register(Err(Errno::ENOSYS)) as i64, -38);
        assert_eq!(register(Ok(7)), 7);
    }

    #[test]
    fn what_is_no_error_number_becomes_einval() {
        assert_eq!(Errno::new(0), Errno::EINVAL);
        assert_eq!(Errno::new(-14), Errno::EINVAL);
        assert_eq!(Errno::new(5000), Errno::EINVAL);
        assert_eq!(Errno::new(12), Errno::ENOMEM);
    }
}
