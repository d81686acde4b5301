//! A process that makes random calls in several threads, until it has made enough or comes to its end
//! otherwise.

use std::sync::{Arc, Barrier};
use std::thread;

use abi::{Kind, calls, slot};
use programs::random::Random;
use programs::sys::{self, PAGE, nr};

use crate::tally::Tally;
use crate::world::{PAGERS, World, playground};
use crate::{linux, native};

/// Where a child finds the counters, and an endpoint of whoever started it.
pub const TALLY: u64 = 90;
pub const ENDPOINT: u64 = 70;
/// Its exit status if memory has changed that no call was given.
pub const DAMAGED: i32 = 99;
/// Its threads.
const THREADS: u64 = 4;
/// Their stacks.
const STACK: usize = 16 * PAGE;
/// Calls between two looks at the memory that must not change.
const LOOK: u64 = 2048;

/// Makes `count` calls, or not quite as many, as the process in `place`.
pub fn run(seed: u64, count: u64, place: u64) -> ! {
    let tally = Tally::map(TALLY, place as usize);
    let _ = programs::native::control(calls::HANDLE_CLOSE, &[TALLY]);
    let start = playground();
    // SAFETY: the heap stays as it is.
    let heap = unsafe { sys::syscall(nr::BRK, [0; 6]) } as u64;
    let meeting = programs::native::control(calls::ENDPOINT_CREATE, &[]) as u64;
    let object = [meeting, 64 * PAGE as u64, 0, 16 * PAGE as u64];
    let object = programs::native::control(calls::PAGER_CREATE, &object) as u64;
    let barrier = Arc::new(Barrier::new(THREADS as usize));
    let storm = move |thread: u64, barrier: &Barrier| {
        let random = Random::new(seed ^ thread << 60);
        let mut world = World::new(random, start, heap, meeting);
        for (pool, handle) in [
            (Kind::Process as usize, slot::PROCESS),
            (Kind::Machine as usize, slot::MACHINE),
            (Kind::Endpoint as usize, ENDPOINT),
            (Kind::Endpoint as usize, meeting),
            (Kind::Memory as usize, object),
            (PAGERS, object),
        ] {
            world.learn(pool, handle);
        }
        let still: Vec<u64> = (0..2048).map(|at| at ^ seed).collect();
        barrier.wait();
        storm(&mut world, tally, count / THREADS, &still, seed)
    };
    for thread in 1..THREADS {
        let barrier = Arc::clone(&barrier);
        let named = thread::Builder::new().stack_size(STACK);
        if named.spawn(move || storm(thread, &barrier)).is_err() {
            std::process::exit(1);
        }
    }
    storm(0, &barrier)
}

/// The calls of one thread. It leaves by itself: what it would return to may be gone.
fn storm(world: &mut World, tally: Tally, count: u64, still: &[u64], seed: u64) -> ! {
    for done in 0..count {
        if world.random.chance(64) {
            world.stir();
        }
        match world.random.chance(128) {
            true => linux::call(world, tally),
            false => native::call(world, tally),
        }
        if done % 512 == 0 {
            // SAFETY: the playground is nobody's.
            unsafe { sys::syscall(nr::MMAP, world.refresh()) };
        }
        if done % LOOK == 0 && !holds(still, seed) {
            // SAFETY: it ends the process.
            unsafe { sys::syscall(nr::EXIT_GROUP, [DAMAGED as usize, 0, 0, 0, 0, 0]) };
        }
    }
    sys::exit_thread(0)
}

/// Whether memory is what it was. Another thread may have changed vector registers meanwhile, so it is
/// looked at more than once.
fn holds(still: &[u64], seed: u64) -> bool {
    let look = || {
        let words = std::hint::black_box(still).iter().zip(0u64..);
        words.fold(true, |all, (word, at)| all & (*word == at ^ seed))
    };
    (0..4).any(|_| look())
}

/// Ends a thread that has no stack.
#[cfg(target_arch = "aarch64")]
// SAFETY: it makes one call, of its own end, and touches neither stack nor memory.
#[unsafe(naked)]
pub extern "C" fn go_away() -> ! {
    core::arch::naked_asm!("mov x0, #0", "mov x8, #93", "svc #0", "b .")
}

#[cfg(not(target_arch = "aarch64"))]
pub extern "C" fn go_away() {}
