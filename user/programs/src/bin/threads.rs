//! Every way in which the standard library lets threads meet, with the sums checked.

use programs::{check, require};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const THREADS: u64 = 8;

fn main() {
    check::start("threads");
    mutex();
    condvar();
    barrier();
    channels();
    scoped();
    thread_locals();
    park();
    small_stacks();
    read_write_lock();
    once();
    check::pass();
}

/// Starts one thread per number below [`THREADS`] and returns what they return, in order.
fn each<T: Send + 'static>(body: impl Fn(u64) -> T + Clone + Send + 'static) -> Vec<T> {
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let body = body.clone();
            thread::spawn(move || body(number))
        })
        .collect();
    threads
        .into_iter()
        .map(|t| t.join().expect("a thread panicked"))
        .collect()
}

fn mutex() {
    check::section(10, "Mutex");
    const ROUNDS: u64 = 20_000;
    let total = Arc::new(Mutex::new(0u64));
    let shared = Arc::clone(&total);
    each(move |number| {
        for _ in 0..ROUNDS {
            *shared.lock().unwrap() += number + 1;
        }
    });
    let expected = ROUNDS * THREADS * (THREADS + 1) / 2;
    let total = *total.lock().unwrap();
    require!(
        total == expected,
        "the sum under the lock is {total}, not {expected}"
    );
}

fn condvar() {
    check::section(11, "Condvar");
    const TURNS: u64 = 200;
    let turn = Arc::new((Mutex::new(0u64), Condvar::new()));
    let shared = Arc::clone(&turn);
    // Each thread waits for its own turn, so every hand-over is a wake-up of exactly one of them.
    each(move |number| {
        let (turn, changed) = &*shared;
        for _ in 0..TURNS {
            let guard = turn.lock().unwrap();
            let mut guard = changed
                .wait_while(guard, |t| *t % THREADS != number)
                .unwrap();
            *guard += 1;
            changed.notify_all();
        }
    });
    let total = *turn.0.lock().unwrap();
    require!(total == TURNS * THREADS, "{total} turns were taken");

    let (lock, never) = (Mutex::new(()), Condvar::new());
    let start = Instant::now();
    let guard = lock.lock().unwrap();
    let (_guard, result) = never
        .wait_timeout(guard, Duration::from_millis(20))
        .unwrap();
    let waited = start.elapsed();
    require!(result.timed_out(), "a wait that nobody ends times out");
    require!(
        waited >= Duration::from_millis(20),
        "the wait ended after only {waited:?}"
    );
}

fn barrier() {
    check::section(12, "Barrier");
    const ROUNDS: u64 = 50;
    let barrier = Arc::new(Barrier::new(THREADS as usize));
    let arrived = Arc::new(AtomicU64::new(0));
    let (shared, counter) = (Arc::clone(&barrier), Arc::clone(&arrived));
    let leaders = each(move |_| {
        let mut led = 0u64;
        for round in 1..=ROUNDS {
            counter.fetch_add(1, Ordering::Relaxed);
            led += u64::from(shared.wait().is_leader());
            let seen = counter.load(Ordering::Relaxed);
            require!(
                seen >= round * THREADS,
                "passed the barrier after {seen} arrivals"
            );
            shared.wait();
        }
        led
    });
    let leaders: u64 = leaders.iter().sum();
    require!(leaders == ROUNDS, "{leaders} leaders in {ROUNDS} rounds");
}

fn channels() {
    check::section(13, "mpsc");
    const ITEMS: u64 = 2_000;
    let (sender, receiver) = mpsc::channel();
    let (bounded, answers) = mpsc::sync_channel(4);
    let relay = thread::spawn(move || {
        let mut sum = 0u64;
        for value in receiver {
            sum += value;
            bounded.send(value).unwrap();
        }
        sum
    });
    let reader = thread::spawn(move || answers.iter().sum::<u64>());
    each(move |number| {
        for item in 0..ITEMS {
            sender.send(number * ITEMS + item).unwrap();
        }
    });
    let count = THREADS * ITEMS;
    let expected = count * (count - 1) / 2;
    require!(relay.join().unwrap() == expected, "the relay's sum");
    require!(reader.join().unwrap() == expected, "the reader's sum");
    let (_keep, empty) = mpsc::channel::<()>();
    let error = empty.recv_timeout(Duration::from_millis(5));
    require!(
        error == Err(mpsc::RecvTimeoutError::Timeout),
        "an empty channel times out"
    );
}

fn scoped() {
    check::section(14, "scoped threads");
    let mut data = vec![0u64; 64 * 1024];
    let part = data.len() / THREADS as usize;
    thread::scope(|scope| {
        for (number, chunk) in data.chunks_mut(part).enumerate() {
            scope.spawn(move || {
                for (index, value) in chunk.iter_mut().enumerate() {
                    *value = (number * part + index) as u64;
                }
            });
        }
    });
    let wrong = data
        .iter()
        .enumerate()
        .find(|(index, value)| *index as u64 != **value);
    require!(
        wrong.is_none(),
        "the threads filled the vector, but {wrong:?}"
    );
}

thread_local! {
    static MINE: Cell<u64> = const { Cell::new(7) };
    static HEAPED: std::cell::RefCell<Vec<u64>> = const { std::cell::RefCell::new(Vec::new()) };
}

static DROPPED: AtomicU64 = AtomicU64::new(0);

struct CountsDrop;

impl Drop for CountsDrop {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

thread_local! {
    static WITH_DROP: CountsDrop = const { CountsDrop };
}

fn thread_locals() {
    check::section(15, "thread_local");
    let sums = each(|number| {
        require!(MINE.get() == 7, "a new thread sees the initial value");
        WITH_DROP.with(|_| {});
        for round in 0..500 {
            MINE.set(number * 1000 + round);
            HEAPED.with_borrow_mut(|v| v.push(MINE.get()));
            if round % 50 == 0 {
                thread::yield_now();
            }
        }
        HEAPED.with_borrow(|v| v.iter().sum::<u64>())
    });
    for (number, sum) in (0..).zip(sums) {
        let expected = 500 * number * 1000 + 499 * 500 / 2;
        require!(
            sum == expected,
            "thread {number} summed {sum}, not {expected}"
        );
    }
    require!(MINE.get() == 7, "the main thread's value is untouched");
    let dropped = DROPPED.load(Ordering::SeqCst);
    require!(dropped == THREADS, "{dropped} destructors ran");
}

fn park() {
    check::section(16, "park");
    // Scoped threads wake their parent by its park token, and may leave one behind: take it.
    thread::park_timeout(Duration::ZERO);
    let start = Instant::now();
    thread::park_timeout(Duration::from_millis(15));
    let waited = start.elapsed();
    require!(
        waited >= Duration::from_millis(15),
        "park_timeout came back after {waited:?}"
    );

    let sleeper = thread::spawn(|| {
        let start = Instant::now();
        thread::park();
        start.elapsed()
    });
    thread::sleep(Duration::from_millis(10));
    sleeper.thread().unpark();
    let parked = sleeper.join().unwrap();
    require!(
        parked < Duration::from_secs(60),
        "unpark woke the thread, after {parked:?}"
    );
}

fn small_stacks() {
    check::section(17, "64 KiB stacks");
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            thread::Builder::new()
                .stack_size(64 * 1024)
                .name(format!("small-{number}"))
                .spawn(move || {
                    let mut block = [0u64; 4096];
                    for (index, slot) in block.iter_mut().enumerate() {
                        *slot = number + index as u64;
                    }
                    let name = thread::current().name().map(str::to_owned);
                    (std::hint::black_box(&block).iter().sum::<u64>(), name)
                })
                .expect("a thread with a small stack starts")
        })
        .collect();
    for (number, thread) in (0..).zip(threads) {
        let (sum, name) = thread.join().unwrap();
        require!(
            sum == 4096 * number + 4095 * 4096 / 2,
            "thread {number} summed {sum}"
        );
        require!(
            name == Some(format!("small-{number}")),
            "its name is {name:?}"
        );
    }
}

fn read_write_lock() {
    check::section(18, "RwLock");
    let pair = Arc::new(RwLock::new((0u64, 0u64)));
    let shared = Arc::clone(&pair);
    each(move |number| {
        for _ in 0..500 {
            if number % 4 == 0 {
                let mut pair = shared.write().unwrap();
                pair.0 += 1;
                thread::yield_now();
                pair.1 += 1;
            } else {
                let pair = shared.read().unwrap();
                require!(pair.0 == pair.1, "a reader saw half of a write");
            }
        }
    });
    let writes = pair.read().unwrap().0;
    require!(writes == 1000, "{writes} writes");
}

static CALLS: AtomicU64 = AtomicU64::new(0);
static ONCE: Once = Once::new();
static LAZY: LazyLock<u64> = LazyLock::new(|| CALLS.fetch_add(1000, Ordering::Relaxed));

fn once() {
    check::section(19, "Once");
    let seen = each(|_| {
        ONCE.call_once(|| {
            thread::sleep(Duration::from_millis(5));
            CALLS.fetch_add(1, Ordering::Relaxed);
        });
        (CALLS.load(Ordering::Relaxed) % 1000, *LAZY)
    });
    for (calls, lazy) in seen {
        require!(calls == 1, "{calls} calls when the first one is over");
        require!(lazy == 1, "the lazy value is {lazy}");
    }
    let calls = CALLS.load(Ordering::Relaxed);
    require!(calls == 1001, "both were called once: {calls}");
}
