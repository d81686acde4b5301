//! Makers of inputs: ELF files, device trees and boot shims, right and wrong ones.

pub mod elf;
pub mod fdt;
pub mod shim;
