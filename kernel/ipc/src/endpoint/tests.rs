//! Endpoints as queues: who meets whom, what is kept, and who is told of the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use sync::Link;

use super::*;
use crate::reply::Reply;

type Handle = Arc<Thread>;

struct Thread {
    link: Link<Handle>,
    park: ParkWord,
    unanswered: AtomicUsize,
}

impl Linked<Handle> for Thread {
    fn link(&self) -> &Link<Handle> {
        &self.link
    }
}

impl Party<Handle> for Thread {
    fn park(&self) -> &ParkWord {
        &self.park
    }

    fn unanswered(this: Handle) {
        this.unanswered.fetch_add(1, SeqCst);
    }
}

impl core::fmt::Debug for Thread {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Thread")
    }
}

impl Thread {
    fn new() -> Handle {
        Arc::new(Self {
            link: Link::new(),
            park: ParkWord::new(),
            unanswered: AtomicUsize::new(0),
        })
    }

    fn begin(&self) -> Sleep {
        let sleep = self.park.next();
        self.park.begin();
        sleep
    }

    fn is_queued(&self) -> bool {
        self.link.is_queued()
    }
}

fn endpoint() -> Endpoint<Handle> {
    let endpoint = Endpoint::new();
    endpoint.add_receiver();
    endpoint
}

/// Sends, and has to wait.
fn queue(endpoint: &Endpoint<Handle>, sender: &Handle) -> Sleep {
    match endpoint.send(sender, || sender.begin()) {
        Sent::Queued(sleep) => sleep,
        other => panic!("{other:?}"),
    }
}

fn receive(endpoint: &Endpoint<Handle>, receiver: &Handle) -> Received<Handle> {
    let take = |sender: &Handle| take(&sender.park, false).map(|_| sender.clone());
    endpoint.receive(receiver, take, || receiver.begin())
}

fn is_from(received: Received<Handle>, sender: &Handle) -> bool {
    matches!(received, Received::Message(from) if Arc::ptr_eq(&from, sender))
}

#[test]
fn messages_come_in_the_order_in_which_they_were_sent() {
    let endpoint = endpoint();
    let senders = [(); 3].map(|()| Thread::new());
    for sender in &senders {
        queue(&endpoint, sender);
    }
    let receiver = Thread::new();
    for sender in &senders {
        assert!(is_from(receive(&endpoint, &receiver), sender));
        assert!(!sender.is_queued() && sender.park.asleep().is_none());
    }
    assert!(matches!(receive(&endpoint, &receiver), Received::Queued(_)));
    let sent = endpoint.send(&senders[0], || unreachable!("a receiver waits"));
    assert!(matches!(sent, Sent::To(to) if Arc::ptr_eq(&to, &receiver)));
    assert!(!receiver.is_queued() && receiver.park.asleep().is_none());
}

#[test]
fn bits_come_before_messages_and_all_at_once() {
    let endpoint = endpoint();
    let (sender, receiver) = (Thread::new(), Thread::new());
    queue(&endpoint, &sender);
    for bits in [1, 4, 1] {
        assert!(matches!(endpoint.notify(bits), Notified::Kept));
    }
    let received = receive(&endpoint, &receiver);
    assert!(matches!(received, Received::Bits(5)), "{received:?}");
    assert!(is_from(receive(&endpoint, &receiver), &sender));
    receive(&endpoint, &receiver);
    let notified = endpoint.notify(8);
    assert!(matches!(notified, Notified::To(_, 8)), "{notified:?}");
}

#[test]
fn whoever_was_woken_by_something_else_is_passed_over() {
    let endpoint = endpoint();
    let [late, other, receiver] = [(); 3].map(|()| Thread::new());
    let sleep = queue(&endpoint, &late);
    queue(&endpoint, &other);
    assert!(late.park.claim(sleep));
    assert!(is_from(receive(&endpoint, &receiver), &other));
    assert!(!late.is_queued(), "out of the queue on the way");
    endpoint.leave(&late);

    let Received::Queued(sleep) = receive(&endpoint, &receiver) else {
        panic!("nobody sends");
    };
    assert!(receiver.park.claim(sleep));
    queue(&endpoint, &other);
    assert!(other.is_queued());
}

#[test]
fn who_leaves_the_queue_leaves_the_others_there() {
    let endpoint = endpoint();
    let senders = [(); 3].map(|()| Thread::new());
    let sleeps = senders.each_ref().map(|sender| queue(&endpoint, sender));
    assert!(senders[1].park.claim(sleeps[1]));
    endpoint.leave(&senders[1]);
    assert!(!senders[1].is_queued());
    let receiver = Thread::new();
    for n in [0, 2] {
        assert!(is_from(receive(&endpoint, &receiver), &senders[n]));
    }
}

#[test]
fn the_last_right_to_receive_closes() {
    let endpoint = endpoint();
    endpoint.add_receiver();
    let senders = [(); 2].map(|()| Thread::new());
    let sleeps = senders.each_ref().map(|sender| queue(&endpoint, sender));
    assert!(!endpoint.remove_receiver());
    assert!(!endpoint.is_closed());
    assert!(endpoint.remove_receiver());
    assert!(endpoint.is_closed());
    assert!(senders[0].park.claim(sleeps[0]), "its time is over");
    let drained = endpoint.drain().expect("the other one waits");
    assert!(Arc::ptr_eq(&drained, &senders[1]));
    assert!(endpoint.drain().is_none());
    assert!(senders[0].is_queued(), "it takes itself out");
    endpoint.leave(&senders[0]);

    let late = Thread::new();
    let sent = endpoint.send(&late, || unreachable!("nobody receives"));
    assert!(matches!(sent, Sent::Closed));
    assert!(matches!(endpoint.notify(1), Notified::Closed));
    assert!(matches!(receive(&endpoint, &late), Received::Closed));
    assert!(late.park.asleep().is_none());
}

#[test]
fn a_sender_is_taken_as_it_waits() {
    let sender = Thread::new();
    assert_eq!(take(&sender.park, true), None);
    assert_eq!(take(&sender.park, false), None);
    let sleep = sender.begin();
    assert_eq!(take(&sender.park, true), Some(Taken::Awaited(sleep)));
    assert!(sender.park.is_asleep(sleep), "it waits for the answer");
    assert_eq!(take(&sender.park, false), Some(Taken::Claimed));
    assert!(!sender.park.is_asleep(sleep));
}

#[test]
fn an_answer_is_given_once_or_given_up() {
    let caller = Thread::new();
    let told = || caller.unanswered.load(SeqCst);
    let reply = || Reply::new(caller.clone(), caller.begin());
    let answered = reply();
    assert!(answered.is_awaited());
    assert!(answered.answer().is_some());
    assert_eq!(told(), 0);

    drop(reply());
    assert_eq!(told(), 1);

    let late = reply();
    assert!(caller.park.claim_any());
    assert!(!late.is_awaited());
    assert!(late.answer().is_none());
    let late = reply();
    assert!(caller.park.claim_any());
    caller.begin();
    drop(late);
    assert_eq!(told(), 1, "the next sleep is another one's");
    assert!(caller.park.asleep().is_some());
}
