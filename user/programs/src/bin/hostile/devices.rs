//! Registers and interrupts of QEMU's real-time clock, used as nobody should.

use abi::{Rights, calls, slot};
use programs::native::control;
use programs::require;
use programs::sys::errno;

use super::{close, copy, endpoint, fails, kill, made, process};

const REGISTERS: u64 = 0x0901_0000;
const INTERRUPT: u64 = 32 + 2;
/// Of the kernel's: its console and the interrupt controller's distributor.
const KERNELS: [u64; 2] = [0x0900_0000, 0x0800_0000];
const RAM: u64 = 0x4000_0000;
const PAGE: u64 = 4096;
const SHARED: u64 = 1;
const PRIVATE: u64 = 2;
const READ: u64 = 1;
const WRITE: u64 = 2;
const EXEC: u64 = 4;

fn open(base: u64, len: u64) -> i64 {
    control(calls::DEVICE_OPEN, &[slot::MACHINE, base, len])
}

fn map(device: u64, len: u64, prot: u64, flags: u64, offset: u64) -> i64 {
    let arguments = [slot::PROCESS, 0, len, prot, flags, device, offset];
    control(calls::MEMORY_MAP, &arguments)
}

/// What is no device, or not the caller's to have.
pub fn ranges() {
    let weak = made("the machine", copy(slot::MACHINE, Rights::TRANSFER, 0));
    let got = control(calls::DEVICE_OPEN, &[weak, REGISTERS, PAGE]);
    fails("without the right", got, errno::EACCES);
    close(weak);
    let got = control(calls::DEVICE_OPEN, &[slot::PROCESS, REGISTERS, PAGE]);
    fails("of a process", got, errno::EACCES);
    for (base, len) in [
        (RAM, PAGE),
        (RAM - PAGE, 2 * PAGE),
        (REGISTERS, 0),
        (REGISTERS + 8, PAGE),
        (REGISTERS, 8),
        (u64::MAX - PAGE + 1, PAGE),
        (u64::MAX - PAGE + 1, 2 * PAGE),
        (1 << 52, PAGE),
        (0, 1 << 40),
    ] {
        fails("no device", open(base, len), errno::EINVAL);
    }
    for base in KERNELS {
        fails("the kernel's", open(base, PAGE), errno::EACCES);
        fails("the kernel's too", open(base, 2 * PAGE), errno::EACCES);
    }
    let device = made("registers", open(REGISTERS, PAGE));
    fails("once more", open(REGISTERS, PAGE), errno::EBUSY);
    let around = open(REGISTERS - PAGE, 4 * PAGE);
    fails("around it", around, errno::EBUSY);
    close(device);
    close(made("registers again", open(REGISTERS, PAGE)));
}

/// Mappings that must not be, and what the kernel is asked to do with those that may.
pub fn mappings() {
    let device = made("registers", open(REGISTERS, PAGE));
    let private = map(device, PAGE, READ, PRIVATE, 0);
    fails("privately", private, errno::EINVAL);
    let executable = map(device, PAGE, READ | EXEC, SHARED, 0);
    fails("executable", executable, errno::EACCES);
    for (len, offset) in [(2 * PAGE, 0), (PAGE, PAGE), (PAGE, 0u64.wrapping_sub(PAGE))] {
        let got = map(device, len, READ, SHARED, offset);
        require!(got < 0, "beyond the range: {got}");
    }
    let got = map(device, PAGE, READ | WRITE, SHARED, 0);
    let addr = made("a mapping", got);
    let run = control(
        calls::MEMORY_PROTECT,
        &[slot::PROCESS, addr, PAGE, READ | EXEC],
    );
    fails("made executable", run, errno::EACCES);
    let mut word = [0u8; 8];
    let here = word.as_mut_ptr() as u64;
    for call in [calls::MEMORY_READ, calls::MEMORY_WRITE] {
        let got = control(call, &[slot::PROCESS, addr, here, 8]);
        fails("copied", got, errno::EFAULT);
    }
    fails("a text", control(calls::INFO, &[0, addr, 8]), errno::EFAULT);
    let object = [endpoint(), PAGE, 0, PAGE];
    let pager = made("a pager", control(calls::PAGER_CREATE, &object));
    let supplied = control(calls::PAGER_SUPPLY, &[pager, 0, addr, PAGE]);
    fails("supplied", supplied, errno::EFAULT);
    close(pager);
    close(object[0]);
    let unmapped = control(calls::MEMORY_UNMAP, &[slot::PROCESS, addr, PAGE]);
    require!(unmapped == 0, "unmapped: {unmapped}");
    close(device);
}

/// An interrupt belongs to one driver at a time, until the last handle of it has gone.
pub fn interrupts() {
    let to = endpoint();
    let take = || control(calls::INTERRUPT_OPEN, &[slot::MACHINE, INTERRUPT, to, 1]);
    let interrupt = made("an interrupt", take());
    fails("twice", take(), errno::EBUSY);
    let weak = made("a copy", copy(to, Rights::SEND, 0));
    let other = [slot::MACHINE, INTERRUPT + 1, weak, 1];
    let got = control(calls::INTERRUPT_OPEN, &other);
    fails("an endpoint without the right", got, errno::EACCES);
    close(weak);
    let got = control(calls::INTERRUPT_ACK, &[to]);
    fails("acknowledged by an endpoint", got, errno::EACCES);
    // A process that is given it, and ends: it is free only when both handles have gone.
    let below = process(0, 0);
    let given = [below, abi::NONE, interrupt, Rights::SAME.into()];
    let got = control(calls::HANDLE_GIVE, &given);
    require!(got >= 0, "given away: {got}");
    close(interrupt);
    fails("open below", take(), errno::EBUSY);
    kill(below);
    let again = (0..1000).find_map(|_| u64::try_from(take()).ok());
    let again = again.unwrap_or_else(|| made("an interrupt again", take()));
    require!(control(calls::INTERRUPT_ACK, &[again]) == 0, "acknowledged");
    close(again);
    close(to);
}
