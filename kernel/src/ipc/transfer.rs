//! Handles in messages.
//!
//! A message names handles by the sender's numbers; they become the receiver's when it has the
//! message. So a message that nobody receives takes nothing with it.

use abi::Rights;
use abi::message::{Tag, WORDS};

use crate::errno::Errno;
use crate::handle::{Handle, Object};
use crate::process::Process;

/// In place of a handle that could not be handed over.
const NOTHING: u64 = abi::NONE;

/// Checks that `process` has the handles that a message names, and may send them.
///
/// # Errors
/// `EBADF`; `EACCES` without [`Rights::TRANSFER`], or for an answer that is to be copied; `EINVAL` for
/// one that is to be both copied and moved.
pub fn check(tag: Tag, words: impl Fn(usize) -> u64, process: &Process) -> Result<(), Errno> {
    if tag.copies() & tag.moves() != 0 {
        return Err(Errno::EINVAL);
    }
    let handles = process.handles();
    for n in (0..WORDS).filter(|n| tag.handles() >> n & 1 != 0) {
        let handle = handles.look(words(n))?;
        may_go(handle, tag.moves() >> n & 1 != 0)?;
    }
    Ok(())
}

/// Hands the handles that a message names from one process to another. A word whose handle has gone,
/// or that there is no room for, becomes -1. What was to be moved has left the sender all the same: it
/// would not know that it has it still, and whoever makes its own table full could fill a server's.
pub fn carry(tag: Tag, words: &mut [u64; WORDS], from: &Process, to: &Process) {
    let handles = words.iter_mut().enumerate();
    for (n, word) in handles.filter(|(n, _)| tag.handles() >> n & 1 != 0) {
        let moved = tag.moves() >> n & 1 != 0;
        *word = hand_over(*word, moved, from, to).unwrap_or(NOTHING);
    }
}

fn hand_over(fd: u64, moved: bool, from: &Process, to: &Process) -> Result<u64, Errno> {
    let handle = if moved {
        // Out of the one table before it is in the other, so that nobody has it twice; and looked at
        // under the lock that it leaves under, since other threads of the sender may change what is
        // there.
        from.handles().close_if(fd, |handle| may_go(handle, true))?
    } else {
        let handle = from.handles().get(fd)?;
        may_go(&handle, false)?;
        handle
    };
    to.insert_native(handle)
}

/// Whether a message may take a handle with it.
fn may_go(handle: &Handle, moved: bool) -> Result<(), Errno> {
    let single = matches!(handle.object, Object::Reply(_));
    match handle.rights.contains(Rights::TRANSFER) && (moved || !single) {
        true => Ok(()),
        false => Err(Errno::EACCES),
    }
}
