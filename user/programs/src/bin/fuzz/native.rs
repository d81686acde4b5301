//! Random calls at the kernel's own door.

use abi::calls::{self, Call, TABLE};
use abi::message::{Kind as Sent, Tag};
use abi::{Kind, registers};
use programs::native::{Registers, enter};
use programs::sys::{PAGE, errno};

use crate::child::{ENDPOINT, go_away};
use crate::tally::{Door, Tally};
use crate::world::{MAPPINGS, PAGERS, World};

/// Where the answers are in the table.
const ANSWERS: [usize; 4] = {
    let mut answers = [0; 4];
    let mut at = 0;
    while at < TABLE.len() {
        match TABLE[at].number {
            calls::REPLY => answers[0] = at,
            calls::REPLY_RECEIVE => answers[1] = at,
            calls::REPLY_SAVE => answers[2] = at,
            calls::THREAD_READ => answers[3] = at,
            _ => {}
        }
        at += 1;
    }
    answers
};

/// Makes a random call.
pub fn call(world: &mut World, tally: Tally) {
    let call = match world.owes && world.random.chance(128) {
        true => &TABLE[ANSWERS[world.random.index(ANSWERS.len())]],
        false => &TABLE[world.random.index(TABLE.len())],
    };
    let Some(mut x) = arguments(world, call) else {
        return;
    };
    let number = match world.random.chance(1) {
        true => world.odd(),
        false => call.number,
    };
    let first = x[0];
    match made(tally, number, &mut x) {
        Ok(()) => learn(world, tally, call, &x),
        Err(errno::EBADF) => world.forget(first),
        Err(_) => {}
    }
    if call.arguments.contains("answer") || call.number == calls::REPLY_SAVE {
        world.owes = false;
    }
    if call.result.contains("message") && x[0] == 0 {
        // Who sends and who notifies wants no answer.
        let kind = Tag(x[1]).kind();
        world.owes = !matches!(kind, None | Some(Sent::Send | Sent::Notification));
    }
}

/// Makes a call; the positive error number if it failed.
fn made(tally: Tally, number: u64, x: &mut Registers) -> Result<(), isize> {
    tally.call(Door::Native, number);
    // SAFETY: as for calls at the other door.
    let got = unsafe { enter(number, x) };
    if (-4095..0).contains(&got) {
        return Err(-got as isize);
    }
    tally.worked(Door::Native, number);
    Ok(())
}

/// Notes what a call has given.
fn learn(world: &mut World, tally: Tally, call: &Call, x: &Registers) {
    if call.number == calls::PAGER_CREATE {
        world.learn(PAGERS, x[0]);
    }
    if call.result == "handle" {
        learn_handle(world, tally, x[0]);
    } else if call.number == calls::MEMORY_MAP {
        world.learn(MAPPINGS, x[0]);
    } else if call.result.contains("message") || call.number == calls::ENDPOINT_CALL {
        let handles = Tag(x[1]).handles();
        for word in (0..6).filter(|word| handles >> word & 1 != 0) {
            learn_handle(world, tally, x[2 + word]);
        }
    }
}

/// Asks the kernel of what kind a handle is.
fn learn_handle(world: &mut World, tally: Tally, handle: u64) {
    let mut x = Registers::default();
    x[0] = handle;
    if made(tally, calls::HANDLE_INFO, &mut x).is_ok() {
        world.learn(x[1] as usize, handle);
    }
}

/// Arguments for a call; none for one that would only end everything early.
fn arguments(world: &mut World, call: &Call) -> Option<Registers> {
    let mut x = Registers::default();
    let names = call.arguments.split([',', ';']).map(str::trim);
    for (argument, name) in x.iter_mut().take(8).zip(names) {
        *argument = match world.below(24) {
            0 => world.odd(),
            _ => sensible(world, call, name),
        };
    }
    if call.arguments.contains("message") || call.arguments.contains("answer") {
        message(world, call, &mut x);
    }
    x[9] = world.patience();
    let own = x[0] == abi::slot::PROCESS;
    let needed = own || x[0] == ENDPOINT || x[0] < abi::slot::FIRST + 4;
    let seldom = match call.number {
        calls::ENDPOINT_NOTIFY | calls::ENDPOINT_TIMER => 32,
        calls::PROCESS_KILL if own => 1,
        calls::PROCESS_KILL => 32,
        calls::HANDLE_CLOSE | calls::HANDLE_REVOKE if needed => 4,
        calls::PROCESS_BIND if own => 8,
        calls::PROCESS_WAIT if own => 16,
        calls::THREAD_SUSPEND => 16,
        calls::THREAD_WRITE => 64,
        _ => 256,
    };
    world.random.chance(seldom).then_some(x)
}

/// What an argument of this name is.
fn sensible(world: &mut World, call: &Call, name: &str) -> u64 {
    match name {
        "process" => world.handle(Kind::Process),
        "endpoint" => world.endpoint(),
        "object" if (calls::PAGER_SUPPLY..=calls::PAGER_DROP).contains(&call.number) => {
            world.known(PAGERS)
        }
        "object" => world.handle(Kind::Memory),
        "thread" if world.owes && world.below(2) == 0 => abi::PEER,
        "thread" => world.handle(Kind::Thread),
        "machine" => world.handle(Kind::Machine),
        "interrupt" => world.handle(Kind::Interrupt),
        "handle" => world.any_handle(),
        "address" if call.number == calls::THREAD_WRITE => {
            world.registers(go_away as *const () as u64)
        }
        "addr" if call.number == calls::PAGER_SUPPLY => world.range() & !4095,
        "address" | "buffer" | "address here" | "address there" | "bitmap" => world.address(),
        "addr" if call.number == calls::MEMORY_BRK => world.heap(),
        "addr" | "sp" => world.range(),
        "pc" => go_away as *const () as u64,
        "length" if matches!(call.number, calls::THREAD_READ | calls::THREAD_WRITE) => {
            world.one(&registers::BYTES)
        }
        "length" if call.arguments.contains("here") => world.size(),
        "length" => world.length(),
        "size" | "offset" => world.below(64) * PAGE as u64,
        "window" => (PAGE as u64) << world.below(6),
        "prot" => world.below(8),
        "flags" if call.number == calls::MEMORY_MAP => {
            world.one(&[0x32, 0x31, 0x11, 0x12, 0x10_0012, 0x10_0022, 0x1])
        }
        "rights" => match world.below(4) {
            0 => world.below(1 << 11) | world.below(1 << 11),
            1 => u64::from(u32::MAX >> world.below(32)),
            _ => abi::Rights::SAME.into(),
        },
        "deadline" => world.below(1 << 34),
        _ => number(world, call, name),
    }
}

/// What is none of these: limits and other numbers.
fn number(world: &mut World, call: &Call, name: &str) -> u64 {
    match name {
        "number" if call.number == calls::THREAD_OPEN => world.tid(),
        "number" => 32 + world.below(260),
        "pages" => world.one(&[0, 16, 64, 256]),
        "handles" | "threads" => world.one(&[0, 1, 4, 8]),
        "slot" => world.one(&[u64::MAX, 64, 70, 80, 90]),
        "bits" => 1 << world.below(64),
        "signal" => 1 + world.below(32),
        "badge" => world.below(5).saturating_sub(2),
        "flags" => world.below(10) / 4,
        "value" => (PAGE as u64) << world.below(6),
        _ => world.below(6),
    }
}

/// A message with words that are handles, some of them moved.
fn message(world: &mut World, call: &Call, x: &mut Registers) {
    for word in &mut x[2..8] {
        *word = world.any_handle();
    }
    x[0] = match call.number {
        calls::REPLY_SEND => world.handle(Kind::Reply),
        _ => world.endpoint(),
    };
    let handles = world.below(64) & world.below(64);
    // Most messages move none of what the process lives by.
    let moved = handles & world.below(64) & world.below(64) & world.below(64);
    let kind = world.below(8) << 48;
    x[1] = world.below(6) | (handles & !moved) << 32 | moved << 40 | kind;
}
