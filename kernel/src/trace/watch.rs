//! Watching steps of system calls: which call, on what, and what the step cost.

use linux_raw_sys::general as linux;
use mm::trace::{Categories, Category, Event, Kind};

use super::rings::{keep, wants};
use crate::arch::{Context, time};
use crate::thread::{Step, Thread};

const CALLS: Categories = Categories::of(Category::Map)
    .and(Categories::of(Category::Object))
    .and(Categories::of(Category::Syscall));

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
    let Some((kind, va, arg)) = told(registers) else {
        return;
    };
    if wants(kind.categories()) {
        let space = thread.process().space().id();
        keep(&Event {
            detail: u16::from(matches!(step, Step::More | Step::Busy)),
            cost: time::instructions().wrapping_sub(began),
            ..Event::new(kind, space, va, arg)
        });
    }
}

/// What is told of the call in the registers, if it is about memory: kind, address and number.
fn told(registers: &Context) -> Option<(Kind, u64, u64)> {
    let get = |n| registers.get(n);
    let of_map = |kind| Some((kind, get(0), get(1)));
    match get(8) as u32 {
        linux::__NR_mmap => of_map(Kind::Mmap),
        linux::__NR_munmap => of_map(Kind::Munmap),
        linux::__NR_mprotect => of_map(Kind::Mprotect),
        linux::__NR_mremap => of_map(Kind::Mremap),
        linux::__NR_brk => of_map(Kind::Brk),
        linux::__NR_madvise => of_map(Kind::Madvise),
        linux::__NR_mincore
        | linux::__NR_msync
        | linux::__NR_mlock
        | linux::__NR_munlock
        | linux::__NR_process_vm_readv
        | linux::__NR_process_vm_writev => of_map(Kind::OtherVerb),
        linux::__NR_ftruncate => Some((Kind::ObjectResize, 0, get(1))),
        linux::__NR_fallocate => match get(1) as u32 & linux::FALLOC_FL_PUNCH_HOLE {
            0 => Some((Kind::ObjectAllocate, get(2), get(3))),
            _ => Some((Kind::ObjectPunch, get(2), get(3))),
        },
        _ => None,
    }
}
