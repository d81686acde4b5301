//! An intrusive first-in-first-out queue of reference-counted handles.
//!
//! Nothing is allocated to enqueue, so parking a thread cannot fail. An element sits in at most one
//! queue per [`Link`] it contains, and the queue holds references, so a queued element stays alive.
//! The queue itself is plain data: the lock around it is the caller's.

use crate::const_fn;
use core::ops::Deref;

#[cfg(not(loom))]
mod cell {
    use crate::Relax;

    /// A lock of a few instructions around each link. The caller's lock makes it uncontended; it
    /// is what keeps a wrong caller (one element, two queues, two locks) from undefined behaviour.
    pub(super) struct Guarded<T>(spin::mutex::SpinMutex<T, Relax>);

    impl<T> Guarded<T> {
        pub(super) const fn new(value: T) -> Self {
            Self(spin::mutex::SpinMutex::new(value))
        }

        #[inline(always)]
        pub(super) fn with<A>(&self, act: impl FnOnce(&mut T) -> A) -> A {
            act(&mut self.0.lock())
        }
    }
}

#[cfg(loom)]
mod cell {
    pub(super) struct Guarded<T>(loom::sync::Mutex<T>);

    impl<T> Guarded<T> {
        pub(super) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(super) fn with<A>(&self, act: impl FnOnce(&mut T) -> A) -> A {
            act(&mut self.0.lock().unwrap())
        }
    }
}

struct State<H> {
    queued: bool,
    next: Option<H>,
}

/// The part of an element by which a [`Queue`] holds it.
pub struct Link<H> {
    state: cell::Guarded<State<H>>,
}

impl<H> Link<H> {
    const_fn! {
        /// A link in no queue.
        pub const fn new() -> Self {
            Self { state: cell::Guarded::new(State { queued: false, next: None }) }
        }
    }

    /// Whether the element is in a queue at this moment.
    pub fn is_queued(&self) -> bool {
        self.state.with(|state| state.queued)
    }

    fn claim(&self) -> bool {
        self.state
            .with(|state| !core::mem::replace(&mut state.queued, true))
    }

    fn unclaim(&self) -> Option<H> {
        self.state.with(|state| {
            state.queued = false;
            state.next.take()
        })
    }

    fn set_next(&self, next: Option<H>) {
        // The old value is dropped outside of the closure, so no element dies under the guard.
        let old = self
            .state
            .with(|state| core::mem::replace(&mut state.next, next));
        drop(old);
    }
}

impl<H: Clone> Link<H> {
    fn next(&self) -> Option<H> {
        self.state.with(|state| state.next.clone())
    }
}

impl<H> Default for Link<H> {
    fn default() -> Self {
        Self::new()
    }
}

/// Elements that a queue of handles `H` can hold: `impl Linked<Ref<Thread>> for Thread`.
///
/// `Tag` tells several links of one element apart (a thread waits on a futex *and* on a timer).
pub trait Linked<H, Tag = ()> {
    /// The element's link for queues of this tag. Must always return the same one.
    fn link(&self) -> &Link<H>;
}

/// The element is in a queue already (by the link of that tag).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyQueued;

/// A first-in-first-out queue of handles.
pub struct Queue<H, Tag = ()>
where
    H: Clone + Deref,
    H::Target: Linked<H, Tag>,
{
    head: Option<H>,
    tail: Option<H>,
    len: usize,
    tag: core::marker::PhantomData<fn() -> Tag>,
}

impl<H, Tag> Queue<H, Tag>
where
    H: Clone + Deref,
    H::Target: Linked<H, Tag>,
{
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            head: None,
            tail: None,
            len: 0,
            tag: core::marker::PhantomData,
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the queue has no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The element that [`pop`](Self::pop) would return.
    pub fn front(&self) -> Option<&H> {
        self.head.as_ref()
    }

    /// Adds an element at the end.
    ///
    /// # Errors
    /// If it is in this or another queue: nothing has changed then.
    pub fn push(&mut self, element: H) -> Result<(), AlreadyQueued> {
        if !element.link().claim() {
            return Err(AlreadyQueued);
        }
        match self.tail.replace(element.clone()) {
            Some(last) => last.link().set_next(Some(element)),
            None => self.head = Some(element),
        }
        self.len += 1;
        Ok(())
    }

    /// Removes the element that came first.
    pub fn pop(&mut self) -> Option<H> {
        let first = self.head.take()?;
        self.head = first.link().unclaim();
        if self.head.is_none() {
            self.tail = None;
        }
        self.len -= 1;
        Some(first)
    }

    /// Removes the first element for which `wanted` holds. Linear in the distance to it.
    pub fn remove_first(&mut self, mut wanted: impl FnMut(&H) -> bool) -> Option<H> {
        let mut previous: Option<H> = None;
        let mut current = self.head.clone()?;
        while !wanted(&current) {
            let next = current.link().next()?;
            previous = Some(core::mem::replace(&mut current, next));
        }
        let Some(previous) = previous else {
            return self.pop();
        };
        let next = current.link().unclaim();
        if next.is_none() {
            self.tail = Some(previous.clone());
        }
        previous.link().set_next(next);
        self.len -= 1;
        Some(current)
    }

    /// Removes `element` if it is in this queue. Linear.
    pub fn remove(&mut self, element: &H) -> Option<H> {
        if !element.link().is_queued() {
            return None;
        }
        self.remove_first(|other| core::ptr::eq(other.link(), element.link()))
    }

    /// Moves all elements of `other` behind those of this queue. Constant time.
    pub fn append(&mut self, other: &mut Self) {
        let Some(first) = other.head.take() else {
            return;
        };
        let tail = other.tail.take();
        self.len += core::mem::take(&mut other.len);
        match core::mem::replace(&mut self.tail, tail) {
            Some(last) => last.link().set_next(Some(first)),
            None => self.head = Some(first),
        }
    }

    /// Takes all elements out as a queue of their own. Constant time.
    pub fn take(&mut self) -> Self {
        core::mem::take(self)
    }

    /// Calls `visit` for each element, first to last.
    pub fn for_each(&self, mut visit: impl FnMut(&H)) {
        let mut current = self.head.clone();
        while let Some(element) = current {
            visit(&element);
            current = element.link().next();
        }
    }
}

impl<H, Tag> Default for Queue<H, Tag>
where
    H: Clone + Deref,
    H::Target: Linked<H, Tag>,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<H, Tag> Drop for Queue<H, Tag>
where
    H: Clone + Deref,
    H::Target: Linked<H, Tag>,
{
    /// One by one: dropping the chain by its links would recurse as deep as the queue is long.
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::vec::Vec;

    enum Timer {}

    struct Thread {
        id: u32,
        link: Link<Arc<Thread>>,
        by_time: Link<Arc<Thread>>,
    }

    impl Linked<Arc<Self>> for Thread {
        fn link(&self) -> &Link<Arc<Self>> {
            &self.link
        }
    }

    impl Linked<Arc<Self>, Timer> for Thread {
        #[expect(
            clippy::misnamed_getters,
            reason = "which link it is depends on the tag"
        )]
        fn link(&self) -> &Link<Arc<Self>> {
            &self.by_time
        }
    }

    fn threads(count: u32) -> Vec<Arc<Thread>> {
        (0..count)
            .map(|id| {
                Arc::new(Thread {
                    id,
                    link: Link::new(),
                    by_time: Link::new(),
                })
            })
            .collect()
    }

    fn filled(threads: &[Arc<Thread>]) -> Queue<Arc<Thread>> {
        let mut queue = Queue::new();
        threads
            .iter()
            .for_each(|thread| queue.push(thread.clone()).unwrap());
        queue
    }

    fn ids(queue: &Queue<Arc<Thread>>) -> Vec<u32> {
        let mut ids = Vec::new();
        queue.for_each(|thread| ids.push(thread.id));
        assert_eq!(ids.len(), queue.len());
        assert_eq!(ids.is_empty(), queue.is_empty());
        assert_eq!(ids.first().copied(), queue.front().map(|thread| thread.id));
        ids
    }

    #[test]
    fn first_in_is_first_out_and_references_are_returned() {
        let all = threads(3);
        let mut queue = filled(&all);
        assert_eq!(ids(&queue), [0, 1, 2]);
        for thread in &all {
            assert!(thread.link.is_queued());
            assert!(Arc::ptr_eq(&queue.pop().unwrap(), thread));
            assert!(!thread.link.is_queued());
        }
        assert!(queue.pop().is_none());
        assert!(all.iter().all(|thread| Arc::strong_count(thread) == 1));
    }

    #[test]
    fn an_element_is_in_one_queue_at_most_but_may_use_another_link() {
        let all = threads(2);
        let mut first = filled(&all);
        let mut second = Queue::<Arc<Thread>>::new();
        assert_eq!(second.push(all[0].clone()), Err(AlreadyQueued));
        assert_eq!(first.push(all[1].clone()), Err(AlreadyQueued));
        let mut timers = Queue::<Arc<Thread>, Timer>::new();
        timers.push(all[0].clone()).unwrap();
        assert_eq!(
            (ids(&first), second.len(), timers.len()),
            ([0, 1].into(), 0, 1)
        );
    }

    #[test]
    fn any_element_can_be_removed_and_the_rest_keeps_its_order() {
        let all = threads(4);
        for gone in 0..4 {
            let mut queue = filled(&all);
            assert!(Arc::ptr_eq(&queue.remove(&all[gone]).unwrap(), &all[gone]));
            assert!(queue.remove(&all[gone]).is_none(), "removed twice");
            queue.push(all[gone].clone()).unwrap();
            let mut expected: Vec<u32> = (0..4).filter(|id| *id != gone as u32).collect();
            expected.push(gone as u32);
            assert_eq!(ids(&queue), expected);
        }
        assert!(all.iter().all(|thread| Arc::strong_count(thread) == 1));
    }

    #[test]
    fn an_element_of_another_queue_is_not_removed() {
        let all = threads(2);
        let (mut first, mut second) = (filled(&all[..1]), filled(&all[1..]));
        assert!(first.remove(&all[1]).is_none());
        assert_eq!((ids(&first), ids(&second)), ([0].into(), [1].into()));
        assert!(second.remove(&all[1]).is_some());
    }

    #[test]
    fn the_first_that_is_wanted_is_removed() {
        let all = threads(5);
        let mut queue = filled(&all);
        assert_eq!(
            queue.remove_first(|thread| thread.id % 2 == 1).unwrap().id,
            1
        );
        assert_eq!(
            queue.remove_first(|thread| thread.id % 2 == 1).unwrap().id,
            3
        );
        assert!(queue.remove_first(|thread| thread.id % 2 == 1).is_none());
        assert_eq!(ids(&queue), [0, 2, 4]);
    }

    #[test]
    fn queues_are_joined_and_taken_whole() {
        let all = threads(5);
        let (mut queue, mut more) = (filled(&all[..2]), filled(&all[2..4]));
        queue.append(&mut more);
        queue.append(&mut Queue::new());
        assert!(more.is_empty());
        queue.push(all[4].clone()).unwrap();
        more.append(&mut queue);
        assert_eq!(ids(&more), [0, 1, 2, 3, 4]);
        let taken = more.take();
        assert_eq!((ids(&taken).len(), more.len()), (5, 0));
    }

    #[test]
    fn a_long_queue_is_dropped_without_deep_recursion() {
        let all = threads(if cfg!(miri) { 100 } else { 200_000 });
        let queue = filled(&all);
        let last = all.last().unwrap().clone();
        drop(all);
        drop(queue);
        assert_eq!(Arc::strong_count(&last), 1);
        assert!(!last.link.is_queued());
    }
}
