//! `rtc`: a driver at EL0, for the real-time clock of QEMU's machine `virt` (Arm PrimeCell PL031). It
//! sets the clock's alarm, and sleeps until the interrupt comes as a notification.

use std::process::ExitCode;
use std::time::Duration;

use servers::{Outcome, arguments, finish, usage};
use tessera::{Endpoint, Event, Machine, PAGE, Prot};

/// Where the machine `virt` has it: registers, and the number of its interrupt (shared peripheral
/// interrupts begin at 32).
const ADDRESS: u64 = 0x901_0000;
const INTERRUPT: u64 = 32 + 2;
/// The notification bit of the interrupt.
const ALARM: u64 = 1;
/// An alarm that has not come after this long never does.
const PATIENCE: Duration = Duration::from_secs(10);

/// Registers (PL031 Technical Reference Manual, "Summary of RTC registers").
mod register {
    /// Seconds since 1970.
    pub const DATA: usize = 0x00;
    /// Seconds at which the alarm goes off.
    pub const MATCH: usize = 0x04;
    /// 1: the alarm is an interrupt.
    pub const MASK: usize = 0x10;
    /// 1: the alarm has gone off.
    pub const RAW: usize = 0x14;
    /// 1: takes the interrupt back.
    pub const CLEAR: usize = 0x1c;
}

fn main() -> ExitCode {
    match arguments()[..] {
        [] => finish("rtc", alarm(2)),
        _ => finish("rtc", usage("rtc")),
    }
}

/// Waits for so many alarms.
fn alarm(times: u32) -> Outcome {
    let machine = Machine::own()?;
    let device = machine.device(ADDRESS, PAGE as u64)?;
    let clock = device.map(0, PAGE, Prot::READ | Prot::WRITE)?;
    let endpoint = Endpoint::create()?;
    clock.store(register::CLEAR, 1);
    let interrupt = machine.interrupt(INTERRUPT, &endpoint, ALARM)?;
    clock.store(register::MASK, 1);
    for time in 1..=times {
        let start = clock.load(register::DATA);
        clock.store(register::MATCH, start + 1);
        let received = endpoint.receive_within(Some(PATIENCE))?;
        let Event::Notification(ALARM) = received.event else {
            return Err("that was no alarm".into());
        };
        let (now, raw) = (clock.load(register::DATA), clock.load(register::RAW));
        println!(
            "rtc: alarm {time} after {} s, raw status {raw}",
            now - start
        );
        clock.store(register::CLEAR, 1);
        interrupt.acknowledge()?;
    }
    clock.store(register::MASK, 0);
    Ok(0)
}
