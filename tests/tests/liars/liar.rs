//! A kernel that is not one: it says and does what the boot argument `liar=NAME` asks for, so that
//! the harness can be tested against kernels that lie, hang, panic and reboot.
//!
//! It runs with the MMU off and knows QEMU's `virt` machine by heart.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

global_asm!(
    ".section .head, \"ax\"",
    ".global _start",
    "_start:",
    "mrs x0, mpidr_el1",
    "and x0, x0, #0xff",
    "1: cbnz x0, 2f",
    "ldr x0, =stack_top",
    "mov sp, x0",
    "b liar",
    "2: wfi",
    "b 2b",
);

/// The data register of the PL011.
const UART: *mut u32 = 0x0900_0000 as *mut u32;
/// QEMU leaves the device tree here when the kernel is an ELF file, padded to this size.
const DEVICE_TREE: *const u8 = 0x4000_0000 as *const u8;
const DEVICE_TREE_SIZE: usize = 1 << 20;

fn put(byte: u8) {
    // SAFETY: the PL011 of the `virt` machine; QEMU takes a byte at any time.
    unsafe { UART.write_volatile(u32::from(byte)) }
}

fn print(text: &[u8]) {
    text.iter().for_each(|&byte| put(byte));
}

/// One byte of the device tree blob.
fn tree(at: usize) -> u8 {
    // SAFETY: RAM that QEMU filled and nobody writes; `at` is below the size of the blob.
    unsafe { DEVICE_TREE.add(at % DEVICE_TREE_SIZE).read_volatile() }
}

/// Where the value of a boot argument starts.
fn argument(name: &[u8]) -> Option<usize> {
    (0..DEVICE_TREE_SIZE - name.len())
        .find(|&at| {
            name.iter()
                .enumerate()
                .all(|(offset, &byte)| tree(at + offset) == byte)
        })
        .map(|at| at + name.len())
}

fn is_end(byte: u8) -> bool {
    byte == 0 || byte == b' '
}

/// Whether the argument at `at` is `word`.
fn is(at: usize, word: &[u8]) -> bool {
    word.iter()
        .enumerate()
        .all(|(offset, &byte)| tree(at + offset) == byte)
        && is_end(tree(at + word.len()))
}

/// Prints `@TOKEN text\n`, control lines separated by `;` in `text`.
fn say(text: &[u8]) {
    let Some(token) = argument(b"tessera.token=") else {
        return;
    };
    for line in text.split(|&byte| byte == b';') {
        put(b'@');
        (token..)
            .map(tree)
            .take_while(|&byte| !is_end(byte))
            .for_each(put);
        put(b' ');
        print(line);
        put(b'\n');
    }
}

/// Waits for a byte on the console.
fn wait_for_byte() {
    // SAFETY: the flag register of the same PL011; reading it changes nothing.
    while unsafe { UART.add(6).read_volatile() } & 0x10 != 0 {}
    // SAFETY: reading the data register takes the byte.
    unsafe { UART.read_volatile() };
}

/// Writes tables that map a gibibyte for writing and executing at EL1, where `snapshot` says.
fn bad_tables() {
    let root = 0x4300_0000 as *mut u64;
    // SAFETY: RAM far above this program and the device tree, used by nobody.
    unsafe {
        root.write_volatile(0x4300_1003);
        root.add(512).write_volatile(0x4000_0405);
    }
}

/// Ends QEMU with this status.
fn exit(status: u64) -> ! {
    // ADP_Stopped_ApplicationExit and the status, as semihosting's SYS_EXIT wants them.
    let block = [0x20026_u64, status];
    // SAFETY: the semihosting call ends the machine and reads only `block`.
    unsafe { asm!("hlt #0xf000", in("x0") 0x18, in("x1") block.as_ptr()) }
    hang()
}

fn psci(function: u64) -> ! {
    // SAFETY: SYSTEM_OFF and SYSTEM_RESET take no argument and do not return.
    unsafe { asm!("hvc #0", in("x0") function) }
    hang()
}

fn hang() -> ! {
    loop {
        // SAFETY: waits; touches nothing.
        unsafe { asm!("wfi") }
    }
}

const BEGIN: &[u8] = b"boot cpus=1;test-begin name=first";
const PASSED: &[u8] = b"test-end name=first result=pass";
const DONE: &[u8] = b"tests-done passed=1 failed=0";

#[unsafe(no_mangle)]
extern "C" fn liar() -> ! {
    let Some(name) = argument(b"liar=") else {
        hang()
    };
    let tables: [(&[u8], fn() -> !); 20] = [
        (b"honest", || {
            finish(&[BEGIN, PASSED, DONE, b"halt status=0"], 0)
        }),
        (b"silent", || hang()),
        (b"silent-exit", || exit(0)),
        (b"silent-off", || psci(0x8400_0008)),
        (b"hang", || {
            say(BEGIN);
            hang()
        }),
        (b"spin", || {
            say(BEGIN);
            #[expect(clippy::empty_loop, reason = "a kernel that burns its CPU is the case")]
            loop {}
        }),
        (b"done-nonzero", || {
            finish(&[BEGIN, PASSED, DONE, b"halt status=0"], 3)
        }),
        (b"ghost", || {
            finish(
                &[
                    b"boot cpus=1;test-end name=ghost result=pass",
                    DONE,
                    b"halt status=0",
                ],
                0,
            )
        }),
        (b"miscount", || {
            finish(
                &[
                    BEGIN,
                    PASSED,
                    b"tests-done passed=2 failed=0",
                    b"halt status=0",
                ],
                0,
            )
        }),
        (b"unfinished", || finish(&[BEGIN, b"halt status=0"], 0)),
        (b"failed-zero", || {
            let failed = b"test-end name=first result=fail text=broken";
            finish(
                &[
                    BEGIN,
                    failed,
                    b"tests-done passed=0 failed=1",
                    b"halt status=0",
                ],
                0,
            )
        }),
        (b"no-halt", || finish(&[BEGIN, PASSED, DONE], 0)),
        (b"halt-and-stay", || {
            say(b"boot cpus=1;exit status=0;halt status=0");
            hang()
        }),
        (b"panic", || {
            finish(
                &[
                    BEGIN,
                    b"bug law=8 text=table twice;bt pc=0x40200000;halt status=70",
                ],
                70,
            )
        }),
        (b"panic-success", || {
            finish(
                &[
                    BEGIN,
                    b"bug law=- text=hidden",
                    PASSED,
                    DONE,
                    b"halt status=0",
                ],
                0,
            )
        }),
        (b"reset", || {
            say(BEGIN);
            psci(0x8400_0009)
        }),
        (b"wrong-token", || {
            print(b"@0123456789abcdef boot cpus=1\n@0123456789abcdef test-begin name=first\n");
            print(b"@0123456789abcdef test-end name=first result=pass\n");
            print(b"@0123456789abcdef tests-done passed=1 failed=0\n@0123456789abcdef halt status=0\n");
            exit(0)
        }),
        (b"snapshot", || {
            bad_tables();
            say(b"boot cpus=1");
            say(b"snapshot ttbr1=0x43000000 vmemmap=0xffff700000000000 pgfmt=normal root=1:0x43000000:4");
            wait_for_byte();
            finish(&[b"exit status=0;halt status=0"], 0)
        }),
        (b"snapshot-of-nothing", || {
            say(b"boot cpus=1;snapshot ttbr1=all vmemmap=is pgfmt=well");
            wait_for_byte();
            finish(&[b"exit status=0;halt status=0"], 0)
        }),
        (b"flood", || {
            say(BEGIN);
            loop {
                print(b"all is well, all is well, all is well, all is well, all is well\n");
            }
        }),
    ];
    for (word, act) in tables {
        if is(name, word) {
            act();
        }
    }
    hang()
}

fn finish(lines: &[&[u8]], status: u64) -> ! {
    lines.iter().for_each(|line| say(line));
    exit(status)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    hang()
}
