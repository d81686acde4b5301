//! Signals: who wants which, and delivering them as Linux does on arm64. Only those that a fault of
//! the thread itself raises; what programs send each other is not served.

use std::collections::HashMap;

use tessera::{
    Area, Error, Exception, MapFlags, MemoryObject, PAGE, Process, Prot, Registers, Reply,
};

use crate::frame::{CONTEXT, Interrupted, SIZE};
use crate::{word, words};

/// Signals are numbered from 1 to this.
const SIGNALS: u64 = 64;
/// Handlers up to this are none: the default action, and to ignore it.
const IGNORE: u64 = 1;
/// SIGKILL and SIGSTOP, which nobody can block or handle.
const UNSTOPPABLE: u64 = 1 << 8 | 1 << 18;

/// Flags of an action.
mod flag {
    pub const RESTORER: u64 = 0x0400_0000;
    pub const ONSTACK: u64 = 0x0800_0000;
    pub const NODEFER: u64 = 0x4000_0000;
    pub const RESETHAND: u64 = 0x8000_0000;
}

/// `SS_DISABLE`: there is no alternate stack.
const DISABLED: u64 = 2;

/// `struct sigaction` as the call takes it.
#[derive(Clone, Copy, Default)]
struct Action {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// What belongs to a thread.
#[derive(Clone, Copy)]
struct Thread {
    mask: u64,
    stack: [u64; 3],
}

impl Default for Thread {
    fn default() -> Self {
        let stack = [0, DISABLED, 0];
        Self { mask: 0, stack }
    }
}

/// The signals of a program.
pub struct Signals<'a> {
    process: &'a Process,
    actions: [Action; SIGNALS as usize + 1],
    threads: HashMap<u64, Thread>,
    /// Where a handler returns to that names no place itself.
    trampoline: u64,
}

const fn bit(signal: u64) -> u64 {
    1 << (signal - 1)
}

impl<'a> Signals<'a> {
    /// No handlers yet.
    pub fn new(process: &'a Process) -> Result<Self, Error> {
        Ok(Self {
            process,
            actions: [Action::default(); SIGNALS as usize + 1],
            threads: HashMap::new(),
            trampoline: map_trampoline(process)?,
        })
    }

    /// `rt_sigaction(signal, new, old, 8)`.
    pub fn action(&mut self, [signal, new, old, size, ..]: [u64; 6]) -> Result<u64, Error> {
        let known = (1..=SIGNALS).contains(&signal) && size == 8;
        if !known || new != 0 && bit(signal) & UNSTOPPABLE != 0 {
            return Err(Error::Invalid);
        }
        let action = self.actions[signal as usize];
        if new != 0 {
            let [handler, flags, restorer, mask] = words(self.process, new)?;
            self.actions[signal as usize] = Action {
                handler,
                flags,
                restorer,
                mask,
            };
        }
        if old != 0 {
            let words = [action.handler, action.flags, action.restorer, action.mask];
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            self.process.write_memory(old, &bytes)?;
        }
        Ok(0)
    }

    /// `rt_sigprocmask(how, new, old, 8)`.
    pub fn mask(&mut self, thread: u64, call: [u64; 6]) -> Result<u64, Error> {
        let [how, new, old, size, ..] = call;
        let mask = &mut self.threads.entry(thread).or_default().mask;
        let before = *mask;
        if size != 8 {
            return Err(Error::Invalid);
        }
        if new != 0 {
            let set = word(self.process, new)?;
            let after = match how as u32 {
                0 => before | set,
                1 => before & !set,
                2 => set,
                _ => return Err(Error::Invalid),
            };
            *mask = after & !UNSTOPPABLE;
        }
        if old != 0 {
            self.process.write_memory(old, &before.to_le_bytes())?;
        }
        Ok(0)
    }

    /// Remembers what `sigaltstack(new, …)` is about to set. The kernel judges whether it may.
    pub fn note_stack(&mut self, thread: u64, new: u64) {
        if new != 0
            && let Ok(stack) = words(self.process, new)
        {
            self.threads.entry(thread).or_default().stack = stack;
        }
    }

    /// Calls the handler for an exception, or passes it back if there is none.
    pub fn deliver(
        &mut self,
        thread: u64,
        exception: &Exception,
        reply: Reply,
    ) -> Result<(), Error> {
        let signal = u64::from(exception.signal);
        let state = self.threads.entry(thread).or_default();
        let action = self.actions[signal as usize];
        if action.handler <= IGNORE || state.mask & bit(signal) != 0 {
            return reply.pass();
        }
        let interrupted = Interrupted {
            signal: (exception.signal, exception.code, exception.address),
            stack: state.stack,
            mask: state.mask,
            registers: reply.registers()?,
            vectors: reply.vector_registers()?,
        };
        let Some(registers) = push(self.process, &interrupted, &action, self.trampoline) else {
            return reply.pass();
        };
        let itself = match action.flags & flag::NODEFER {
            0 => bit(signal),
            _ => 0,
        };
        state.mask |= action.mask & !UNSTOPPABLE | itself;
        if action.flags & flag::RESETHAND != 0 {
            self.actions[signal as usize].handler = 0;
        }
        println!(
            "persona: signal {signal} for address {:#x}",
            exception.address
        );
        reply.set_registers(&registers)?;
        reply.resume()
    }

    /// `rt_sigreturn()`: back to what was interrupted, as the handler has left it.
    pub fn go_back(&mut self, thread: u64, reply: Reply) -> Result<(), Error> {
        let mut bytes = vec![0; SIZE];
        let sp = reply.registers()?.sp;
        let count = self.process.read_memory(sp, &mut bytes).unwrap_or(0);
        let Some(interrupted) = Interrupted::from_bytes(&bytes[..count]) else {
            return reply.kill(SIGSEGV, SI_KERNEL);
        };
        self.threads.entry(thread).or_default().mask = interrupted.mask & !UNSTOPPABLE;
        reply.set_registers(&interrupted.registers)?;
        reply.set_vector_registers(&interrupted.vectors)?;
        reply.resume()
    }
}

/// What a thread dies of that returns from a handler without a frame.
const SIGSEGV: u32 = 11;
const SI_KERNEL: i32 = 0x80;

/// Puts the frame on the stack and returns the registers that the handler begins with; none if there
/// is no room.
fn push(
    process: &Process,
    interrupted: &Interrupted,
    action: &Action,
    trampoline: u64,
) -> Option<Registers> {
    let old = &interrupted.registers;
    let [base, flags, len] = interrupted.stack;
    let is_on_it = (base..base.saturating_add(len)).contains(&old.sp);
    let switch = action.flags & flag::ONSTACK != 0 && flags & DISABLED == 0 && !is_on_it;
    let top = match switch {
        true => base.checked_add(len)?,
        false => old.sp,
    };
    let record = top.checked_sub(16)? & !15;
    let sp = record.checked_sub(SIZE as u64)?;
    let mut bytes = interrupted.frame();
    bytes.extend(old.x[29].to_le_bytes());
    bytes.extend(old.x[30].to_le_bytes());
    process.write_memory(sp, &bytes).ok()?;
    let mut registers = *old;
    registers.x[0] = u64::from(interrupted.signal.0);
    registers.x[1] = sp;
    registers.x[2] = sp + CONTEXT;
    registers.x[29] = record;
    registers.x[30] = match action.flags & flag::RESTORER {
        0 => trampoline,
        _ => action.restorer,
    };
    registers.sp = sp;
    registers.pc = action.handler;
    Some(registers)
}

/// Two instructions that make the call `rt_sigreturn`, in a page of the program's.
fn map_trampoline(process: &Process) -> Result<u64, Error> {
    const CODE: [u32; 2] = [0xd280_1168, 0xd400_0001]; // mov x8, #139; svc #0
    let bytes: Vec<u8> = CODE.iter().flat_map(|word| word.to_le_bytes()).collect();
    let page = MemoryObject::create("sigreturn", PAGE as u64)?;
    page.write_at(0, &bytes)?;
    process.map(&Area {
        address: 0,
        len: PAGE as u64,
        prot: Prot::READ | Prot::EXEC,
        flags: MapFlags::PRIVATE,
        object: Some((page.as_ref(), 0)),
    })
}
