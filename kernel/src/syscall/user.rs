//! Reading and writing small things in user memory, whole or not at all.

use arm64::UserAddr;
use mm::{Access, CopyStop};

use super::{Answer, Call};
use crate::errno::Errno;
use crate::memory::Space;
use crate::thread::Resume;
use crate::thread::resume::{Completion, Stop};

/// Longest path, its NUL included (`PATH_MAX`).
const PATH_MAX: u64 = 4096;

/// Reads `bytes` from `at`, across pages.
///
/// # Errors
/// [`CopyStop`].
pub fn read(space: &Space, at: UserAddr, bytes: &mut [u8]) -> Result<(), CopyStop> {
    let mut done = 0;
    while done < bytes.len() {
        done += space.copy_in(at.further(done as u64), &mut bytes[done..])?;
    }
    Ok(())
}

/// Reads `N` consecutive 64-bit words (at most 8) from `at`.
///
/// # Errors
/// [`CopyStop`].
pub fn read_words<const N: usize>(space: &Space, at: UserAddr) -> Result<[u64; N], CopyStop> {
    const { assert!(N <= 8) };
    let mut bytes = [0; 64];
    read(space, at, &mut bytes[..N * 8])?;
    let mut words = [0; N];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut le = [0; 8];
        le.copy_from_slice(chunk);
        *word = u64::from_le_bytes(le);
    }
    Ok(words)
}

/// Loads an aligned word, faulting it in.
///
/// # Errors
/// [`CopyStop`].
pub fn load_u32(space: &Space, at: UserAddr) -> Result<u32, CopyStop> {
    loop {
        match space.load_u32(at) {
            Err(CopyStop::Miss) => space.touch(at.va(), Access::Read)?,
            other => return other,
        }
    }
}

/// Writes all of `bytes` to `at`, across pages. For effects that may be repeated: after
/// [`CopyStop::Busy`] the call is made again.
///
/// # Errors
/// [`CopyStop`].
pub fn write(space: &Space, at: UserAddr, bytes: &[u8]) -> Result<(), CopyStop> {
    let mut done = 0;
    while done < bytes.len() {
        done += space.copy_out(at.further(done as u64), &bytes[done..])?;
    }
    Ok(())
}

/// As [`complete`], where there has to be an address.
///
/// # Errors
/// `EFAULT` too.
pub fn complete_at(call: &Call<'_>, at: UserAddr, bytes: &[u8], value: u64) -> Answer {
    match at.is_null() {
        true => Err(Errno::EFAULT.into()),
        false => complete(call, at, bytes, value),
    }
}

/// Ends a call that has results in memory: writes `bytes`, at most [`Completion::MAX`], to `at`
/// and returns `value`. A null `at` is nowhere. The effects of the call stay even if the address
/// has gone.
pub fn complete(call: &Call<'_>, at: UserAddr, bytes: &[u8], value: u64) -> Answer {
    if at.is_null() {
        return super::done(value);
    }
    let mut done = 0;
    while done < bytes.len() {
        let rest = at.further(done as u64);
        match call.thread.process().space().copy_out(rest, &bytes[done..]) {
            Ok(count) => done += count,
            Err(CopyStop::Busy) => {
                let rest = Completion::new(rest, &bytes[done..], value);
                return Ok(call.thread.busy(Resume::Complete(rest)));
            }
            Err(stop) => return Err(stop.into()),
        }
    }
    super::done(value)
}

/// The little-endian bytes of some words, for [`complete`].
pub fn bytes_of<const N: usize, const B: usize>(words: [u64; N]) -> [u8; B] {
    const { assert!(N * 8 == B) };
    let mut bytes = [0; B];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Reads through a path, as a call that looks it up would. Whether it is empty.
///
/// # Errors
/// `EFAULT`, `ENAMETOOLONG`.
pub fn check_path(space: &Space, at: UserAddr) -> Result<bool, Stop> {
    let mut seen = 0;
    let mut bytes = [0; 256];
    while seen < PATH_MAX {
        let count = space.copy_in(at.further(seen), &mut bytes)?;
        if let Some(end) = bytes[..count].iter().position(|&byte| byte == 0) {
            return match seen + end as u64 {
                length if length < PATH_MAX => Ok(length == 0),
                _ => Err(Errno::ENAMETOOLONG.into()),
            };
        }
        seen += count as u64;
    }
    Err(Errno::ENAMETOOLONG.into())
}

/// Reads a path, as [`check_path`] does. None: it is longer than `bytes`.
///
/// # Errors
/// `EFAULT`, `ENAMETOOLONG`.
pub fn read_path<'a>(
    space: &Space,
    at: UserAddr,
    bytes: &'a mut [u8],
) -> Result<Option<&'a [u8]>, Stop> {
    check_path(space, at)?;
    let mut seen = 0;
    while seen < bytes.len() {
        let count = space.copy_in(at.further(seen as u64), &mut bytes[seen..])?;
        let end = bytes[seen..seen + count].iter().position(|&byte| byte == 0);
        if let Some(end) = end {
            return Ok(Some(&bytes[..seen + end]));
        }
        seen += count;
    }
    Ok(None)
}

/// A `struct timespec` as nanoseconds.
///
/// # Errors
/// `EFAULT`; `EINVAL` for negative seconds or nanoseconds out of range.
pub fn read_timespec(space: &Space, at: UserAddr) -> Result<u64, Stop> {
    let [seconds, nanos] = read_words::<2>(space, at)?;
    if seconds as i64 >= 0 && nanos < 1_000_000_000 {
        return Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanos));
    }
    Err(Errno::EINVAL.into())
}
