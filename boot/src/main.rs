//! The boot image: from the first instruction to `kernel::arch::start::start`.
//!
//! An arm64 `Image` (Linux's boot protocol: device tree in x0, MMU off). `head` holds the
//! assembly, `tables` makes the first translation tables with the MMU still off; the kernel proper
//! begins at its high address with W^X in force.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod head;
#[cfg(target_os = "none")]
mod tables;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("This is the host build of the boot image. To boot it: cargo xtask qemu");
    std::process::exit(2);
}
