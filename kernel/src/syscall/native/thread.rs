//! Calls on threads.

use abi::{Rights, registers};
use frame::slab::Ref;
use ipc::ready::{Priority, Runnable};
use sync::atomic::Ordering;

use super::{Answer, Call, add, done, process_of, thread_of};
use crate::arch::{Context, context};
use crate::errno::Errno;
use crate::handle::Object;
use crate::sched::{self, entity};
use crate::syscall::user;
use crate::thread::{Step, Thread, stop};

/// Rights of a handle that the calls here make.
const RIGHTS: Rights = Rights::DUPLICATE
    .union(Rights::TRANSFER)
    .union(Rights::READ)
    .union(Rights::WRITE)
    .union(Rights::CONTROL);
/// Words of the largest set of registers.
const WORDS: usize = context::VECTOR_WORDS;

/// `THREAD_CREATE`.
pub fn create(call: &Call<'_>) -> Answer {
    let process = process_of(call, Rights::CONTROL)?;
    let thread = Thread::new(&process)?;
    let context = thread.context();
    context.reset(call.arg(1), call.arg(2));
    context.set(0, call.arg(3));
    thread.stop().want();
    let answer = add(call, Object::Thread(thread.clone()), RIGHTS)?;
    if let Err(errno) = process.add_thread(&thread) {
        if let Step::Done(Ok(fd)) = answer {
            let closed = call.thread.process().close_handle(fd);
            drop(closed);
        }
        return Err(errno.into());
    }
    // It stops on its way to EL0.
    sched::make_runnable(thread);
    Ok(answer)
}

/// `THREAD_OPEN`.
pub fn open(call: &Call<'_>) -> Answer {
    let process = process_of(call, Rights::CONTROL)?;
    let number = u32::try_from(call.arg(1)).map_err(|_| Errno::ESRCH)?;
    let thread = process.thread(number).ok_or(Errno::ESRCH)?;
    add(call, Object::Thread(thread), RIGHTS)
}

fn alive(call: &Call<'_>) -> Result<Ref<Thread>, Errno> {
    let thread = thread_of(call, Rights::CONTROL)?;
    match thread.has_ended() {
        true => Err(Errno::ESRCH),
        false => Ok(thread),
    }
}

/// `THREAD_SUSPEND`.
pub fn suspend(call: &Call<'_>) -> Answer {
    let target = alive(call)?;
    match stop::suspend(call.thread, &target)? {
        true => Ok(Step::Gone),
        false => done(0),
    }
}

/// `THREAD_RESUME`.
pub fn resume(call: &Call<'_>) -> Answer {
    stop::resume(&alive(call)?);
    done(0)
}

/// `THREAD_PRIORITY`.
pub fn priority(call: &Call<'_>) -> Answer {
    let target = alive(call)?;
    let wanted = usize::try_from(call.arg(1)).ok();
    let wanted = wanted
        .and_then(Priority::from_number)
        .ok_or(Errno::EINVAL)?;
    // The machine's first program is where priorities come from.
    let root = call.thread.process().parent().is_none();
    if !root && wanted > call.thread.priority() {
        return Err(Errno::EPERM.into());
    }
    let before = target.priority();
    entity::set_priority(&target, wanted);
    done(before as u64)
}

/// A set of registers as words; how many there are.
fn registers_of(context: &Context, set: u64, words: &mut [u64; WORDS]) -> Result<usize, Errno> {
    match set {
        registers::GENERAL => {
            let all = context.general();
            words[..all.len()].copy_from_slice(&all);
            Ok(all.len())
        }
        registers::VECTOR => {
            *words = context.vector();
            Ok(WORDS)
        }
        registers::TLS => {
            words[0] = context.tpidr.load(Ordering::Relaxed);
            Ok(1)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The thread whose registers are meant. It must rest, and because somebody wants it to: its maker, or
/// whoever owes it an answer.
fn resting(call: &Call<'_>, rights: Rights) -> Result<Ref<Thread>, Errno> {
    let thread = thread_of(call, rights)?;
    let awaits = {
        let handles = call.thread.process().handles();
        let reply = handles.look(call.arg(0));
        call.arg(0) == abi::PEER
            || reply.is_ok_and(|handle| matches!(handle.object, Object::Reply(_)))
    };
    match thread.rests() && (awaits || thread.stop().is_wanted()) {
        true => Ok(thread),
        false => Err(Errno::EBUSY),
    }
}

fn to_bytes(words: &[u64; WORDS]) -> [u8; WORDS * 8] {
    let mut bytes = [0; WORDS * 8];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// `THREAD_READ`.
pub fn read(call: &Call<'_>) -> Answer {
    let thread = resting(call, Rights::READ)?;
    let mut words = [0; WORDS];
    let count = registers_of(thread.context(), call.arg(1), &mut words)? * 8;
    let count = call.arg(3).min(count as u64) as usize;
    let bytes = to_bytes(&words);
    // Written again where the map was in another's hands meanwhile.
    user::write(call.thread.process().space(), call.user(2), &bytes[..count])?;
    done(count as u64)
}

/// `THREAD_WRITE`.
pub fn write(call: &Call<'_>) -> Answer {
    let thread = resting(call, Rights::WRITE)?;
    let context = thread.context();
    let mut words = [0; WORDS];
    let count = registers_of(context, call.arg(1), &mut words)? * 8;
    let count = call.arg(3).min(count as u64) as usize;
    let mut bytes = to_bytes(&words);
    let space = call.thread.process().space();
    user::read(space, call.user(2), &mut bytes[..count])?;
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut le = [0; 8];
        le.copy_from_slice(chunk);
        *word = u64::from_le_bytes(le);
    }
    // It may have been woken while this was copied in.
    if !thread.rests() {
        return Err(Errno::EBUSY.into());
    }
    match call.arg(1) {
        registers::GENERAL => context.set_general(&words),
        registers::VECTOR => context.set_vector(&words),
        _ => context.tpidr.store(words[0], Ordering::Relaxed),
    }
    done(count as u64)
}
