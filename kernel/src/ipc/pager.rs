//! Pages that a program gives: requests to pagers, and what comes of them.
//!
//! A thread that needs a page asks for it by a message of its own and tries again when it is answered,
//! so the kernel keeps no list of requests: of two threads that want one page each asks, and whoever
//! supplies a page that is there already is told so. A pager that is gone, silent for too long, or
//! says time and again that a page is there which is not, fails its clients and nobody else.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::message::{Kind, Reason, Tag};
use arm64::addr::PAGE_SIZE;
use frame::slab::Ref;
use mm::object::{MemObject, PagerLink};
use mm::{Ask, Refused};
use sync::planted::{self, Fault};

use super::kernel::{Access, exception, say};
use super::{Delivery, Port};
use crate::errno::Errno;
use crate::handle::paged;
use crate::memory;
use crate::process::end::signal;
use crate::sched;
use crate::sched::wait::{self, Limit};
use crate::syscall::time;
use crate::thread::Thread;

/// Who is asked for the pages of an object.
struct Link {
    port: Port,
    key: u64,
    /// How long its clients wait, in nanoseconds.
    patience: u64,
}

/// An object of `size` bytes whose pages are asked for at `port`.
///
/// # Errors
/// `ENOMEM`.
pub fn object(
    port: Port,
    size: u64,
    key: u64,
    window: u32,
    patience: u64,
) -> Result<Ref<MemObject>, Errno> {
    // `Arc` has no way to be refused memory: ask for it first.
    let bytes = size_of::<Link>() + 2 * size_of::<usize>();
    let room: Result<(), _> = Vec::<u8>::new().try_reserve_exact(bytes);
    room.map_err(|_| Errno::ENOMEM)?;
    let link: PagerLink = Arc::new(Link {
        port,
        key,
        patience,
    });
    let objects = memory::context().objects();
    let object = objects.pager_with(size, key, window, link);
    object.map_err(|_| Errno::ENOMEM)
}

/// Objects that one reclaim looks at.
const TRIED: usize = 4;

/// Drops about `budget` clean pages that living pagers can give again; how many. With no lock held.
pub fn reclaim(budget: u32) -> u64 {
    let mut dropped = 0;
    if planted::is(Fault::KeepClean) {
        return dropped;
    }
    for _ in 0..TRIED.min(paged::count()) {
        let Some(object) = paged::next() else { break };
        let link = object.pager_link();
        let link = link.and_then(|link| link.downcast_ref::<Link>());
        if link.is_some_and(|link| !link.port.endpoint().is_closed()) {
            dropped += MemObject::reclaim(&object, budget);
        }
        if dropped >= budget.into() {
            break;
        }
    }
    dropped
}

/// Asks for a page that `thread`, the current one, cannot go on without.
pub fn ask(thread: &Ref<Thread>, ask: &Ask) {
    let page = (ask.object.number(), ask.index);
    let refused = thread.paging().ask(page);
    let refused = refused.and_then(|()| request(thread, ask).ok_or(Reason::Io));
    if let Err(reason) = refused {
        refuse(thread, ask, reason);
    }
}

/// Sends the request. `None`: there is nobody who could receive it.
fn request(thread: &Ref<Thread>, ask: &Ask) -> Option<()> {
    let link = ask.object.pager_link()?.downcast_ref::<Link>()?;
    let limit = match link.patience {
        abi::FOREVER => None,
        nanos => {
            wait::reserve_timer().ok()?;
            Some(Limit {
                deadline: time::after(nanos),
                result: None,
            })
        }
    };
    let words = [
        link.key,
        ask.index * PAGE_SIZE,
        ask.first * PAGE_SIZE,
        u64::from(ask.pages) * PAGE_SIZE,
        Access::from(ask.access) as u64,
        thread.process().pid().into(),
    ];
    let message = (Tag::of_kind(Kind::Page, 0), words);
    match say(thread, &link.port, message, None, limit) {
        Delivery::Closed => None,
        _ => Some(()),
    }
}

/// The page is not coming: what the thread was at fails, an access of its own as an exception.
fn refuse(thread: &Ref<Thread>, ask: &Ask, reason: Reason) {
    if !thread.has_no_resume() {
        thread
            .paging()
            .refuse_again((ask.object.number(), ask.index), reason);
        return sched::this().attend();
    }
    let (number, code) = match reason {
        Reason::Io | Reason::Gone => (signal::BUS, "BUS_ADRERR"),
        Reason::Damaged => (signal::BUS, "BUS_MCEERR_AR"),
        Reason::NoMemory => (signal::BUS, "BUS_OBJERR"),
        Reason::Denied => (signal::SEGV, "SEGV_ACCERR"),
    };
    exception(thread, number, code, ask.va, ask.access.into());
}

/// Does a step of an operation of `thread`; an access to the page that it was refused fails in it.
pub fn with_refusal<R>(thread: &Thread, step: impl FnOnce() -> R) -> R {
    let refused = thread.paging().take_refused();
    let Some((object, index)) = refused else {
        return step();
    };
    let asks = memory::context().asks();
    asks.refuse(Some(Refused { object, index }));
    let result = step();
    asks.refuse(None);
    result
}
