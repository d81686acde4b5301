//! Watching steps of system calls: which call, on what, and what the step cost.

use linux_raw_sys::general as linux;
use mm::trace::{Categories, Category, Event, Kind};

use super::rings::{keep, wants};
use crate::arch::time;
use crate::thread::{Step, Thread};

const CALLS: Categories = Categories::of(Category::Map).and(Categories::of(Category::Syscall));

/// A step of a call, watched from its beginning.
#[derive(Clone, Copy)]
pub struct Watch {
    began: Option<u64>,
}

impl Watch {
    /// A step begins.
    #[inline(always)]
    pub fn begin() -> Self {
        let began = wants(CALLS).then(time::instructions);
        Self { began }
    }

    /// The first step of a call is over.
    #[inline(always)]
    pub fn end_first(self, thread: &Thread, step: &Step) {
        if let Some(began) = self.began {
            call(thread);
            verb(thread, began, step);
        }
    }

    /// Another step of the same call is over.
    #[inline(always)]
    pub fn end(self, thread: &Thread, step: &Step) {
        if let Some(began) = self.began {
            verb(thread, began, step);
        }
    }
}

#[cold]
fn call(thread: &Thread) {
    if wants(Kind::Call.categories()) {
        let registers = thread.context();
        let number = registers.get(8) & 0xffff_ffff;
        let space = thread.process().space().id();
        keep(&Event::new(Kind::Call, space, registers.get(0), number));
    }
}

#[cold]
fn verb(thread: &Thread, began: u64, step: &Step) {
    let registers = thread.context();
    let Some(kind) = kind_of(registers.get(8) as u32) else {
        return;
    };
    if wants(kind.categories()) {
        let space = thread.process().space().id();
        keep(&Event {
            detail: u16::from(matches!(step, Step::More | Step::Busy)),
            cost: time::instructions().wrapping_sub(began),
            ..Event::new(kind, space, registers.get(0), registers.get(1))
        });
    }
}

/// The verb that a call is, if it is one.
fn kind_of(number: u32) -> Option<Kind> {
    Some(match number {
        linux::__NR_mmap => Kind::Mmap,
        linux::__NR_munmap => Kind::Munmap,
        linux::__NR_mprotect => Kind::Mprotect,
        linux::__NR_mremap => Kind::Mremap,
        linux::__NR_brk => Kind::Brk,
        linux::__NR_madvise => Kind::Madvise,
        linux::__NR_mincore
        | linux::__NR_msync
        | linux::__NR_mlock
        | linux::__NR_munlock
        | linux::__NR_process_madvise => Kind::OtherVerb,
        _ => return None,
    })
}
