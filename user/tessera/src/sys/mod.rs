//! Everything that is not safe Rust: the instruction that enters the kernel, memory that it maps,
//! and what is asked of Linux's calls.
//!
//! [`call`] is safe because it refuses the calls that are given addresses of this process; each of
//! these has a function of its own that takes a slice. What a process can do to itself through a
//! handle of itself (unmap its own memory, say) is beyond what Rust can promise, as `/proc/self/mem`
//! is on Linux.

pub mod linux;
pub mod mapping;

use abi::calls;

use crate::Error;

/// Registers of a call: what goes in, and what comes out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame {
    /// `x0` to `x7`.
    pub x: [u64; 8],
    /// Time-out in, badge out.
    pub x9: u64,
    /// Number of the sender out.
    pub x10: u64,
}

impl Frame {
    /// Arguments from `x0` on, and nothing else.
    #[inline]
    pub fn new<const N: usize>(arguments: [u64; N]) -> Self {
        let mut frame = Self::default();
        frame.x[..N].copy_from_slice(&arguments);
        frame
    }

    /// The same with a time-out.
    #[must_use]
    #[inline]
    pub const fn within(self, nanoseconds: u64) -> Self {
        Self {
            x9: nanoseconds,
            ..self
        }
    }
}

/// Calls that read or write the caller's memory.
const fn takes_address(number: u64) -> bool {
    matches!(
        number,
        calls::INFO
            | calls::MEMORY_READ
            | calls::MEMORY_WRITE
            | calls::THREAD_READ
            | calls::THREAD_WRITE
            | calls::PAGER_SUPPLY
            | calls::PAGER_DIRTY
    )
}

/// Makes a call that is given no address of this process. `x0` is the result.
///
/// # Errors
/// Those of the call.
///
/// # Panics
/// The call takes an address.
#[inline(always)]
pub fn call(number: u64, frame: &mut Frame) -> Result<u64, Error> {
    assert!(!takes_address(number), "call {number} takes an address");
    // SAFETY: it does not take an address, so no memory of ours is touched.
    unsafe { enter(number, frame) }
}

/// [`call`] with nothing but arguments, for the result in `x0`.
///
/// # Errors
/// Those of the call.
#[inline]
pub fn control<const N: usize>(number: u64, arguments: [u64; N]) -> Result<u64, Error> {
    call(number, &mut Frame::new(arguments))
}

/// `MEMORY_READ` and `THREAD_READ`: fills the buffer as far as there is something, and returns how far.
///
/// # Errors
/// Those of the call.
pub fn read(number: u64, what: u64, from: u64, buffer: &mut [u8]) -> Result<usize, Error> {
    assert!(matches!(number, calls::MEMORY_READ | calls::THREAD_READ));
    let (at, len) = (buffer.as_mut_ptr() as u64, buffer.len() as u64);
    // SAFETY: the kernel writes at most `len` bytes to the buffer, which is ours alone.
    let got = unsafe { enter(number, &mut Frame::new([what, from, at, len])) };
    got.map(|bytes| bytes as usize)
}

/// `MEMORY_WRITE` and `THREAD_WRITE`: writes as much of the buffer as there is room for, and returns
/// how much.
///
/// # Errors
/// Those of the call.
pub fn write(number: u64, what: u64, to: u64, buffer: &[u8]) -> Result<usize, Error> {
    assert!(matches!(number, calls::MEMORY_WRITE | calls::THREAD_WRITE));
    let (at, len) = (buffer.as_ptr() as u64, buffer.len() as u64);
    // SAFETY: the kernel reads at most `len` bytes of the buffer.
    let got = unsafe { enter(number, &mut Frame::new([what, to, at, len])) };
    got.map(|bytes| bytes as usize)
}

/// `PAGER_SUPPLY`: moves pages of the buffer into an object; what has been moved is zeros afterwards.
///
/// # Errors
/// Those of the call.
pub fn supply(object: u64, offset: u64, pages: &mut [u8]) -> Result<usize, Error> {
    let (at, len) = (pages.as_mut_ptr() as u64, pages.len() as u64);
    let mut frame = Frame::new([object, offset, at, len]);
    // SAFETY: pages are taken out of the buffer, which is ours alone, and read as zeros from then on.
    let got = unsafe { enter(calls::PAGER_SUPPLY, &mut frame) };
    got.map(|bytes| bytes as usize)
}

/// `PAGER_DIRTY`: sets a bit of the bitmap for each page that was written; how many they are.
///
/// # Errors
/// Those of the call.
///
/// # Panics
/// The bitmap is too short for the range.
pub fn dirty(object: u64, offset: u64, len: u64, bitmap: &mut [u64]) -> Result<u64, Error> {
    let pages = len.div_ceil(crate::PAGE as u64);
    assert!(
        pages <= 64 * bitmap.len() as u64,
        "a bitmap for fewer pages"
    );
    let mut frame = Frame::new([object, offset, len, bitmap.as_mut_ptr() as u64]);
    // SAFETY: the kernel writes a bit for each page of the range, for which there is room.
    unsafe { enter(calls::PAGER_DIRTY, &mut frame) }
}

/// Enters the kernel and tells an error from a result.
///
/// # Safety
/// As [`enter_raw`].
#[inline(always)]
unsafe fn enter(number: u64, frame: &mut Frame) -> Result<u64, Error> {
    // SAFETY: memory is the caller's promise.
    unsafe { enter_raw(number, frame) };
    let result = frame.x[0] as i64;
    match result {
        -4095..=-1 => Err(failed(result)),
        _ => Ok(frame.x[0]),
    }
}

/// Out of line: what calls are made of is not to carry it along.
#[cold]
#[inline(never)]
fn failed(result: i64) -> Error {
    Error::from_number(-result as i32)
}

/// Enters the kernel: `svc #1` with the number in `x8`. The result is in `x0`.
///
/// # Safety
/// The caller answers for what the call does to memory of this process.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub unsafe fn enter_raw(number: u64, frame: &mut Frame) {
    // SAFETY: the kernel changes no other registers; memory is the caller's promise.
    unsafe {
        core::arch::asm!("svc #1", in("x8") number,
            inlateout("x0") frame.x[0], inlateout("x1") frame.x[1], inlateout("x2") frame.x[2],
            inlateout("x3") frame.x[3], inlateout("x4") frame.x[4], inlateout("x5") frame.x[5],
            inlateout("x6") frame.x[6], inlateout("x7") frame.x[7],
            inlateout("x9") frame.x9, inlateout("x10") frame.x10,
            lateout("x11") _, lateout("x12") _, lateout("x13") _, lateout("x14") _,
            lateout("x15") _, lateout("x16") _, lateout("x17") _,
            options(nostack));
    }
}

/// There is no Tessera below programs of other machines.
///
/// # Safety
/// None is needed.
#[cfg(not(target_arch = "aarch64"))]
pub unsafe fn enter_raw(_number: u64, frame: &mut Frame) {
    frame.x[0] = i64::from(-libc::ENOSYS) as u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_that_speaks_of_memory_here_is_refused() {
        for call in calls::TABLE {
            let here = ["buffer", "address here", "address", "bitmap"];
            // MEMORY_MAP and its kin name addresses of the other process.
            let theirs = matches!(
                call.number,
                calls::WATCH
                    | calls::MARK
                    | calls::MEMORY_MAP
                    | calls::MEMORY_UNMAP
                    | calls::MEMORY_PROTECT
                    | calls::MEMORY_BRK
            );
            let addressed = call
                .arguments
                .split(", ")
                .any(|argument| here.contains(&argument) || argument == "addr");
            assert_eq!(
                takes_address(call.number),
                addressed && !theirs,
                "{}",
                call.name
            );
        }
    }
}
