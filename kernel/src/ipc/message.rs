//! A message on its way, and what a thread remembers about messages.

use abi::message::{Kind, Tag, WORDS, answer};
use frame::slab::Ref;
use sync::SpinLock;
use sync::rank;

use super::reply::Reply;
use super::{Endpoint, transfer};
use crate::arch::Context;
use crate::process::Process;
use crate::process::end::End;
use crate::thread::Thread;

/// What a thread sends, for as long as it is not answered.
#[derive(Clone, Copy, Debug, Default)]
pub enum Outgoing {
    /// Nothing.
    #[default]
    None,
    /// What is in its registers, through a handle with this badge, to be answered or not.
    Registers {
        /// Badge.
        badge: u64,
        /// It waits for an answer.
        call: bool,
    },
    /// What the kernel says for it; it waits for an answer.
    Kernel {
        /// Kind and label.
        tag: Tag,
        /// Words.
        words: [u64; WORDS],
        /// Badge.
        badge: u64,
        /// How the process ends if nobody else decides.
        end: Option<End>,
    },
}

impl Outgoing {
    /// Whether its sender waits for an answer.
    pub const fn wants_answer(&self) -> bool {
        !matches!(self, Self::Registers { call: false, .. })
    }

    /// What the answer with this label does to the sender, if that is little.
    #[inline]
    const fn answer_with(&self, label: u32) -> Option<Answered> {
        match self {
            Self::Registers { .. } => Some(Answered::Words),
            Self::Kernel { tag, .. } if label == answer::DONE => match tag.kind() {
                Some(Kind::LinuxCall) => Some(Answered::Result),
                Some(Kind::Page) => Some(Answered::Nothing),
                _ => None,
            },
            _ => None,
        }
    }
}

/// What an answer does to its caller, where that is little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It has the words of the answer.
    Words,
    /// Its Linux call has the first word as its result.
    Result,
    /// It tries again.
    Nothing,
}

/// What a thread remembers about messages.
#[derive(Debug, Default)]
struct State {
    outgoing: Outgoing,
    answering: Option<Reply>,
    waits_at: Option<Ref<Endpoint>>,
    waits_for: Option<Ref<Process>>,
}

/// The same, for whoever holds the thread.
#[derive(Debug)]
pub struct Ipc(SpinLock<State, rank::Leaf>);

impl Ipc {
    /// Nothing yet.
    pub fn new() -> Self {
        Self(SpinLock::new(State::default()))
    }

    /// What the thread sends.
    pub fn outgoing(&self) -> Outgoing {
        self.0.lock().outgoing
    }

    /// Changes that.
    pub fn set_outgoing(&self, outgoing: Outgoing) {
        self.0.lock().outgoing = outgoing;
    }

    /// The thread, which owes no answer, owes this one.
    #[inline]
    pub fn owe(&self, reply: Reply) {
        let before = self.0.lock().answering.replace(reply);
        debug_assert!(before.is_none(), "who waits for a message owes no answer");
    }

    /// The answer that the thread owes, if it owes one; it owes `next` from here on. What comes back
    /// is dropped with nothing locked.
    #[must_use = "an answer that is dropped is given up"]
    pub fn set_answering(&self, next: Option<Reply>) -> Option<Reply> {
        core::mem::replace(&mut self.0.lock().answering, next)
    }

    /// What the answer with this label does to the thread, if that is little.
    #[inline]
    pub fn answer_with(&self, label: u32) -> Option<Answered> {
        self.0.lock().outgoing.answer_with(label)
    }

    /// The answer that the thread owes, if it last waited at `endpoint`: it owes none from here on, and
    /// sends nothing.
    pub fn take_answering_at(&self, endpoint: &Ref<Endpoint>) -> Option<Reply> {
        let mut state = self.0.lock();
        let at = state.waits_at.as_ref()?;
        if !Ref::ptr_eq(at, endpoint) {
            return None;
        }
        state.outgoing = Outgoing::None;
        state.answering.take()
    }

    /// To whom the thread owes an answer, if that one waits still.
    pub fn peer(&self) -> Option<Ref<Thread>> {
        let state = self.0.lock();
        let reply = state.answering.as_ref()?;
        reply.is_awaited().then(|| reply.caller().cloned())?
    }

    /// Remembers in which endpoint's queue the thread is.
    pub fn set_waits_at(&self, endpoint: Option<Ref<Endpoint>>) {
        let before = core::mem::replace(&mut self.0.lock().waits_at, endpoint);
        drop(before);
    }

    /// Remembers for whose end the thread waits.
    pub fn set_waits_for(&self, process: Option<Ref<Process>>) {
        let before = core::mem::replace(&mut self.0.lock().waits_for, process);
        drop(before);
    }

    /// For whose end the thread waited, which is not remembered any more.
    pub fn take_waits_for(&self) -> Option<Ref<Process>> {
        self.0.lock().waits_for.take()
    }

    /// In which endpoint's queue the thread was, which is not remembered any more.
    pub fn take_waits_at(&self) -> Option<Ref<Endpoint>> {
        self.0.lock().waits_at.take()
    }
}

impl Default for Ipc {
    fn default() -> Self {
        Self::new()
    }
}

/// A message outside of registers.
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    tag: Tag,
    words: [u64; WORDS],
    badge: u64,
    sender: u64,
}

impl Envelope {
    /// What `sender` sends.
    pub fn of(sender: &Thread, outgoing: &Outgoing) -> Self {
        let (tag, words, badge) = match *outgoing {
            Outgoing::Kernel {
                tag, words, badge, ..
            } => (tag, words, badge),
            Outgoing::Registers { badge, call } => {
                let kind = if call { Kind::Call } else { Kind::Send };
                let context = sender.context();
                (
                    super::tag_of(sender).sendable(kind),
                    words_of(context),
                    badge,
                )
            }
            Outgoing::None => (Tag::of_kind(Kind::Send, 0), [0; WORDS], 0),
        };
        Self {
            tag,
            words,
            badge,
            sender: sender.tid().into(),
        }
    }

    /// An answer, as `sender` has it in its registers.
    pub fn answer_of(sender: &Thread) -> Self {
        Self {
            tag: super::tag_of(sender).sendable(Kind::Send),
            words: words_of(sender.context()),
            badge: 0,
            sender: sender.tid().into(),
        }
    }

    /// Notification bits.
    pub const fn bits(bits: u64) -> Self {
        Self {
            tag: Tag::of_kind(Kind::Notification, 0),
            words: [bits, 0, 0, 0, 0, 0],
            badge: 0,
            sender: 0,
        }
    }

    /// The label.
    pub const fn label(&self) -> u32 {
        self.tag.label()
    }

    /// The words.
    pub const fn words(&self) -> &[u64; WORDS] {
        &self.words
    }

    /// Hands it to `receiver`, which does not run, with the handles of `sender` that it names.
    pub fn deliver(mut self, sender: &Thread, receiver: &Thread) {
        if self.tag.handles() != 0 {
            let (from, to) = (sender.process(), receiver.process());
            transfer::carry(self.tag, &mut self.words, from, to);
        }
        self.write(receiver.context());
    }

    /// Writes it to the registers of whoever receives it.
    pub fn write(&self, context: &Context) {
        context.set(0, 0);
        context.set(1, self.tag.0);
        for (n, word) in self.words.iter().enumerate() {
            context.set(2 + n, *word);
        }
        context.set(9, self.badge);
        context.set(10, self.sender);
    }
}

/// Carries a message without handles from the registers of one thread to those of another.
#[inline(always)]
pub fn carry(from: &Thread, to: &Thread, kind: Kind, badge: u64) {
    let (source, target) = (from.context(), to.context());
    target.set(0, 0);
    target.set(1, super::tag_of(from).sendable(kind).0);
    for n in 0..WORDS {
        target.set(2 + n, source.get(2 + n));
    }
    target.set(9, badge);
    target.set(10, from.tid().into());
}

fn words_of(context: &Context) -> [u64; WORDS] {
    core::array::from_fn(|n| context.get(2 + n))
}
