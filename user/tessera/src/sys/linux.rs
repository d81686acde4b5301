//! What is asked of Linux's calls, which the kernel answers too: files in memory, the clock, what
//! the program was told at its start.

use std::ffi::CString;

use crate::Error;

/// The error number that the last call left.
fn last() -> Error {
    let error = std::io::Error::last_os_error();
    Error::from_number(error.raw_os_error().unwrap_or(libc::EINVAL))
}

fn check(result: isize) -> Result<u64, Error> {
    u64::try_from(result).map_err(|_| last())
}

/// A new file in memory: its descriptor, which is a handle.
///
/// # Errors
/// The table of handles is full, or there is no memory.
#[cfg(target_os = "linux")]
pub fn memory_file(name: &str) -> Result<u64, Error> {
    let name = CString::new(name).map_err(|_| Error::Invalid)?;
    // SAFETY: the name is a string that ends with NUL.
    check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) } as isize)
}

/// Other systems have no such files.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn memory_file(_name: &str) -> Result<u64, Error> {
    Err(Error::NoCall)
}

/// Gives a file in memory a size in bytes.
///
/// # Errors
/// As `ftruncate`.
pub fn resize(file: u64, size: u64) -> Result<(), Error> {
    // SAFETY: nothing of ours that is not read as shared memory is mapped from such files.
    check(unsafe { libc::ftruncate(file as i32, size as i64) } as isize).map(drop)
}

/// Size of a file in bytes.
///
/// # Errors
/// It is no file.
pub fn size(file: u64) -> Result<u64, Error> {
    // SAFETY: only the position of the descriptor changes, which nothing here uses.
    check(unsafe { libc::lseek(file as i32, 0, libc::SEEK_END) } as isize)
}

/// Reads from a place of a file; fewer bytes at its end.
///
/// # Errors
/// As `pread`.
pub fn read_at(file: u64, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
    let at = buffer.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most the buffer's length to the buffer.
    let got = unsafe { libc::pread(file as i32, at, buffer.len(), offset as i64) };
    check(got).map(|bytes| bytes as usize)
}

/// Writes all bytes to a place of a file.
///
/// # Errors
/// As `pwrite`.
pub fn write_at(file: u64, mut offset: u64, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        let from = bytes.as_ptr().cast();
        // SAFETY: the kernel reads the bytes.
        let got = unsafe { libc::pwrite(file as i32, from, bytes.len(), offset as i64) };
        let got = check(got)? as usize;
        (offset, bytes) = (offset + got as u64, &bytes[got..]);
    }
    Ok(())
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes to `time`. This clock always works.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A value of the vector that the program was given at its start; 0 if it is not there.
#[cfg(target_os = "linux")]
pub fn auxiliary(key: u64) -> u64 {
    // SAFETY: the library looks the value up.
    unsafe { libc::getauxval(key as libc::c_ulong) as u64 }
}

/// Other systems have no such vector.
#[cfg(not(target_os = "linux"))]
pub fn auxiliary(_key: u64) -> u64 {
    0
}
