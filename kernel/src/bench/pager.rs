//! Pages that come from a pager: from the client's first fault to its last, what the kernel's memory
//! manager does of it. Requests and answers are messages, which are measured elsewhere.

use alloc::sync::Arc;

use arm64::attrs::Prot;
use frame::slab::Ref;
use mm::object::{Collect, DropClean};
use mm::policy::{SizeMode, Sizes};
use mm::{Access, Backing, FaultInput, FaultOutcome, MapFlags, MapRequest, MemObject, Mode, Verb};

use super::{Failure, measure, row};
use crate::memory::{Space, context};

const PAGE: u64 = 4096;
/// Where the client shows the object, and where the pager has its pages.
const SHOWN: u64 = 0x12_3440_0000;
const DATA: u64 = 0x12_3500_0000;
/// Pages of an object, and of a window.
const PAGES: u64 = 256;
const WINDOW: u64 = 16;

pub(super) fn run() -> Result<(), Failure> {
    supplied("supply_64k", SizeMode::Never, WINDOW)?;
    supplied("supply_64k_folio", SizeMode::Always, WINDOW)?;
    supplied("supply_4k", SizeMode::Never, 1)
}

/// Client and pager, and an object between them.
struct Stage {
    client: Arc<Space>,
    pager: Arc<Space>,
    object: Ref<MemObject>,
}

impl Stage {
    fn new(size: SizeMode, window: u64) -> Result<Self, Failure> {
        let sizes = Sizes {
            kib64: size,
            mib2: SizeMode::Never,
        };
        context().policy().set_anon(sizes);
        context().policy().set_fault_around(window * PAGE);
        let space = || Space::new(context()).map_err(|_| "no space");
        let object = context().objects().pager(PAGES * PAGE, 1, window as u32);
        let stage = Self {
            client: space()?,
            pager: space()?,
            object: object.map_err(|_| "no object")?,
        };
        let shown = Backing::object(stage.object.clone(), 0);
        map(&stage.client, SHOWN, shown, MapFlags::SHARED)?;
        map(&stage.pager, DATA, Backing::ANON, MapFlags::empty())?;
        for page in 0..PAGES {
            touch(&stage.pager, DATA + page * PAGE, Access::Write)?;
        }
        // Tables and nodes are there.
        stage.give(PAGES - window, window)?;
        Ok(stage)
    }

    /// The client touches page `index` first, is told to wait, and gets `pages` pages.
    fn give(&self, index: u64, pages: u64) -> Result<(), Failure> {
        let at = index * PAGE;
        if fault(&self.client, SHOWN + at, Access::Read) != FaultOutcome::Busy {
            return Err("nobody was asked");
        }
        drop(context().asks().take());
        let moved = self
            .pager
            .move_pages(DATA + at, pages, &self.object, index, 64);
        match moved.pages == pages {
            true => touch(&self.client, SHOWN + at, Access::Read),
            false => Err("a page did not move"),
        }
    }
}

fn map(space: &Space, addr: u64, backing: Backing, flags: MapFlags) -> Result<(), Failure> {
    let request = MapRequest {
        addr,
        len: PAGES * PAGE,
        prot: Prot::READ | Prot::WRITE,
        flags: flags | MapFlags::FIXED,
        backing,
        refusal: None,
    };
    let mapped = space.change(Verb::Map(request), 100);
    mapped.map(drop).map_err(|_| "no mapping")
}

fn fault(space: &Space, va: u64, access: Access) -> FaultOutcome {
    let mode = Mode::User;
    space.fault(FaultInput { va, access, mode })
}

fn touch(space: &Space, va: u64, access: Access) -> Result<(), Failure> {
    match fault(space, va, access) {
        FaultOutcome::Done => Ok(()),
        _ => Err("a fault was not resolved"),
    }
}

fn supplied(name: &str, size: SizeMode, window: u64) -> Result<(), Failure> {
    let stage = Stage::new(size, window)?;
    let windows = PAGES / window - 1;
    let mut given = Ok(());
    let ((), cost) = measure(|| {
        for window_at in 0..windows {
            given = given.and(stage.give(window_at * window, window));
        }
    });
    given?;
    row(name, "page", windows * window, cost);
    if name == "supply_64k" {
        collected(&stage)?;
    }
    Ok(())
}

/// All pages were written: they are collected, and then dropped.
fn collected(stage: &Stage) -> Result<(), Failure> {
    for page in 0..PAGES {
        touch(&stage.client, SHOWN + page * PAGE, Access::Write)?;
    }
    let mut written = [0; PAGES as usize / 64];
    let mut collect = Collect::begin(&stage.object, 0, PAGES);
    let ((), cost) = measure(|| while !collect.step(&mut written, 64) {});
    if written != [u64::MAX; PAGES as usize / 64] {
        return Err("a write was lost");
    }
    row("collect_written", "page", PAGES, cost);
    let dropping = DropClean::begin(&stage.object, 0, PAGES);
    let mut dropping = dropping.map_err(|_| "no turn")?;
    let ((), cost) = measure(|| while !dropping.step(64) {});
    if dropping.dropped() != PAGES {
        return Err("a clean page was not dropped");
    }
    row("drop_clean", "page", PAGES, cost);
    Ok(())
}
