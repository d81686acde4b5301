//! The interrupt controller: a GICv3, driven by `arm-gic`.

use core::ptr::{NonNull, with_exposed_provenance_mut};

use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicRedistributor, GicV3, SgiTarget, SgiTargetGroup};
use arm_gic::{IntId, InterruptGroup, UniqueMmioPointer};
use sync::atomic::{AtomicU32, Ordering};
use sync::rank::Leaf;
use sync::{MAX_CPUS, SpinLock};

use super::{cpu, time, uart};
use crate::early::Region;
use crate::fdt::Gic;
use crate::{memory, percpu};

bitflags::bitflags! {
    /// What was pending.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct IrqSet: u8 {
        /// This CPU's timer reached its deadline; it is stopped until the next one is set.
        const TIMER = 1;
        /// Another CPU wants this one to pass through the kernel.
        const IPI = 2;
        /// The console has received something; its interrupt is masked until
        /// [`uart::enable_rx_irq`].
        const UART = 4;
        /// An interrupt that nobody asked for; it was ended.
        const SPURIOUS = 8;
    }
}

/// The software-generated interrupt that [`send_ipi`] uses.
const IPI: IntId = IntId::sgi(1);
/// Most bytes of registers that one CPU's redistributor has (GICv4: four frames of 64 KiB).
const REDISTRIBUTOR_SIZE: u64 = 256 << 10;
/// Shared peripheral interrupts (GIC architecture specification, INTIDs).
const SPI_FIRST: u32 = 32;
const SPI_END: u32 = 1020;
const PRIORITY: u8 = 0x80;
const LOWEST_PRIORITY: u8 = 0xff;

static GIC: SpinLock<Option<GicV3<'static>>, Leaf> = SpinLock::new(None);
static TIMER_INTID: AtomicU32 = AtomicU32::new(0);
static UART_INTID: AtomicU32 = AtomicU32::new(u32::MAX);

/// Sets up the distributor and the redistributors of a machine with `cpus` CPUs, all interrupts
/// off.
///
/// # Errors
/// One line that says what is wrong with the controller.
pub(super) fn init_boot(
    gic: &Gic,
    cpus: usize,
    timer: u32,
    uart: Option<u32>,
) -> Result<(), &'static str> {
    let map = |region: &Region| {
        memory::map_device(region.start, region.len())
            .and_then(|base| NonNull::new(with_exposed_provenance_mut::<u8>(base.raw() as usize)))
            .ok_or("the interrupt controller could not be mapped")
    };
    let distributor = map(&gic.distributor)?.cast::<Gicd>();
    let window = gic
        .redistributors
        .len()
        .min(cpus.max(1) as u64 * REDISTRIBUTOR_SIZE);
    let redistributors = map(&Region::from_len(gic.redistributors.start, window))?;
    let redistributors = redistributors.cast::<GicrSgi>();
    // SAFETY: the device tree says that these are a GICv3's registers; they were mapped as device
    // memory just now, for this driver alone, and stay mapped.
    let driver = unsafe {
        let count = redistributor_count(redistributors, window);
        GicV3::new(UniqueMmioPointer::new(distributor), redistributors, count)
    };
    let mut driver = driver.map_err(|_| "the interrupt controller is not a GICv3")?;
    let boot_cpu = find(&mut driver, cpu::affinity()).ok_or("this CPU has no redistributor")?;
    driver.setup(boot_cpu);
    TIMER_INTID.store(timer, Ordering::Relaxed);
    if let Some(intid) = uart {
        UART_INTID.store(intid, Ordering::Relaxed);
        route_uart(&mut driver, intid).map_err(|_| "the console's interrupt cannot be routed")?;
    }
    *GIC.lock() = Some(driver);
    Ok(())
}

/// How many redistributors there are in the first `window` bytes from `first`. A region may have
/// room for many more CPUs than the machine has, so only that much of it is mapped.
///
/// # Safety
/// The redistributors are mapped as device memory and not in use.
unsafe fn redistributor_count(first: NonNull<GicrSgi>, window: u64) -> usize {
    let frame = size_of::<GicrSgi>();
    let (mut count, mut offset) = (0, 0);
    while offset + frame <= window as usize {
        // SAFETY: inside of the mapped window (checked), at a multiple of the frame size.
        let pointer = unsafe { UniqueMmioPointer::new(first.byte_add(offset)) };
        let typer = GicRedistributor::new(pointer).typer();
        count += 1;
        offset += if typer.virtual_lpis_supported() {
            2 * frame
        } else {
            frame
        };
        if typer.last_redistributor() {
            break;
        }
    }
    count
}

fn route_uart(driver: &mut GicV3<'_>, intid: u32) -> Result<(), arm_gic::gicv3::GicError> {
    let intid = IntId::spi(intid.saturating_sub(32));
    let distributor = driver.distributor();
    distributor.set_routing(intid, Some(cpu::affinity()))?;
    distributor.enable_interrupt(intid, true)
}

/// The redistributor's number of the CPU with this affinity.
fn find(driver: &mut GicV3<'_>, affinity: u64) -> Option<usize> {
    (0..)
        .map_while(|index| driver.gicr_typer(index).ok())
        .position(|typer| typer.core_mpidr() == affinity)
}

/// Sets up this CPU's interface and private interrupts.
///
/// # Errors
/// One line that says what is wrong.
pub(super) fn init_cpu() -> Result<(), &'static str> {
    let mut guard = GIC.lock();
    let driver = guard.as_mut().ok_or("there is no interrupt controller")?;
    let index = find(driver, cpu::affinity()).ok_or("this CPU has no redistributor")?;
    driver.init_cpu(index);
    let timer = TIMER_INTID.load(Ordering::Relaxed);
    for intid in [IPI, IntId::ppi(timer.saturating_sub(16))] {
        driver
            .set_interrupt_priority(intid, Some(index), PRIORITY)
            .and_then(|()| driver.enable_interrupt(intid, Some(index), true))
            .map_err(|_| "a private interrupt cannot be enabled")?;
    }
    GicCpuInterface::set_priority_mask(LOWEST_PRIORITY);
    GicCpuInterface::enable_group1(true);
    Ok(())
}

/// Acknowledges and ends everything that is pending for this CPU. Interrupts that programs may have are
/// masked, and `came` is told of each.
pub fn handle_pending(mut came: impl FnMut(u32)) -> IrqSet {
    let mut set = IrqSet::empty();
    while let Some(intid) = GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group1) {
        let number = u32::from(intid);
        let for_programs = is_for_programs(number);
        match for_programs {
            true => mask(number),
            false => set |= take(number),
        }
        GicCpuInterface::end_interrupt(intid, InterruptGroup::Group1);
        if for_programs {
            came(number);
        }
    }
    set
}

/// Whether interrupt `number` is a shared peripheral one that the kernel does not use itself.
pub fn is_for_programs(number: u32) -> bool {
    (SPI_FIRST..SPI_END).contains(&number) && number != UART_INTID.load(Ordering::Relaxed)
}

/// Lets the shared peripheral interrupt `number` come, at this CPU.
pub fn unmask(number: u32) {
    enable(number, true);
}

/// Keeps it from coming.
pub fn mask(number: u32) {
    enable(number, false);
}

fn enable(number: u32, on: bool) {
    let mut guard = GIC.lock();
    let Some(driver) = guard.as_mut() else { return };
    let intid = IntId::spi(number - SPI_FIRST);
    let distributor = driver.distributor();
    // Numbers beyond what the distributor has are refused by it, and never come.
    let _refused = distributor
        .set_routing(intid, Some(cpu::affinity()))
        .and_then(|()| distributor.enable_interrupt(intid, on));
}

/// Silences the source of a level-triggered interrupt before it is ended.
fn take(intid: u32) -> IrqSet {
    if intid == TIMER_INTID.load(Ordering::Relaxed) {
        time::set_deadline(None);
        IrqSet::TIMER
    } else if intid == u32::from(IPI) {
        IrqSet::IPI
    } else if intid == UART_INTID.load(Ordering::Relaxed) {
        uart::mask_irqs();
        IrqSet::UART
    } else {
        IrqSet::SPURIOUS
    }
}

/// Interrupts the CPUs whose bit is set in `mask`, this one included if it is, so that they pass
/// through the kernel soon.
pub fn send_ipi(mask: u64) {
    for index in (0..MAX_CPUS).filter(|index| mask >> index & 1 != 0) {
        let affinity = percpu::of(index).mpidr.load(Ordering::Relaxed);
        let [aff0, affinity1, affinity2, _, affinity3, ..] = affinity.to_le_bytes();
        // The register names a group of 16 CPUs and a bit of them; more than 16 CPUs per group
        // need a range selector, which the driver does not have. Such CPUs are not started.
        let target_list = 1u16.checked_shl(u32::from(aff0)).unwrap_or(0);
        let target = SgiTarget::List {
            affinity3,
            affinity2,
            affinity1,
            target_list,
        };
        // The only error is that the number is not an SGI's, which it is.
        let _sent = GicCpuInterface::send_sgi(IPI, target, SgiTargetGroup::CurrentGroup1);
    }
}
