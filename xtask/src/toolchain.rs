//! The Rust targets that the kernel and the programs are built for.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use xtask::ending::status;

use crate::failure::failure;
use crate::ui;

/// The kernel's target: no FP or SIMD register belongs to the kernel.
pub const KERNEL: &str = "aarch64-unknown-none-softfloat";
/// The programs' target: static Linux programs.
pub const USER: &str = "aarch64-unknown-linux-musl";

/// What was found, and what was done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was there.
    Present,
    /// It has been added.
    Added,
}

/// Makes sure that the standard library for a target is there.
///
/// # Errors
/// It is missing and cannot be added; the message says what to do.
pub fn ensure(target: &str) -> Result<Found> {
    if is_installed(target) {
        return Ok(Found::Present);
    }
    let step = ui::Step::new(format!("adding the Rust target {target}"));
    // RUSTUP_TOOLCHAIN is inherited from cargo, so the toolchain that runs us is the one that
    // gets the target.
    let output = Command::new("rustup")
        .args(["target", "add", target])
        .output();
    drop(step);
    let advice = match output {
        Ok(output) if output.status.success() && is_installed(target) => {
            ui::say(&format!("added the Rust target {target}"));
            return Ok(Found::Added);
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(_) => "rustup is not on the PATH; install the standard library of this target with \
                   the package manager your Rust comes from"
            .to_owned(),
    };
    let message = format!(
        "the Rust target {target} is missing; `rustup target add {target}` adds it\n{advice}"
    );
    Err(failure(status::USAGE, message))
}

/// Whether rustc has a standard library for the target.
pub fn is_installed(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .output();
    let Ok(output) = output else { return false };
    let dir = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    output.status.success()
        && fs::read_dir(dir).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| is_core(&entry.file_name())))
        })
}

/// The directory may exist without a library in it: rustup removes files, not directories.
fn is_core(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with("libcore-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_does_not_exist_is_not_installed() {
        assert!(!is_installed("aarch64-unknown-nowhere"));
        assert!(is_core("libcore-0123.rlib".as_ref()) && !is_core("libstd.rlib".as_ref()));
    }
}
