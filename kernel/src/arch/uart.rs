//! The console: a PL011, driven by `arm-pl011-uart`.

use core::fmt::{self, Write};
use core::ptr::NonNull;

use arm_pl011_uart::{
    DataBits, FifoLevel, Interrupts, LineConfig, PL011Registers, Parity, StopBits, Uart,
    UniqueMmioPointer,
};
use arm64::addr::VirtAddr;
use sync::atomic::{AtomicU64, Ordering};
use sync::rank::Leaf;
use sync::{SpinGuard, SpinLock, relax};

/// How often the bug report tries to get the lock before it goes on without.
const PATIENCE: u32 = 10_000;
const BAUD: u32 = 115_200;

static UART: SpinLock<Option<Uart<'static>>, Leaf> = SpinLock::new(None);
/// Where the registers are, for the bug report. 0: no console.
static REGISTERS: AtomicU64 = AtomicU64::new(0);

/// What was typed before the UART was set up, which resets its FIFO.
static EARLY: SpinLock<Early, Leaf> = SpinLock::new(Early {
    bytes: [0; 32],
    first: 0,
    len: 0,
});

struct Early {
    bytes: [u8; 32],
    first: usize,
    len: usize,
}

impl Early {
    /// Takes what the UART holds, as far as there is room; the number of bytes.
    fn take_from(&mut self, uart: &mut Uart<'_>) -> usize {
        let before = self.len;
        while let (Some(place), Ok(Some(byte))) = (self.bytes.get_mut(self.len), uart.read_word()) {
            *place = byte;
            self.len += 1;
        }
        self.len - before
    }

    fn next(&mut self) -> Option<u8> {
        let byte = *self.bytes[..self.len].get(self.first)?;
        self.first += 1;
        Some(byte)
    }
}

/// Uses the PL011 whose registers are mapped at `registers` from now on. With its clock rate
/// (Hz) known it is set to 115200 baud 8N1; otherwise it stays as firmware left it.
///
/// # Safety
/// `registers` is a PL011's page, mapped as device memory until another call of this function, and
/// not used by anybody else.
pub(super) unsafe fn init(registers: VirtAddr, clock: Option<u32>) {
    // SAFETY: passed on from this function's contract.
    let mut uart = unsafe { at(registers.raw()) };
    if let (Some(uart), Some(clock)) = (uart.as_mut(), clock) {
        let config = LineConfig {
            data_bits: DataBits::Bits8,
            parity: Parity::None,
            stop_bits: StopBits::One,
        };
        let mut early = EARLY.lock();
        early.take_from(uart);
        // A rate that the clock cannot give leaves the old setting.
        let _unchanged = uart.enable(config, BAUD, clock);
        // The emulator's UART takes no more input after its FIFO was reset while it was full, until
        // its data register is read; from an empty FIFO the read takes nothing.
        if early.take_from(uart) == 0 {
            let data = core::ptr::with_exposed_provenance::<u32>(registers.raw() as usize);
            // SAFETY: the first register of the mapped PL011, by this function's contract.
            let _nothing = unsafe { data.read_volatile() };
        }
    }
    let mut guard = lock();
    REGISTERS.store(registers.raw(), Ordering::Release);
    *guard = uart;
}

/// Whether there is a console.
pub(super) fn is_ready() -> bool {
    REGISTERS.load(Ordering::Relaxed) != 0
}

/// # Safety
/// As [`init`]; 0 stands for no UART.
unsafe fn at(registers: u64) -> Option<Uart<'static>> {
    let registers = core::ptr::with_exposed_provenance_mut::<PL011Registers>(registers as usize);
    let registers = NonNull::new(registers)?;
    // SAFETY: by this function's contract.
    Some(Uart::new(unsafe { UniqueMmioPointer::new(registers) }))
}

/// Waits for the console. Any rank may be held: nothing is locked below this lock, and nothing
/// below it prints.
fn lock() -> SpinGuard<'static, Option<Uart<'static>>, Leaf> {
    loop {
        match UART.try_lock() {
            Some(guard) => return guard,
            None => relax(),
        }
    }
}

fn put(uart: &mut Uart<'_>, byte: u8) {
    while uart.is_tx_fifo_full() {
        relax();
    }
    uart.write_word(byte);
}

struct Out<'a>(&'a mut Uart<'static>);

impl Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| put(self.0, byte));
        Ok(())
    }
}

/// Prints bytes as they are. Nothing happens without a console.
pub fn write(bytes: &[u8]) {
    if let Some(uart) = lock().as_mut() {
        bytes.iter().for_each(|&byte| put(uart, byte));
    }
}

/// Prints formatted text without letting other CPUs' text in between.
pub(crate) fn write_fmt(args: fmt::Arguments<'_>) {
    if let Some(uart) = lock().as_mut() {
        // Writing does not fail; a formatter that does has printed what it could.
        let _unfinished = Out(uart).write_fmt(args);
    }
}

/// As [`write_fmt`], but goes on without the lock when its holder does not let it go: it may be
/// this CPU, below the report.
pub(crate) fn write_fmt_in_bug(args: fmt::Arguments<'_>) {
    for _ in 0..PATIENCE {
        if let Some(mut guard) = UART.try_lock() {
            if let Some(uart) = guard.as_mut() {
                let _unfinished = Out(uart).write_fmt(args);
            }
            return;
        }
        relax();
    }
    // SAFETY: the registers are mapped for as long as they stand in REGISTERS. Another user may
    // be in the middle of a byte; mixed text is better than none in a report of a kernel bug.
    if let Some(mut uart) = unsafe { at(REGISTERS.load(Ordering::Acquire)) } {
        let _unfinished = Out(&mut uart).write_fmt(args);
    }
}

/// Waits until everything has left the UART.
pub(super) fn flush() {
    // SAFETY: as in `write_fmt_in_bug`; only a status register is read.
    if let Some(uart) = unsafe { at(REGISTERS.load(Ordering::Acquire)) } {
        while uart.is_busy() {
            relax();
        }
    }
}

/// The next byte received, if any. Damaged ones are skipped.
pub fn read_byte() -> Option<u8> {
    if let Some(byte) = EARLY.lock().next() {
        return Some(byte);
    }
    let mut guard = lock();
    let uart = guard.as_mut()?;
    loop {
        match uart.read_word() {
            Ok(byte) => return byte,
            Err(_damaged) => {}
        }
    }
}

/// Asks for an interrupt when something has been received. It is level-triggered: taking it
/// ([`super::gic::handle_pending`]) masks it again, so call this after having read all.
pub fn enable_rx_irq() {
    if let Some(uart) = lock().as_mut() {
        uart.set_interrupt_fifo_levels(FifoLevel::Bytes4, FifoLevel::Bytes4);
        uart.set_interrupt_masks(Interrupts::RXI | Interrupts::RTI);
    }
}

/// Masks all interrupts of the UART and clears what is pending: what was received is read before
/// they are unmasked, and the receive interrupt of an emulated PL011 does not fall by reading when
/// fewer bytes came than its trigger level.
pub(super) fn mask_irqs() {
    if let Some(uart) = lock().as_mut() {
        uart.set_interrupt_masks(Interrupts::empty());
        uart.clear_interrupts(Interrupts::RXI | Interrupts::RTI);
    }
}
