//! A boot loader of seven instructions: starts an `Image` with any device tree address in x0.
//!
//! QEMU's own loader always adds memory to the tree it passes on, so trees without memory need
//! another one. This one also shows that the kernel relies on the boot protocol alone: it loads
//! the kernel two megabytes above the address QEMU would choose.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use xtask::machine::Machine;

use super::elf::{Elf, movk16, movz};

/// Where the shim runs.
const SHIM: u64 = 0x4020_0000;
/// Where the kernel goes.
pub const KERNEL: u64 = 0x4040_0000;
/// Where the initial RAM disk goes.
pub const INITRD: u64 = 0x4700_0000;
/// Where the device tree goes.
pub const TREE: u64 = 0x4600_0000;

/// A machine that starts `kernel` at [`KERNEL`] with `x0` and with these files in memory. Files of
/// the shim's own go to `folder`.
///
/// # Errors
/// A file cannot be written.
pub fn machine(folder: &Path, kernel: &Path, x0: u64, files: &[(u64, PathBuf)]) -> Result<Machine> {
    let shim = folder.join("shim.elf");
    fs::write(&shim, program(x0).bytes())?;
    let mut machine = Machine::new(shim);
    for (address, file) in [(KERNEL, kernel.to_owned())].iter().chain(files) {
        let option = format!(
            "loader,file={},addr={address:#x},force-raw=on",
            file.display()
        );
        machine = machine.arg("-device").arg(option);
    }
    Ok(machine)
}

fn program(x0: u64) -> Elf {
    let mut elf = Elf::runs(&[
        movz(0, x0 as u16),
        movk16(0, (x0 >> 16) as u16),
        movz(1, 0),
        movz(2, 0),
        movz(3, 0),
        movz(4, KERNEL as u16),
        movk16(4, (KERNEL >> 16) as u16),
        // br x4
        0xd61f_0080,
    ]);
    let moved = SHIM - elf.segments[0].address;
    elf.segments[0].address += moved;
    elf.entry += moved;
    elf
}
