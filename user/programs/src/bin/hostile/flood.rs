//! More threads than anybody needs at one endpoint.

use std::thread;
use std::time::Duration;

use abi::message::{Kind, Tag};
use abi::{Rights, calls};
use programs::native::{Registers, call, control, failed};
use programs::require;
use programs::sys::errno;

use super::{close, copy, endpoint, fails, made};

const THREADS: u64 = 200;
const MESSAGES: u64 = 10;

fn at(number: u64, handle: u64, word: u64) -> (i64, Registers) {
    let mut x = Registers::default();
    (x[0], x[2], x[9]) = (handle, word, abi::FOREVER);
    (call(number, &mut x), x)
}

/// Each message of each sender is received once, in its sender's order.
pub fn senders() {
    let endpoint = endpoint();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(move || {
                for word in 0..MESSAGES {
                    let (got, _) = at(calls::ENDPOINT_SEND, endpoint, word);
                    require!(got == 0, "a message: {got}");
                }
            });
        }
        let mut next = std::collections::HashMap::new();
        for _ in 0..THREADS * MESSAGES {
            let (got, x) = at(calls::ENDPOINT_RECEIVE, endpoint, 0);
            require!(got == 0, "receiving: {got}");
            let expected = next.entry(x[10]).or_insert(0);
            require!(x[2] == *expected, "{} from {}, not {expected}", x[2], x[10]);
            *expected += 1;
        }
        require!(next.len() as u64 == THREADS, "{} senders", next.len());
    });
    nothing_left(endpoint);
    close(endpoint);
}

fn nothing_left(endpoint: u64) {
    let mut x = Registers::default();
    (x[0], x[9]) = (endpoint, 1_000_000);
    let got = call(calls::ENDPOINT_RECEIVE, &mut x);
    fails("something is left", got, errno::ETIMEDOUT);
}

/// Some are received and not answered, the others wait in the queue: all are told.
pub fn callers() {
    let endpoint = endpoint();
    let client = made("a client", copy(endpoint, Rights::SEND, 7));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(move || {
                let (got, _) = at(calls::ENDPOINT_CALL, client, 0);
                fails("a call", got, errno::EPIPE);
            });
        }
        for _ in 0..THREADS / 2 {
            let (got, x) = at(calls::ENDPOINT_RECEIVE, endpoint, 0);
            let is_call = x[1] == Tag::of_kind(Kind::Call, 0).0 && x[9] == 7;
            require!(got == 0 && is_call, "{got}, {x:?}");
        }
        close(endpoint);
        // The last one that was received is owed an answer still.
        fails(
            "a message",
            at(calls::ENDPOINT_SEND, client, 0).0,
            errno::EPIPE,
        );
        require!(control(calls::REPLY_SAVE, &[]) >= 0, "it is owed");
        let mut x = Registers::default();
        (x[0], x[1]) = (client, 0);
        fails("a call", call(calls::ENDPOINT_CALL, &mut x), errno::EPIPE);
        close(saved());
    });
    close(client);
}

/// The handle of the answer that was saved: the only one of its kind.
fn saved() -> u64 {
    let kind = |handle: u64| {
        let mut x = Registers::default();
        x[0] = handle;
        (call(calls::HANDLE_INFO, &mut x) == 0).then_some(x[1])
    };
    let reply = abi::Kind::Reply as u64;
    let found = (abi::slot::FIRST..abi::slot::COUNT).find(|&at| kind(at) == Some(reply));
    found.unwrap_or(abi::NONE)
}

/// A thread that receives when the last right to do so is closed is told.
pub fn closed_receiver() {
    let endpoint = endpoint();
    thread::scope(|scope| {
        let receivers =
            [(); 3].map(|()| scope.spawn(move || at(calls::ENDPOINT_RECEIVE, endpoint, 0).0));
        thread::sleep(Duration::from_millis(2));
        close(endpoint);
        for receiver in receivers {
            let got = receiver.join().unwrap_or(0);
            // One that had not begun has no handle.
            let told = [errno::EPIPE, errno::EBADF]
                .iter()
                .any(|&error| got == failed(error));
            require!(told, "a receiver of a closed endpoint: {got}");
        }
    });
}

/// A timer that is set by several at once comes.
pub fn timers() {
    let endpoint = endpoint();
    for _ in 0..50 {
        thread::scope(|scope| {
            for n in 0..4u64 {
                scope.spawn(move || {
                    // Long ago: at once.
                    let got = control(calls::ENDPOINT_TIMER, &[endpoint, 1 << n, 1 + n]);
                    require!(got == 0, "a timer: {got}");
                });
            }
        });
        let mut x = Registers::default();
        (x[0], x[9]) = (endpoint, 1_000_000_000);
        let got = call(calls::ENDPOINT_RECEIVE, &mut x);
        require!(got == 0 && x[2] != 0, "no timer: {got}");
    }
    require!(
        control(calls::ENDPOINT_TIMER, &[endpoint, 1, u64::MAX]) == 0,
        "one that never comes"
    );
    close(endpoint);
}
