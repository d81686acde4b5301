//! Senders, receivers and callers at one endpoint, and time-outs, ends and closing that meet them.

use loom::thread;

use crate::party::{BITS, Closed, NOTHING, Thread, UNANSWERED, World, answer};
use crate::run::{explore, explore_bounded};

sync::models! {
    send_against_receive {}
    send_against_time_out_of_the_receiver { SendToTheWoken: "woken twice", StayQueued: "queued while it runs" }
    receive_against_time_out_of_the_sender { TakeTheWoken: "woken twice" }
    receive_against_death_of_the_caller {}
    sender_dies_while_it_is_queued { StayQueued: "queued while it runs" }
    receiver_dies_while_it_is_picked { SendToTheWoken: "woken twice" }
    call_against_receive { ForgetCaller: "sleeps for ever" }
    answer_against_time_out { AnswerTheWoken: "woken twice" }
    answer_against_death {}
    giving_up_against_death {}
    notify_against_receive { IgnoreBits: "sleeps with bits set" }
    notify_twice_against_receive { LoseNotification: "lost" }
    notify_against_time_out {}
    notify_against_close {}
    send_against_close { CloseSilently: "sleeps for ever" }
    receive_against_close { CloseSilently: "sleeps for ever" }
    two_senders_of_one_receiver {}
    two_receivers_of_one_sender {}
    short_call_against_receive { ForgetCaller: "sleeps for ever" }
    short_call_against_time_out_of_the_receiver { SendToTheWoken: "woken twice" }
    short_call_against_death_of_the_receiver {}
    short_call_against_close { CloseSilently: "sleeps for ever" }
    answer_and_receive_against_send {}
    answer_and_receive_against_notify { IgnoreBits: "sleeps with bits set" }
    answer_and_receive_against_death_of_the_caller { AnswerTheWoken: "woken twice" }
    answer_and_receive_against_death_of_the_server {}
    answer_and_receive_against_close { CloseSilently: "sleeps for ever" }
}

/// The message is there once, whoever came first.
fn send_against_receive() {
    explore(|| {
        let world = World::new();
        let (sender, receiver) = (Thread::sender(7), Thread::receiver());
        let (w, r) = (world.clone(), receiver.clone());
        let other = thread::spawn(move || w.receive(&r).unwrap().is_some());
        let sender_slept = world.send(&sender).unwrap().is_some();
        let receiver_slept = other.join().unwrap();
        assert_eq!(receiver.got(), 7);
        assert!(sender_slept != receiver_slept, "the second finds the first");
        let slept = if sender_slept { &sender } else { &receiver };
        slept.has_run_once();
    });
}

/// The receiver has the message, or its time is over and the message waits for another one.
fn send_against_time_out_of_the_receiver() {
    explore(|| {
        let world = World::new();
        let (sender, receiver) = (Thread::sender(7), Thread::receiver());
        let sleep = world.receive(&receiver).unwrap().unwrap();
        let (w, r) = (world.clone(), receiver.clone());
        let timer = thread::spawn(move || w.end(&r, r.park.claim(sleep)));
        let queued = world.send(&sender).unwrap().is_some();
        let timed_out = timer.join().unwrap();
        receiver.has_run_once();
        assert_eq!(queued, timed_out);
        assert_eq!(receiver.got(), if timed_out { NOTHING } else { 7 });
        if queued {
            let next = Thread::receiver();
            assert_eq!(world.receive(&next), Ok(None));
            assert_eq!(next.got(), 7);
            sender.has_run_once();
        }
    });
}

/// The message was received, or its sender's time is over: never both.
fn receive_against_time_out_of_the_sender() {
    explore(|| {
        let world = World::new();
        let (sender, receiver) = (Thread::sender(7), Thread::receiver());
        let sleep = world.send(&sender).unwrap().unwrap();
        let (w, s) = (world.clone(), sender.clone());
        let timer = thread::spawn(move || w.end(&s, s.park.claim(sleep)));
        let waits = world.receive(&receiver).unwrap().is_some();
        let timed_out = timer.join().unwrap();
        sender.has_run_once();
        assert_eq!(receiver.got(), if timed_out { NOTHING } else { 7 });
        assert_eq!(waits, timed_out);
    });
}

/// A caller that dies in the queue or when it has been received; then its answer finds nobody.
fn receive_against_death_of_the_caller() {
    explore(|| {
        let world = World::new();
        let (caller, receiver) = (Thread::caller(7), Thread::receiver());
        world.send(&caller).unwrap().unwrap();
        let (w, c) = (world.clone(), caller.clone());
        let killer = thread::spawn(move || w.kill(&c));
        let waits = world.receive(&receiver).unwrap().is_some();
        let killed = match waits {
            true => killer.join().unwrap(),
            false => {
                let answered = answer(receiver.owed(), 8);
                let killed = killer.join().unwrap();
                assert!(killed != answered);
                killed
            }
        };
        assert_eq!(receiver.got(), if waits { NOTHING } else { 7 });
        assert_eq!(caller.got(), if killed { NOTHING } else { 8 });
        caller.has_run_once();
    });
}

/// The process of a sender ends while it enters the queue.
fn sender_dies_while_it_is_queued() {
    explore(|| {
        let world = World::new();
        let sender = Thread::sender(7);
        let (w, s) = (world.clone(), sender.clone());
        let killer = thread::spawn(move || w.kill(&s));
        world.send(&sender).unwrap().unwrap();
        killer.join().unwrap();
        sender.has_run_once();
        let next = Thread::receiver();
        assert!(world.receive(&next).unwrap().is_some(), "it said nothing");
    });
}

/// A receiver's process ends while a call picks it: the call waits for another one, or for an answer
/// that is given up.
fn receiver_dies_while_it_is_picked() {
    explore(|| {
        let world = World::new();
        let (caller, receiver) = (Thread::caller(7), Thread::receiver());
        world.receive(&receiver).unwrap().unwrap();
        let (w, r) = (world.clone(), receiver.clone());
        let killer = thread::spawn(move || w.kill(&r));
        world.send(&caller).unwrap().unwrap();
        let killed = killer.join().unwrap();
        receiver.has_run_once();
        assert_eq!(receiver.got() == NOTHING, killed);
        if !killed {
            drop(receiver.owed());
            assert_eq!(caller.got(), UNANSWERED);
        } else {
            world.close();
            assert_eq!(caller.got(), UNANSWERED);
        }
        caller.has_run_once();
    });
}

/// A call is received once, and its caller told once that there will be no answer.
fn call_against_receive() {
    explore(|| {
        let world = World::new();
        let (caller, receiver) = (Thread::caller(7), Thread::receiver());
        let (w, r) = (world.clone(), receiver.clone());
        let server = thread::spawn(move || {
            let waits = w.receive(&r).unwrap().is_some();
            if !waits {
                drop(r.owed());
            }
            waits
        });
        world.send(&caller).unwrap().unwrap();
        if server.join().unwrap() {
            receiver.has_run_once();
            drop(receiver.owed());
        }
        assert_eq!(receiver.got(), 7);
        caller.has_run_once();
        assert_eq!(caller.got(), UNANSWERED);
    });
}

/// Who waits for an answer has it, or its time is over: never both.
fn answer_against_time_out() {
    explore(|| {
        let world = World::new();
        let (caller, receiver) = (Thread::caller(7), Thread::receiver());
        let sleep = world.send(&caller).unwrap().unwrap();
        world.receive(&receiver).unwrap();
        let (w, c) = (world.clone(), caller.clone());
        let timer = thread::spawn(move || w.end(&c, c.park.claim(sleep)));
        let answered = answer(receiver.owed(), 8);
        let timed_out = timer.join().unwrap();
        caller.has_run_once();
        assert!(answered != timed_out);
        assert_eq!(caller.got(), if answered { 8 } else { NOTHING });
    });
}

/// The caller's process ends while it begins to wait for an answer that comes at once.
fn answer_against_death() {
    explore_bounded(4, || {
        let world = World::new();
        let (caller, receiver) = (Thread::caller(7), Thread::receiver());
        world.receive(&receiver).unwrap().unwrap();
        let (w, c) = (world.clone(), caller.clone());
        let killer = thread::spawn(move || w.kill(&c));
        let (w, c) = (world.clone(), caller.clone());
        let calls = thread::spawn(move || w.send(&c).unwrap());
        while receiver.woken() == 0 {
            thread::yield_now();
        }
        let answered = answer(receiver.owed(), 8);
        calls.join().unwrap().unwrap();
        killer.join().unwrap();
        caller.has_run_once();
        assert_eq!(caller.got(), if answered { 8 } else { NOTHING });
    });
}

fn giving_up_against_death() {
    explore(|| {
        let world = World::new();
        let (caller, receiver) = (Thread::caller(7), Thread::receiver());
        world.send(&caller).unwrap().unwrap();
        world.receive(&receiver).unwrap();
        let (w, c) = (world.clone(), caller.clone());
        let killer = thread::spawn(move || w.kill(&c));
        drop(receiver.owed());
        let killed = killer.join().unwrap();
        caller.has_run_once();
        assert_eq!(caller.got(), if killed { NOTHING } else { UNANSWERED });
    });
}

fn notify_against_receive() {
    explore(|| {
        let world = World::new();
        let receiver = Thread::receiver();
        let (w, r) = (world.clone(), receiver.clone());
        let other = thread::spawn(move || w.receive(&r).unwrap().is_some());
        world.notify(1).unwrap();
        if other.join().unwrap() {
            assert!(receiver.woken() != 0, "sleeps with bits set");
            receiver.has_run_once();
        }
        assert_eq!(receiver.got(), 1 | BITS);
    });
}

/// Bits that two have set come together or one after the other.
fn notify_twice_against_receive() {
    explore(|| {
        let world = World::new();
        let receiver = Thread::receiver();
        let w = world.clone();
        let other = thread::spawn(move || w.notify(2).unwrap());
        world.notify(1).unwrap();
        let waits = world.receive(&receiver).unwrap().is_some();
        other.join().unwrap();
        if waits {
            assert!(receiver.woken() == 1, "a notification is lost");
        }
        let next = Thread::receiver();
        world.receive(&next).unwrap();
        assert_eq!((receiver.got() | next.got()) & !BITS, 3, "lost");
    });
}

/// The bits stay if the receiver's time is over first.
fn notify_against_time_out() {
    explore(|| {
        let world = World::new();
        let receiver = Thread::receiver();
        let sleep = world.receive(&receiver).unwrap().unwrap();
        let (w, r) = (world.clone(), receiver.clone());
        let timer = thread::spawn(move || w.end(&r, r.park.claim(sleep)));
        world.notify(1).unwrap();
        let timed_out = timer.join().unwrap();
        receiver.has_run_once();
        let next = Thread::receiver();
        let waits = world.receive(&next).unwrap().is_some();
        assert!(waits != timed_out);
        let has = if timed_out { &next } else { &receiver };
        assert_eq!(has.got(), 1 | BITS);
    });
}

/// A receiver that waits when its right ends is told so, or has the bits.
fn notify_against_close() {
    explore(|| {
        let world = World::new();
        let receiver = Thread::receiver();
        world.receive(&receiver).unwrap().unwrap();
        let w = world.clone();
        let closer = thread::spawn(move || w.close());
        let notified = world.notify(1);
        closer.join().unwrap();
        receiver.has_run_once();
        let expected = match notified {
            Ok(()) if receiver.got() != UNANSWERED => 1 | BITS,
            // Kept for a receiver that does not come, or refused.
            _ => UNANSWERED,
        };
        assert_eq!(receiver.got(), expected);
        assert_eq!(world.notify(1), Err(Closed));
    });
}

/// Nobody sleeps for ever who sends while the last right to receive ends.
fn send_against_close() {
    explore(|| {
        let world = World::new();
        let caller = Thread::caller(7);
        let w = world.clone();
        let closer = thread::spawn(move || w.close());
        let sent = world.send(&caller);
        closer.join().unwrap();
        if sent.is_ok() {
            caller.has_run_once();
            assert_eq!(caller.got(), UNANSWERED);
        }
        let late = world.send(&Thread::sender(8));
        assert!(late == Err(Closed), "sleeps for ever");
    });
}

fn receive_against_close() {
    explore(|| {
        let world = World::new();
        let receiver = Thread::receiver();
        let w = world.clone();
        let closer = thread::spawn(move || w.close());
        let received = world.receive(&receiver);
        closer.join().unwrap();
        if received.is_ok() {
            receiver.has_run_once();
            assert_eq!(receiver.got(), UNANSWERED);
        }
        let late = world.receive(&Thread::receiver());
        assert!(late == Err(Closed), "sleeps for ever");
    });
}

/// One is received, the other one waits for the next receiver.
fn two_senders_of_one_receiver() {
    explore(|| {
        let world = World::new();
        let (one, two) = (Thread::sender(1), Thread::sender(2));
        let receiver = Thread::receiver();
        world.receive(&receiver).unwrap().unwrap();
        let (w, s) = (world.clone(), two.clone());
        let other = thread::spawn(move || w.send(&s).unwrap().is_some());
        let one_waits = world.send(&one).unwrap().is_some();
        let two_waits = other.join().unwrap();
        assert!(one_waits != two_waits);
        let next = Thread::receiver();
        assert_eq!(world.receive(&next), Ok(None));
        let expected = if one_waits { (2, 1) } else { (1, 2) };
        assert_eq!((receiver.got(), next.got()), expected);
        receiver.has_run_once();
        let waited = if one_waits { one } else { two };
        waited.has_run_once();
    });
}

fn two_receivers_of_one_sender() {
    explore(|| {
        let world = World::new();
        let (one, two) = (Thread::receiver(), Thread::receiver());
        let sender = Thread::sender(7);
        world.send(&sender).unwrap().unwrap();
        let (w, r) = (world.clone(), two.clone());
        let other = thread::spawn(move || w.receive(&r).unwrap().is_some());
        let one_waits = world.receive(&one).unwrap().is_some();
        let two_waits = other.join().unwrap();
        assert!(one_waits != two_waits);
        assert_eq!(one.got() + two.got(), 7);
        let waits = if one_waits { one } else { two };
        waits.sleeps();
        sender.has_run_once();
    });
}

/// The short way finds the receiver, or the call waits for it.
fn short_call_against_receive() {
    explore(|| {
        let world = World::new();
        let (caller, receiver) = (Thread::caller(7), Thread::receiver());
        let (w, r) = (world.clone(), receiver.clone());
        let server = thread::spawn(move || w.receive(&r).unwrap().is_some());
        world.send_now(&caller).unwrap().unwrap();
        if server.join().unwrap() {
            receiver.has_run_once();
        }
        assert_eq!(receiver.got(), 7);
        drop(receiver.owed());
        caller.has_run_once();
        assert_eq!(caller.got(), UNANSWERED);
    });
}

/// A receiver whose time is over is not turned to.
fn short_call_against_time_out_of_the_receiver() {
    explore(|| {
        let world = World::new();
        let (caller, receiver) = (Thread::caller(7), Thread::receiver());
        let sleep = world.receive(&receiver).unwrap().unwrap();
        let (w, r) = (world.clone(), receiver.clone());
        let timer = thread::spawn(move || w.end(&r, r.park.claim(sleep)));
        world.send_now(&caller).unwrap().unwrap();
        let timed_out = timer.join().unwrap();
        receiver.has_run_once();
        assert_eq!(receiver.got(), if timed_out { NOTHING } else { 7 });
        match timed_out {
            true => caller.sleeps(),
            false => assert!(answer(receiver.owed(), 8)),
        }
    });
}

fn short_call_against_death_of_the_receiver() {
    explore(|| {
        let world = World::new();
        let (caller, receiver) = (Thread::caller(7), Thread::receiver());
        world.receive(&receiver).unwrap().unwrap();
        let (w, r) = (world.clone(), receiver.clone());
        let killer = thread::spawn(move || w.kill(&r));
        world.send_now(&caller).unwrap().unwrap();
        let killed = killer.join().unwrap();
        receiver.has_run_once();
        assert_eq!(receiver.got() == NOTHING, killed);
        match killed {
            true => caller.sleeps(),
            false => drop(receiver.owed()),
        }
    });
}

fn short_call_against_close() {
    explore(|| {
        let world = World::new();
        let caller = Thread::caller(7);
        let w = world.clone();
        let closer = thread::spawn(move || w.close());
        let sent = world.send_now(&caller);
        closer.join().unwrap();
        if sent.is_ok() {
            caller.has_run_once();
            assert_eq!(caller.got(), UNANSWERED);
        }
        let late = world.send_now(&Thread::caller(8));
        assert!(late == Err(Closed), "sleeps for ever");
    });
}

/// Someone who has been called and has received the call.
fn called() -> (
    loom::sync::Arc<World>,
    crate::party::Handle,
    crate::party::Handle,
) {
    let world = World::new();
    let (caller, server) = (Thread::caller(7), Thread::receiver());
    world.send(&caller).unwrap().unwrap();
    assert_eq!(world.receive(&server), Ok(None));
    (world, caller, server)
}

/// The next message is there once, whoever came first.
fn answer_and_receive_against_send() {
    explore(|| {
        let (world, caller, server) = called();
        let sender = Thread::sender(9);
        let (w, s) = (world.clone(), sender.clone());
        let other = thread::spawn(move || w.send(&s).unwrap().is_some());
        let (answered, received) = world.answer_and_receive(&server, 8);
        let sender_slept = other.join().unwrap();
        assert!(answered);
        caller.has_run_once();
        assert_eq!((caller.got(), server.got()), (8, 9));
        let server_slept = received.unwrap().is_some();
        assert!(sender_slept != server_slept, "the second finds the first");
        let slept = if sender_slept { &sender } else { &server };
        slept.has_run_once();
    });
}

fn answer_and_receive_against_notify() {
    explore(|| {
        let (world, caller, server) = called();
        let w = world.clone();
        let other = thread::spawn(move || w.notify(1).unwrap());
        let (answered, received) = world.answer_and_receive(&server, 8);
        other.join().unwrap();
        assert!(answered);
        caller.has_run_once();
        if received.unwrap().is_some() {
            assert!(server.woken() != 0, "sleeps with bits set");
            server.has_run_once();
        }
        assert_eq!(server.got(), 1 | BITS);
    });
}

/// A caller whose process ends is not turned to, and the server waits all the same.
fn answer_and_receive_against_death_of_the_caller() {
    explore(|| {
        let (world, caller, server) = called();
        let (w, c) = (world.clone(), caller.clone());
        let killer = thread::spawn(move || w.kill(&c));
        let (answered, received) = world.answer_and_receive(&server, 8);
        let killed = killer.join().unwrap();
        caller.has_run_once();
        assert!(answered != killed);
        assert_eq!(caller.got(), if answered { 8 } else { NOTHING });
        assert!(received.unwrap().is_some());
        server.sleeps();
    });
}

fn answer_and_receive_against_death_of_the_server() {
    explore(|| {
        let (world, caller, server) = called();
        let (w, s) = (world.clone(), server.clone());
        let killer = thread::spawn(move || w.kill(&s));
        let (answered, received) = world.answer_and_receive(&server, 8);
        killer.join().unwrap();
        assert!(answered && received.unwrap().is_some());
        caller.has_run_once();
        server.has_run_once();
    });
}

fn answer_and_receive_against_close() {
    explore(|| {
        let (world, caller, server) = called();
        let w = world.clone();
        let closer = thread::spawn(move || w.close());
        let (answered, received) = world.answer_and_receive(&server, 8);
        closer.join().unwrap();
        assert!(answered);
        caller.has_run_once();
        if received.is_ok() {
            server.has_run_once();
            assert_eq!(server.got(), UNANSWERED);
        }
        let late = world.receive(&Thread::receiver());
        assert!(late == Err(Closed), "sleeps for ever");
    });
}
