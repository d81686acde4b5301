//! What is typed at the serial console, for programs, for the prompt and for the host-side reader.
//!
//! Bytes are taken from the UART when it interrupts and wait in a small ring. Who listens decides
//! what becomes of them: a waiting host-side reader, the prompt between programs, else the program
//! by reading descriptor 0. As on a terminal, a carriage return is a line end (ICRNL), and Ctrl-D is
//! the end of the input: a program that has read what came before it reads no more.

use frame::slab::Ref;
use sync::atomic::{AtomicU8, Ordering};
use sync::{Queue, SpinLock, rank};

use crate::arch::uart;
use crate::prompt;
use crate::sched::wait::{self, Limit, Place};
use crate::thread::Thread;

const RING: usize = 1024;
/// Ctrl-D: the end of the input. The tools send it when their own input ends.
const END: u8 = 4;

/// Who gets what is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Listener {
    /// The program, through descriptor 0.
    Program = 0,
    /// The prompt.
    Prompt = 1,
    /// The kernel, which waits for a line end.
    Kernel = 2,
}

static LISTENER: AtomicU8 = AtomicU8::new(Listener::Program as u8);

struct Ring {
    bytes: [u8; RING],
    head: usize,
    len: usize,
    /// The program's input has come to its end.
    ended: bool,
}

static INPUT: SpinLock<Ring, rank::Leaf> = SpinLock::new(Ring {
    bytes: [0; RING],
    head: 0,
    len: 0,
    ended: false,
});
static WAITING: SpinLock<Queue<Ref<Thread>>, rank::Endpoint> = SpinLock::new(Queue::new());

impl Ring {
    fn is_full(&self) -> bool {
        self.len == RING
    }

    /// There is room: see [`pump`].
    fn push(&mut self, byte: u8) {
        if !self.is_full() {
            self.bytes[(self.head + self.len) % RING] = byte;
            self.len += 1;
        }
    }

    fn pop(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.head)?;
        self.len = self.len.checked_sub(1)?;
        self.head = (self.head + 1) % RING;
        Some(byte)
    }
}

/// Chooses who gets what is typed from now on.
pub fn listen(listener: Listener) {
    INPUT.lock().ended = false;
    LISTENER.store(listener as u8, Ordering::Relaxed);
}

/// Who gets it now.
pub fn listener() -> Listener {
    match LISTENER.load(Ordering::Relaxed) {
        1 => Listener::Prompt,
        2 => Listener::Kernel,
        _ => Listener::Program,
    }
}

/// Drops what was typed up to a line end; whether there was one.
pub fn take_line_end() -> bool {
    let mut input = INPUT.lock();
    core::iter::from_fn(|| input.pop()).any(|byte| byte == b'\n')
}

/// Takes from the UART what there is room for and, unless it is full, lets it interrupt again. What
/// stays in the UART holds the sender back, until [`take`] has made room.
pub fn pump() {
    let mut received = false;
    loop {
        if INPUT.lock().is_full() {
            break;
        }
        let Some(byte) = uart::read_byte() else {
            uart::enable_rx_irq();
            break;
        };
        let byte = if byte == b'\r' { b'\n' } else { byte };
        received = true;
        match (listener(), byte) {
            (Listener::Program, END) => INPUT.lock().ended = true,
            (Listener::Program, byte) => {
                INPUT.lock().push(byte);
                prompt::echo(byte);
            }
            (Listener::Prompt | Listener::Kernel, byte) => INPUT.lock().push(byte),
        }
    }
    if received {
        wake_readers();
    }
}

/// Takes up to `out.len()` bytes, at most to the end of a line. 0: nothing was typed.
pub fn take(out: &mut [u8]) -> usize {
    let mut input = INPUT.lock();
    let was_full = input.is_full();
    let mut count = 0;
    while let Some(place) = out.get_mut(count) {
        let Some(byte) = input.pop() else { break };
        *place = byte;
        count += 1;
        if byte == b'\n' {
            break;
        }
    }
    drop(input);
    if was_full {
        pump();
    }
    count
}

/// Whether a read has something to return: bytes, or the end.
pub fn is_ready() -> bool {
    let input = INPUT.lock();
    input.len != 0 || input.ended
}

/// Whether nothing was typed and nothing will be.
pub fn has_ended() -> bool {
    let input = INPUT.lock();
    input.len == 0 && input.ended
}

/// Parks `thread`, the current one, until something is typed or the limit is reached.
pub fn wait(thread: &Ref<Thread>, limit: Option<Limit>) {
    let sleep = {
        let mut queue = WAITING.lock();
        let sleep = wait::begin(thread, Place::Console, 0, limit);
        let pushed = queue.push(thread.clone());
        debug_assert!(pushed.is_ok());
        sleep
    };
    // What came before anybody asked for interrupts raises none.
    pump();
    if is_ready() && thread.park().claim(sleep) {
        wait::finish(thread.clone());
    }
    wait::check(thread, sleep);
}

/// Takes a thread whose sleep was claimed out of the queue.
pub fn leave(thread: &Ref<Thread>) {
    let left = WAITING.lock().remove(thread);
    drop(left);
}

fn wake_readers() {
    loop {
        // Claimed under the lock: as long as it is queued, its sleep is the one that it queued for.
        let next = WAITING
            .lock()
            .remove_first(|thread| thread.park().claim_any());
        let Some(thread) = next else { return };
        wait::finish_dequeued(thread);
    }
}
