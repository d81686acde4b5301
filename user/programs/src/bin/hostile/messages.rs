//! Messages that pretend to be others.

use abi::message::{Kind, Tag};
use abi::{Rights, calls, slot};
use programs::native::{Registers, call, control};
use programs::require;
use programs::sys::errno;
use std::thread;

use super::{close, copy, endpoint, fails, made};

/// Sends a tag and words, and waits no longer than a moment.
fn send(number: u64, handle: u64, tag: u64, words: [u64; 6]) -> (i64, Registers) {
    let mut x = Registers::default();
    (x[0], x[1]) = (handle, tag);
    x[2..8].copy_from_slice(&words);
    x[9] = 1_000_000_000;
    (call(number, &mut x), x)
}

/// What comes next.
fn receive(handle: u64) -> Registers {
    let mut x = Registers::default();
    (x[0], x[9]) = (handle, 1_000_000_000);
    let got = call(calls::ENDPOINT_RECEIVE, &mut x);
    require!(got == 0, "receiving: {got}");
    x
}

/// The kind is the kernel's to say, and bits that mean nothing do not arrive.
pub fn tags() {
    let endpoint = endpoint();
    for bits in [
        3u64 << 48,
        6 << 48,
        0xff << 48,
        0xff << 56,
        3 << 38,
        3 << 46,
    ] {
        let tag = Tag::new(7).0 | bits;
        let got = thread::scope(|scope| {
            scope.spawn(|| send(calls::ENDPOINT_SEND, endpoint, tag, [1, 2, 3, 4, 5, 6]));
            receive(endpoint)
        });
        require!(got[1] == Tag::of_kind(Kind::Send, 7).0, "tag {:#x}", got[1]);
        require!(got[2..8] == [1, 2, 3, 4, 5, 6], "{got:?}");
        let (answered, got) = thread::scope(|scope| {
            let caller = scope.spawn(|| send(calls::ENDPOINT_CALL, endpoint, tag, [0; 6]));
            let got = receive(endpoint);
            require!(got[1] == Tag::of_kind(Kind::Call, 7).0, "tag {:#x}", got[1]);
            let mut x = Registers::default();
            x[1] = tag;
            require!(call(calls::REPLY, &mut x) == 0, "an answer");
            caller.join().unwrap_or((-1, Registers::default()))
        });
        require!(answered == 0, "an answer: {answered}");
        require!(got[1] == Tag::of_kind(Kind::Send, 7).0, "tag {:#x}", got[1]);
    }
    close(endpoint);
}

/// Words that are said to be handles and are none, or must not go.
pub fn handles() {
    let endpoint = endpoint();
    let fixed = made("a copy", copy(endpoint, Rights::SEND, 0));
    for number in [calls::ENDPOINT_SEND, calls::ENDPOINT_CALL] {
        let fail = |what, tag: Tag, word, error| {
            let (got, _) = send(number, endpoint, tag.0, [0, 0, 0, 0, 0, word]);
            fails(what, got, error);
        };
        let (copied, moved) = (Tag::new(0).copying(5), Tag::new(0).moving(5));
        fail("both", copied.moving(5), endpoint, errno::EINVAL);
        fail(
            "both elsewhere",
            copied.moving(0).copying(0),
            endpoint,
            errno::EINVAL,
        );
        for none in [slot::COUNT - 1, slot::COUNT, u64::MAX] {
            fail("no handle", copied, none, errno::EBADF);
            fail("no handle", moved, none, errno::EBADF);
        }
        fail("a handle to stay", copied, fixed, errno::EACCES);
        fail("a handle to stay", moved, fixed, errno::EACCES);
    }
    gone_meanwhile(endpoint);
    close(fixed);
    close(endpoint);
}

/// A handle that is closed while its message waits arrives as none.
fn gone_meanwhile(endpoint: u64) {
    let handle = made("a copy", copy(endpoint, Rights::SEND | Rights::TRANSFER, 0));
    let tag = Tag::new(0).moving(0).copying(1).0;
    let got = thread::scope(|scope| {
        let words = [handle, endpoint, 0, 0, 0, 0];
        scope.spawn(move || send(calls::ENDPOINT_SEND, endpoint, tag, words));
        // Long enough for it to be in the queue.
        thread::sleep(std::time::Duration::from_millis(2));
        close(handle);
        receive(endpoint)
    });
    require!(got[2] == abi::NONE, "a closed handle arrived as {}", got[2]);
    close(got[3]);
}

/// Who sends is what the kernel says.
pub fn badges() {
    let endpoint = endpoint();
    let rights = Rights::SEND | Rights::DUPLICATE | Rights::TRANSFER;
    let client = made("a client", copy(endpoint, rights, 41));
    fails("another badge", copy(client, rights, 42), errno::EINVAL);
    fails(
        "a badge for a process",
        copy(slot::PROCESS, Rights::READ, 1),
        errno::EINVAL,
    );
    let again = made("a copy", copy(client, rights, 0));
    let got = thread::scope(|scope| {
        scope.spawn(|| {
            let mut x = Registers::default();
            // What a receiver would look at.
            (x[0], x[9], x[10]) = (again, 1_000_000_000, 99);
            call(calls::ENDPOINT_SEND, &mut x)
        });
        receive(endpoint)
    });
    require!(
        got[9] == 41 && got[10] != 99,
        "badge {}, sender {}",
        got[9],
        got[10]
    );
    for handle in [again, client, endpoint] {
        close(handle);
    }
}

/// Answers that are not owed, or given twice.
pub fn answers() {
    let endpoint = endpoint();
    fails("nothing owed", control(calls::REPLY, &[]), errno::EPERM);
    fails(
        "nothing owed",
        control(calls::REPLY_SAVE, &[]),
        errno::EPERM,
    );
    let unowed = control(calls::REPLY_RECEIVE, &[endpoint]);
    fails("nothing owed", unowed, errno::EPERM);
    thread::scope(|scope| {
        let caller = scope.spawn(|| send(calls::ENDPOINT_CALL, endpoint, 0, [0; 6]).0);
        receive(endpoint);
        let saved = made("a saved answer", control(calls::REPLY_SAVE, &[]));
        fails("saved already", control(calls::REPLY, &[]), errno::EPERM);
        let twice = copy(saved, Rights::SEND, 0);
        fails("a copy of an answer", twice, errno::EACCES);
        let give = [slot::PROCESS, abi::NONE, saved, Rights::SAME.into()];
        fails(
            "a copy of an answer",
            control(calls::HANDLE_GIVE, &give),
            errno::EACCES,
        );
        let lent = send(
            calls::ENDPOINT_SEND,
            endpoint,
            Tag::new(0).copying(0).0,
            [saved; 6],
        )
        .0;
        fails("a copy of an answer", lent, errno::EACCES);
        require!(control(calls::REPLY_SEND, &[saved]) == 0, "it is given");
        fails(
            "given twice",
            control(calls::REPLY_SEND, &[saved]),
            errno::EBADF,
        );
        require!(caller.join().is_ok_and(|got| got == 0), "it is answered");
    });
    close(endpoint);
}
