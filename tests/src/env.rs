//! What `cargo xtask test` tells the harness, through environment variables.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Whether the harness was started by `cargo xtask test`: only then is there a QEMU to boot.
pub fn is_given() -> bool {
    std::env::var_os("TESSERA_QEMU").is_some()
}

/// Whether long tests are wanted, too: `cargo xtask test --full`.
pub fn is_full() -> bool {
    std::env::var_os("TESSERA_FULL").is_some()
}

/// The QEMU to run.
///
/// # Errors
/// As all functions here: the variable is not set, and the message says what sets it.
pub fn qemu() -> Result<PathBuf> {
    get("TESSERA_QEMU")
}

/// The kernel as it is shipped, a flat arm64 `Image`.
///
/// # Errors
/// See [`qemu`].
pub fn kernel_image() -> Result<PathBuf> {
    get("TESSERA_KERNEL_IMAGE")
}

/// The kernel with every assertion on, a flat arm64 `Image`.
///
/// # Errors
/// See [`qemu`].
pub fn checked_image() -> Result<PathBuf> {
    get("TESSERA_CHECKED_IMAGE")
}

/// The built program of this name.
///
/// # Errors
/// See [`qemu`]; also when there is no such file.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = get("TESSERA_USER_DIR")?.join(name);
    anyhow::ensure!(path.is_file(), "no program {}", path.display());
    Ok(path)
}

/// The xtask binary.
///
/// # Errors
/// See [`qemu`].
pub fn xtask() -> Result<PathBuf> {
    get("TESSERA_XTASK")
}

/// The fault that kernels are to be booted with: `cargo xtask mutants` gives one.
pub fn fault() -> Option<String> {
    std::env::var("TESSERA_FAULT").ok()
}

/// The folder for logs, made if missing.
///
/// # Errors
/// See [`qemu`]; also when it cannot be made.
pub fn out() -> Result<PathBuf> {
    let path = get("TESSERA_OUT")?;
    std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

fn get(name: &str) -> Result<PathBuf> {
    let value = std::env::var_os(name);
    value
        .map(PathBuf::from)
        .with_context(|| format!("{name} is not set: run cargo xtask test"))
}
