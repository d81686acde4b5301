//! The MMU of this machine: TLB invalidation, and the [`Machine`] that the page-table engine runs
//! on. Which tables TTBR0 holds is in [`super::activate`].

use core::arch::asm;

use arm64::addr::{PhysAddr, VirtAddr};
use arm64::geometry::Level;
use arm64::pte::Format;
use arm64::regs::Features;
use arm64::tlbi;
use frame::Frames;
use mm::trace::{Event, Kind};
use pgtable::{
    Conversion, Invalidation, Machine, ReadSide, SpaceKind, TableDesc, TableError, TableStats,
};
use sync::Once;
use sync::grace::Grace;

use super::{events, memory_ops, table_window};
use crate::trace;

/// Kernel ranges longer than this many pages are invalidated by dropping everything.
const KERNEL_RANGE_LIMIT: u64 = 512;

/// The machine under every space of this kernel. Tables hold a reference to it, so that what walks
/// and changes of entries ask at every step is one load away.
#[derive(Debug)]
pub struct Hw {
    format: Format,
    frames: &'static Frames,
    features: &'static Features,
}

static FRAMES: Once<Frames> = Once::new();
static HW: Once<Hw> = Once::new();
static GRACE: Grace = Grace::new();
static TABLES: TableStats = TableStats::new();

/// Installs the allocator and the descriptor format; once, at boot.
pub(super) fn install(frames: Frames, format: Format) {
    let frames = FRAMES.call_once(|| frames);
    HW.call_once(|| Hw {
        format,
        frames,
        features: super::cpu::features(),
    });
}

/// The one machine.
#[inline]
pub fn hw() -> &'static Hw {
    match HW.get() {
        Some(hw) => hw,
        None => panic!("the machine was asked for before it was known"),
    }
}

/// The frame allocator.
#[inline]
pub fn frames() -> &'static Frames {
    hw().frames
}

/// The frame allocator, if there is one yet: for reports.
pub fn frames_if_there() -> Option<&'static Frames> {
    HW.get().map(|hw| hw.frames)
}

/// Grace periods of this machine.
pub fn grace() -> &'static Grace {
    &GRACE
}

impl Machine for Hw {
    #[inline]
    fn frames(&self) -> &'static Frames {
        self.frames
    }

    #[inline]
    fn format(&self) -> Format {
        self.format
    }

    #[inline]
    fn publish(&self, kind: SpaceKind) {
        match kind {
            // A user entry that went from invalid to valid needs no wait: a CPU whose walker
            // misses it faults, finds it there and tries again.
            SpaceKind::User => {}
            SpaceKind::Kernel | SpaceKind::Special => {
                events::dsb();
                events::isb();
                // SAFETY: barriers only.
                unsafe { asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
            }
        }
    }

    #[inline]
    fn before_invalidate(&self) {
        events::dsb();
        // SAFETY: a barrier.
        unsafe { asm!("dsb ishst", options(nostack, preserves_flags)) };
    }

    fn invalidate(&self, what: Invalidation) {
        trace::tell(Kind::FlushRange, || flush_event(&what));
        match what {
            Invalidation::Asid(asid) => tlbi_aside1is(tlbi::asid(asid)),
            Invalidation::Range {
                asid,
                start,
                end,
                level,
                tables,
            } => invalidate_range(asid, start, end, level, tables),
            Invalidation::Kernel { start, end } => {
                let pages = end.wrapping_sub(start) >> 12;
                if pages > KERNEL_RANGE_LIMIT {
                    events::tlbi();
                    // SAFETY: an invalidation makes no translation that the tables do not hold.
                    unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) };
                } else {
                    (0..pages).for_each(|page| {
                        tlbi_vaae1is(tlbi::va(0, VirtAddr::new(start + (page << 12)), None))
                    });
                }
            }
        }
        events::dsb();
        events::isb();
        // SAFETY: barriers.
        unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
    }

    #[inline]
    fn flush_limit(&self) -> u64 {
        match self.features.tlb_range {
            true => 512,
            false => 64,
        }
    }

    #[inline]
    fn repaints_without_flush(&self) -> bool {
        super::bbm::repaints_without_flush()
    }

    #[inline]
    fn records_access(&self) -> bool {
        self.features.hafdbs == 2
    }

    #[inline(always)]
    fn open_tables(&self) -> usize {
        table_window::open()
    }

    #[inline(always)]
    fn close_tables(&self) {
        table_window::close();
    }

    fn sync_instructions(&self, pa: PhysAddr) {
        memory_ops::sync_icache(self.frames().window().virt(pa).as_ptr(), 4096);
    }

    #[inline]
    fn read_side<'g, T>(&self, stay: &'g T) -> ReadSide<'g> {
        // SAFETY: D3: the kernel is not preempted, and a CPU reports a quiescent state only in
        // `sched::leave_kernel`, below which no read-side section is open.
        unsafe { ReadSide::enter(stay) }
    }

    fn grace(&self) -> &'static Grace {
        &GRACE
    }

    fn stats(&self) -> &'static TableStats {
        &TABLES
    }

    #[inline(always)]
    fn converted(&self, what: Conversion, space: u32, va: u64, bytes: u64) {
        let kind = match what {
            Conversion::Fold => Kind::Fold,
            Conversion::Unfold => Kind::Unfold,
            Conversion::Split => Kind::Split,
        };
        trace::tell(kind, || Event::new(kind, space, va, bytes));
    }

    fn on_construct(&self, table: &TableDesc) -> Result<(), TableError> {
        crate::memory::hooks::on_construct(table)
    }

    fn on_destruct(&self, table: &TableDesc) {
        crate::memory::hooks::on_destruct(table);
    }
}

fn flush_event(what: &Invalidation) -> Event {
    let range = |start: u64, end: u64| (Kind::FlushRange, start, end.wrapping_sub(start));
    let (detail, (kind, va, bytes)) = match *what {
        Invalidation::Asid(asid) => (asid, (Kind::FlushSpace, 0, 0)),
        Invalidation::Range {
            asid, start, end, ..
        } => (asid, range(start, end)),
        Invalidation::Kernel { start, end } => (0, range(start, end)),
    };
    Event {
        detail,
        ..Event::new(kind, 0, va, bytes)
    }
}

/// Invalidates a range of one space, with range operations where the CPU has them.
fn invalidate_range(asid: u16, start: u64, end: u64, level: Level, tables: bool) {
    let features = hw().features;
    let abilities = tlbi::Abilities {
        ranges: features.tlb_range,
        hints: features.ttl,
        lpa2: hw().format().lpa2,
    };
    let pages = end.wrapping_sub(start) >> 12;
    if pages == 1 && !tables && level == Level::L3 {
        let hint = abilities.hints.then_some(level);
        return tlbi_vale1is(tlbi::va(asid, VirtAddr::new(start), hint));
    }
    let pieces = tlbi::Pieces::new(asid, VirtAddr::new(start), pages, level, !tables, abilities);
    for piece in pieces {
        match (piece, tables) {
            (tlbi::Op::Page(operand), false) => tlbi_vale1is(operand),
            (tlbi::Op::Page(operand), true) => tlbi_vae1is(operand),
            (tlbi::Op::Range(operand), false) => tlbi_rvale1is(operand),
            (tlbi::Op::Range(operand), true) => tlbi_rvae1is(operand),
        }
    }
}

fn tlbi_aside1is(operand: u64) {
    events::tlbi();
    // SAFETY: an invalidation makes no translation that the tables do not hold.
    unsafe { asm!("tlbi aside1is, {}", in(reg) operand, options(nostack, preserves_flags)) };
}

fn tlbi_vae1is(operand: u64) {
    events::tlbi();
    // SAFETY: as above.
    unsafe { asm!("tlbi vae1is, {}", in(reg) operand, options(nostack, preserves_flags)) };
}

fn tlbi_vaae1is(operand: u64) {
    events::tlbi();
    // SAFETY: as above.
    unsafe { asm!("tlbi vaae1is, {}", in(reg) operand, options(nostack, preserves_flags)) };
}

fn tlbi_vale1is(operand: u64) {
    events::tlbi();
    // SAFETY: as above.
    unsafe { asm!("tlbi vale1is, {}", in(reg) operand, options(nostack, preserves_flags)) };
}

fn tlbi_rvale1is(operand: u64) {
    events::tlbi();
    // SAFETY: as above; only reached where the CPU has FEAT_TLBIRANGE.
    unsafe {
        asm!(
            ".arch_extension tlb-rmi",
            "tlbi rvale1is, {}",
            in(reg) operand,
            options(nostack, preserves_flags)
        );
    }
}

fn tlbi_rvae1is(operand: u64) {
    events::tlbi();
    // SAFETY: as above.
    unsafe {
        asm!(
            ".arch_extension tlb-rmi",
            "tlbi rvae1is, {}",
            in(reg) operand,
            options(nostack, preserves_flags)
        );
    }
}
