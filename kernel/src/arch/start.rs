//! The boot CPU's way from boot's assembly to the first thread.

use core::arch::asm;

use arm64::addr::{PAGE_SIZE, VaRange, VirtAddr};
use sync::atomic::Ordering;
use sync::{MAX_CPUS, Once};

use super::early_map::{self, EarlyMap};
use super::{cpu, gic, memory_ops, power, rtc, smp, time, uart};
use crate::bootargs::{self, BootArgs, Bug};
use crate::early::Region;
use crate::early::handoff::Handoff;
use crate::early::layout::FIXMAP;
use crate::fdt::{self, Facts, Refusal};
use crate::{control, logger, memory, percpu};

/// Exit status when the machine cannot be used (EX_CONFIG).
const REFUSED: u32 = 78;

/// What is known of the machine once memory is set up.
struct Machine {
    handoff: &'static Handoff,
    facts: Facts<'static>,
}

static MACHINE: Once<Machine> = Once::new();

/// Entered from boot's assembly: MMU on, on the boot stack, with this CPU's block in TPIDR_EL1.
/// A machine that cannot be used ends in exit status 78.
pub extern "C" fn start(handoff: &'static Handoff) -> ! {
    percpu::this()
        .kernel_stack
        .store(handoff.record.stack, Ordering::Relaxed);
    smp::init_exceptions();
    memory_ops::init();
    let mut map = EarlyMap::new(handoff);
    if let Err(reason) = start_memory(handoff, &mut map) {
        // The console that the device tree names is in use, if there is one.
        if !uart::is_ready() {
            map.fallback_console();
        }
        refuse(&reason);
    }
    let Some(stack) = memory::alloc_kernel_stack() else {
        panic!("no memory for the first kernel stack")
    };
    percpu::this()
        .kernel_stack
        .store(stack.raw(), Ordering::Relaxed);
    // SAFETY: the stack is new and nobody else's; nothing on the boot stack is needed again, since
    // what is known is in statics.
    unsafe {
        asm!(
            "mov sp, {stack}",
            "mov x29, xzr",
            "mov x30, xzr",
            "b {next}",
            stack = in(reg) stack.raw(),
            next = sym start_machine,
            options(noreturn),
        )
    }
}

fn refuse(reason: &Refusal) -> ! {
    crate::println!("[tessera] cannot run on this machine: {reason}");
    power::exit(REFUSED)
}

/// Everything up to a working allocator.
fn start_memory(handoff: &'static Handoff, map: &mut EarlyMap) -> Result<(), Refusal> {
    let tree = map.tree()?;
    let facts = fdt::read(map.window_bytes(&tree))?;
    if let Some(console) = &facts.uart {
        map.console(console.registers.start);
    }
    let args = BootArgs::parse(facts.bootargs);
    if let Some(token) = args.token {
        control::init(token);
    }
    logger::init(args.log);
    facts.check()?;
    cpu::set_features(map.usable_features(&args));
    let mut plan = early_map::plan(handoff, &facts, &args, &tree)?;
    map.direct(&plan)?;
    map.metadata(&mut plan)?;
    let facts = map.move_out_of_window(facts, &tree);
    bootargs::set(BootArgs::parse(facts.bootargs));
    #[cfg(feature = "planted")]
    sync::planted::plant(bootargs::get().fault);
    map.close_window();
    cpu::init_this(smp::reserved_ttbr(handoff));
    memory::init(
        &map.boot_info(&plan, &facts),
        facts.cpus.len().clamp(1, MAX_CPUS),
    );
    MACHINE.call_once(|| Machine { handoff, facts });
    Ok(())
}

/// The devices, the other CPUs, and on to the scheduler; on the boot CPU's kernel stack.
extern "C" fn start_machine() -> ! {
    let Some(machine) = MACHINE.get() else {
        panic!("the machine is not known")
    };
    let facts = &machine.facts;
    let args = bootargs::get();
    warn(facts, &args);
    start_console(facts);
    if let Err(reason) = start_interrupts(facts) {
        refuse(&reason);
    }
    if let Some(clock) = &facts.rtc {
        rtc::init(clock);
    }
    cpu::set_online();
    match facts.psci {
        Some(conduit) => {
            power::init(conduit);
            smp::start_others(&facts.cpus, machine.handoff);
        }
        None if facts.cpus.len() > 1 => log::warn!("no PSCI: the other CPUs stay off"),
        None => {}
    }
    announce();
    match args.panic {
        Bug::None => {}
        Bug::Panic => panic!("a deliberate kernel bug, asked for by tessera.panic=1"),
        Bug::Stray => memory::protect::stray_store(),
    }
    crate::main_cpu()
}

/// Random bytes from firmware; `None` without them.
pub fn rng_seed() -> Option<[u8; 32]> {
    MACHINE.get()?.facts.rng_seed
}

/// What a range of physical addresses is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Nothing of the kernel's.
    Nothing,
    /// Memory, or no address at all.
    Memory,
    /// Registers that the kernel drives.
    Kernel,
}

/// Whether memory or registers of the kernel's are in `range`.
pub fn use_of(range: &Region) -> Use {
    let Some(machine) = MACHINE.get() else {
        return Use::Kernel;
    };
    let facts = &machine.facts;
    let firmware = facts.firmware.iter().map(|firmware| &firmware.region);
    let mut memory = facts.memory.iter().chain(firmware);
    let bits = cpu::features().output_bits();
    // Banks beyond those that are used are not known one by one.
    let unknown = facts.memory_ignored > 0;
    if (range.end - 1) >> bits != 0 || memory.any(|bank| bank.overlaps(range)) || unknown {
        return Use::Memory;
    }
    let gic = facts.gic.map(|gic| [gic.distributor, gic.redistributors]);
    let console = facts.uart.map(|uart| uart.registers);
    let mut own = gic.into_iter().flatten().chain(console);
    match own.any(|registers| shares_page(&registers, range)) {
        true => Use::Kernel,
        false => Use::Nothing,
    }
}

/// Whether a page is in both.
fn shares_page(registers: &Region, pages: &Region) -> bool {
    let first = registers.start & !(PAGE_SIZE - 1);
    Region::new(first, registers.end.next_multiple_of(PAGE_SIZE)).overlaps(pages)
}

/// What is odd about this machine but does not stop us.
fn warn(facts: &Facts<'_>, args: &BootArgs<'static>) {
    for word in args.unknown() {
        log::warn!("boot argument not understood: {word}");
    }
    if facts.cpu_total > facts.cpus.len() {
        log::warn!(
            "{} CPUs, of which the first {} are used",
            facts.cpu_total,
            facts.cpus.len()
        );
    }
    for (start, reason) in facts.tag_refusals.iter() {
        if let Some(reason) = reason {
            log::warn!("tag storage at {start:#x} is not used: {reason}");
        }
    }
    if facts.memory_ignored > 0 {
        log::warn!(
            "{} banks of RAM are not used: too many",
            facts.memory_ignored
        );
    }
}

/// Moves the console from the fixmap to a device mapping of its own.
fn start_console(facts: &Facts<'_>) {
    let Some(console) = &facts.uart else { return };
    let Some(registers) = memory::map_device(console.registers.start, console.registers.len())
    else {
        return log::warn!("no memory to map the console for good");
    };
    // SAFETY: the device tree says that this is a PL011; the mapping is new and stays.
    unsafe { uart::init(registers, console.clock) };
    if let Some(slot) = VaRange::from_len(VirtAddr::new(FIXMAP), PAGE_SIZE) {
        let _nothing_to_free = memory::init_mm().edit().unmap(slot);
    }
}

fn start_interrupts(facts: &Facts<'_>) -> Result<(), Refusal> {
    let gic = facts.gic.ok_or(Refusal::NoGic { v2: facts.gic_v2 })?;
    let timer = facts.timer.ok_or(Refusal::NoTimer)?;
    let console = facts.uart.and_then(|console| console.interrupt);
    gic::init_boot(&gic, facts.cpu_total, timer, console)
        .and_then(|()| gic::init_cpu())
        .map_err(Refusal::BadGic)
}

fn announce() {
    let ram: u64 = memory::boot_info()
        .banks
        .iter()
        .map(|bank| bank.len() >> 10)
        .sum();
    let (cpus, midr, features) = (cpu::count(), cpu::midr(), cpu::features());
    control::line(format_args!(
        "boot cpus={cpus} ram_kib={ram} cpu={midr:x} features={features}"
    ));
    log::info!(
        "{cpus} CPUs ({midr:#x}), {} MiB of RAM, {} instructions since reset; {features}",
        ram >> 10,
        time::instructions()
    );
}
