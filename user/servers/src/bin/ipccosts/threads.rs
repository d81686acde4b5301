//! Threads of one program.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use programs::measure::{Choice, confirm, row, run};

use crate::calls::{spawn_bare, wait, wait_shared, wake};

/// Group `futex`: one CPU is handed to and fro, by a wake and a wait on either side.
pub fn hand_over(choice: &Choice) {
    const ROUNDS: u32 = 5000;
    let rows = [row("futex_round_trip", "", "pair", ROUNDS.into())];
    run(choice, "futex", &rows, |meter| {
        let words = [const { AtomicU32::new(0) }; 2];
        let [mine, theirs] = &words;
        thread::scope(|scope| {
            let other = scope.spawn(|| serve(theirs, mine, ROUNDS + 1));
            // The first one lets the other thread come to its place.
            play(theirs, mine, 0, 1);
            meter.time(0, || play(theirs, mine, 1, ROUNDS));
            let waits = other.join().unwrap_or(0);
            confirm(waits >= ROUNDS, || {
                format!("the other thread waited {waits} times in {ROUNDS} rounds")
            })
        })
    });
}

/// Says `from + 1` and so on to the other thread, and waits for the answer each time.
fn play(theirs: &AtomicU32, mine: &AtomicU32, from: u32, rounds: u32) {
    for round in from..from + rounds {
        theirs.store(round + 1, Ordering::Release);
        wake(theirs);
        while mine.load(Ordering::Acquire) == round {
            wait(mine, round);
        }
    }
}

/// Answers each number with the same one; how often that meant to wait.
fn serve(mine: &AtomicU32, theirs: &AtomicU32, rounds: u32) -> u32 {
    let mut waits = 0;
    for round in 0..rounds {
        while mine.load(Ordering::Acquire) == round {
            waits += u32::from(wait(mine, round) == 0);
        }
        theirs.store(round + 1, Ordering::Release);
        wake(theirs);
    }
    waits
}

/// Group `thread`: a thread that does nothing, from its making until it has been waited for. By itself;
/// and as the standard library makes one, with a stack that is mapped, protected and unmapped.
pub fn life(choice: &Choice) {
    const ROUNDS: u64 = 500;
    let rows = ["thread_create_exit_join", "thread_spawn_join"];
    let rows = rows.map(|name| row(name, "", "thread", ROUNDS));
    run(choice, "thread", &rows, |meter| {
        let mut made = u64::from(bare());
        meter.time(0, || {
            made += (0..ROUNDS).map(|_| u64::from(bare())).sum::<u64>()
        });
        confirm(made == ROUNDS + 1, || format!("{made} threads ran"))?;
        let mut sum = 0;
        let live = |round: u64| thread::spawn(move || round + 1).join().unwrap_or(0);
        live(0);
        meter.time(1, || sum = (0..ROUNDS).map(live).sum());
        confirm(sum == ROUNDS * (ROUNDS + 1) / 2, || {
            format!("the threads' sum is {sum}")
        })
    });
}

/// Makes a thread without a stack, which ends at once, and waits for its end. Whether it was made.
fn bare() -> bool {
    let word = AtomicU32::new(0);
    let tid = spawn_bare(&word);
    loop {
        match word.load(Ordering::Acquire) {
            0 => return tid > 0,
            running => wait_shared(&word, running),
        };
    }
}
