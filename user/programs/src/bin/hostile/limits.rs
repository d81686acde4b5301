//! Tables that are full, limits that are passed, and handles that are revoked.

use abi::message::Tag;
use abi::{Rights, calls, slot};
use programs::native::{Registers, call, control};
use programs::require;
use programs::sys::errno;
use std::thread;
use std::time::Duration;

use super::{close, copy, endpoint, fails, handles, kill, made, process};

/// Fills the table with copies of an endpoint's handle that may only send.
fn fill(endpoint: u64) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        match copy(endpoint, Rights::SEND, 0) {
            got if got >= 0 => all.push(got as u64),
            got => {
                fails("one too many", got, errno::EMFILE);
                return all;
            }
        }
    }
}

pub fn full_table() {
    let endpoint = endpoint();
    let all = fill(endpoint);
    require!(
        handles() > slot::COUNT - slot::FIRST,
        "{} handles",
        handles()
    );
    let create = |number, arguments: &[u64]| {
        fails("a full table", control(number, arguments), errno::EMFILE)
    };
    create(calls::ENDPOINT_CREATE, &[]);
    create(calls::PAGER_CREATE, &[endpoint, 4096, 0, 4096]);
    create(calls::PROCESS_CREATE, &[slot::PROCESS, 0, 0, 0]);
    create(calls::THREAD_CREATE, &[slot::PROCESS, 0, 0, 0]);
    thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let mut x = Registers::default();
            (x[0], x[9]) = (endpoint, abi::FOREVER);
            call(calls::ENDPOINT_CALL, &mut x)
        });
        let mut x = Registers::default();
        (x[0], x[9]) = (endpoint, abi::FOREVER);
        require!(call(calls::ENDPOINT_RECEIVE, &mut x) == 0, "a call");
        create(calls::REPLY_SAVE, &[]);
        require!(control(calls::REPLY, &[]) == 0, "it is owed as before");
        require!(caller.join().is_ok_and(|got| got == 0), "it is answered");
    });
    all.into_iter().for_each(close);
    close(endpoint);
}

/// What cannot be put in arrives as none. (What was to move has left all the same: a scene of `killers`.)
pub fn full_receiver() {
    let endpoint = endpoint();
    let all = fill(endpoint);
    // The last one may be sent on, and the rest of the table is full.
    let last = all[all.len() - 1];
    close(last);
    let moved = made("a copy", copy(endpoint, Rights::SEND | Rights::TRANSFER, 0));
    let received = |tag: Tag| {
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut x = Registers::default();
                (x[0], x[1], x[2], x[9]) = (endpoint, tag.0, moved, abi::FOREVER);
                call(calls::ENDPOINT_SEND, &mut x)
            });
            let mut x = Registers::default();
            (x[0], x[9]) = (endpoint, abi::FOREVER);
            require!(call(calls::ENDPOINT_RECEIVE, &mut x) == 0, "a message");
            x[2]
        })
    };
    let got = received(Tag::new(0).copying(0));
    require!(got == abi::NONE, "a copy without room arrived as {got}");
    // It leaves room where it was.
    let got = received(Tag::new(0).moving(0));
    require!(got == moved, "moved within the table: {got}");
    close(moved);
    all[..all.len() - 1].iter().copied().for_each(close);
    close(endpoint);
}

pub fn quotas() {
    let few = process(3, 2);
    let give = || {
        let arguments = [few, abi::NONE, slot::PROCESS, Rights::READ.bits().into()];
        control(calls::HANDLE_GIVE, &arguments)
    };
    for _ in 0..3 {
        require!(give() >= 0, "a handle within the limit");
    }
    fails("a handle more", give(), errno::EDQUOT);
    let thread = || control(calls::THREAD_CREATE, &[few, 0x1000, 0x1000, 0]);
    let threads = [(); 2].map(|()| made("a thread", thread()));
    fails("a thread more", thread(), errno::EAGAIN);
    for wanted in [[0, 4, 0], [0, 0, 3]] {
        let [pages, handles, threads] = wanted;
        let below = control(calls::PROCESS_CREATE, &[few, pages, handles, threads]);
        fails("more than there is", below, errno::EDQUOT);
    }
    threads.into_iter().for_each(close);
    kill(few);
    deep();
}

/// Processes below each other.
fn deep() {
    let mut chain = vec![process(0, 0)];
    let refused = loop {
        let above = chain[chain.len() - 1];
        match control(calls::PROCESS_CREATE, &[above, 0, 0, 0]) {
            got if got >= 0 && chain.len() < 100 => chain.push(got as u64),
            got => break got,
        }
    };
    fails("a process too deep", refused, errno::EDQUOT);
    chain[1..].iter().copied().for_each(close);
    kill(chain[0]);
}

/// A handle and all copies, here and elsewhere, end at once.
pub fn revoking() {
    let endpoint = endpoint();
    fails(
        "not to be revoked",
        control(calls::HANDLE_REVOKE, &[endpoint]),
        errno::EACCES,
    );
    let again = |handle, rights: Rights| {
        let arguments = [handle, rights.bits().into(), 0, 1];
        control(calls::HANDLE_DUPLICATE, &arguments)
    };
    let rights = Rights::NOTIFY | Rights::DUPLICATE | Rights::TRANSFER;
    let top = made("a grant", again(endpoint, rights));
    let below = made("a grant below", again(top, rights));
    let copied = made("a copy", copy(below, rights, 0));
    fails(
        "a copy's",
        control(calls::HANDLE_REVOKE, &[copied]),
        errno::EACCES,
    );
    let child = process(0, 0);
    let give = [child, abi::NONE, copied, rights.bits().into()];
    require!(control(calls::HANDLE_GIVE, &give) >= 0, "a copy elsewhere");
    let rings = |handle| control(calls::ENDPOINT_NOTIFY, &[handle, 1]);
    require!([top, below, copied].map(rings) == [0; 3], "all work");
    require!(
        control(calls::HANDLE_REVOKE, &[below]) == 0,
        "it is revoked"
    );
    fails("revoked", rings(below), errno::EBADF);
    fails("revoked", rings(copied), errno::EBADF);
    fails("revoked", copy(copied, rights, 0), errno::EBADF);
    fails(
        "revoked twice",
        control(calls::HANDLE_REVOKE, &[below]),
        errno::EBADF,
    );
    require!(rings(top) == 0, "what is above works");
    require!(control(calls::HANDLE_REVOKE, &[top]) == 0, "it is revoked");
    fails("revoked", rings(top), errno::EBADF);
    [top, below, copied].into_iter().for_each(close);
    deepest(endpoint, again);
    kill(child);
    close(endpoint);
}

/// Revoking the last rights to receive closes an endpoint, and no earlier: whoever waits is told.
pub fn revoking_receivers() {
    let endpoint = endpoint();
    let rights = Rights::RECEIVE | Rights::DUPLICATE | Rights::TRANSFER;
    let again = |handle| {
        let arguments = [handle, rights.bits().into(), 0, 1];
        made("a grant", control(calls::HANDLE_DUPLICATE, &arguments))
    };
    let client = made("a client", copy(endpoint, Rights::SEND, 0));
    let top = again(endpoint);
    let (left, right) = (again(top), again(top));
    let copied = made("a copy", copy(left, rights, 0));
    let child = process(0, 0);
    let give = [child, abi::NONE, copied, rights.bits().into()];
    require!(control(calls::HANDLE_GIVE, &give) >= 0, "a copy elsewhere");
    let revoke = |handle| {
        let revoked = control(calls::HANDLE_REVOKE, &[handle]);
        require!(revoked == 0, "it is revoked: {revoked}");
    };
    let wait = |number, handle, limit| {
        let mut x = Registers::default();
        (x[0], x[9]) = (handle, limit);
        call(number, &mut x)
    };
    close(endpoint);
    thread::scope(|scope| {
        let receiver = scope.spawn(move || wait(calls::ENDPOINT_RECEIVE, right, abi::FOREVER));
        thread::sleep(Duration::from_millis(5));
        revoke(left);
        let sent = wait(calls::ENDPOINT_SEND, client, 1_000_000);
        require!(sent == 0, "the other one receives: {sent}");
        require!(receiver.join().is_ok_and(|got| got == 0), "a message");
        let caller = scope.spawn(move || wait(calls::ENDPOINT_CALL, client, abi::FOREVER));
        thread::sleep(Duration::from_millis(5));
        revoke(top);
        let got = caller.join().unwrap_or(0);
        fails("a call to nobody", got, errno::EPIPE);
    });
    fails(
        "revoked",
        wait(calls::ENDPOINT_RECEIVE, right, 0),
        errno::EBADF,
    );
    [top, left, right, copied, client]
        .into_iter()
        .for_each(close);
    kill(child);
    receiver_is_told();
}

/// Who waits through the only handle that may receive is told when that is revoked.
fn receiver_is_told() {
    let endpoint = endpoint();
    let rights = Rights::RECEIVE.bits().into();
    let only = made(
        "a grant",
        control(calls::HANDLE_DUPLICATE, &[endpoint, rights, 0, 1]),
    );
    close(endpoint);
    thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let mut x = Registers::default();
            (x[0], x[9]) = (only, abi::FOREVER);
            call(calls::ENDPOINT_RECEIVE, &mut x)
        });
        thread::sleep(Duration::from_millis(5));
        let revoked = control(calls::HANDLE_REVOKE, &[only]);
        require!(revoked == 0, "it is revoked: {revoked}");
        let got = receiver.join().unwrap_or(0);
        fails("a wait for nobody", got, errno::EPIPE);
    });
    close(only);
}

/// Grants below each other.
fn deepest(endpoint: u64, again: impl Fn(u64, Rights) -> i64) {
    let mut chain = vec![endpoint];
    let refused = loop {
        match again(chain[chain.len() - 1], Rights::DUPLICATE) {
            got if got >= 0 && chain.len() < 100 => chain.push(got as u64),
            got => break got,
        }
    };
    fails("a grant too deep", refused, errno::EDQUOT);
    chain[1..].iter().copied().for_each(close);
}
