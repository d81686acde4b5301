//! `cargo xtask miri`: host tests under Miri, the interpreter that knows what Rust leaves undefined.

use std::process::Command;

use anyhow::Result;
use xtask::ending::status;

use crate::cli::Miri;
use crate::failure::failure;
use crate::test::{Style, Tally, follow};
use crate::ui;
use crate::workspace::Workspace;

/// Always: no integer may become a pointer, as on hardware whose pointers are more than addresses.
const STRICT: &str = "-Zmiri-strict-provenance";

/// Where user memory is copied, the same bytes are accessed as atomics of different sizes. Miri's
/// emulation of weak memory does not know such accesses and ends with a bug of its own; without it
/// everything else is still checked, data races included.
const MIXED_SIZES: &str = "-Zmiri-disable-weak-memory-emulation";

/// Machines that tests run the engine on live until the test program ends, like the real one.
const LEAKS: &str = "-Zmiri-ignore-leaks";

/// Packages, and the flags that each needs beside [`STRICT`].
const PACKAGES: [(&str, &[&str]); 7] = [
    ("arm64", &[]),
    ("sync", &[]),
    ("frame", &[MIXED_SIZES]),
    ("pgtable", &[MIXED_SIZES, LEAKS]),
    ("mm", &[MIXED_SIZES, LEAKS]),
    ("ipc", &[]),
    ("model", &[MIXED_SIZES, LEAKS]),
];

/// Runs the tests of all packages.
///
/// # Errors
/// There is no Miri and none can be installed.
pub fn run(workspace: &Workspace, options: &Miri) -> Result<u8> {
    let tally = tally(workspace, options)?;
    println!("{}", tally.line());
    Ok(tally.status())
}

/// As [`run`], for those who count further.
///
/// # Errors
/// As [`run`].
pub fn tally(workspace: &Workspace, options: &Miri) -> Result<Tally> {
    ensure()?;
    let mut total = Tally::default();
    for (package, flags) in PACKAGES {
        println!("{package} under Miri");
        let mut command = nightly();
        command.current_dir(workspace.root());
        command.args(["miri", "test", "--package", package, "--lib", "--tests"]);
        command.arg("--no-fail-fast").arg("--").args(&options.name);
        command.env("MIRIFLAGS", [&[STRICT], flags].concat().join(" "));
        command.env("CARGO_TARGET_DIR", workspace.target().join("miri"));
        // A crash of Miri's is told on the terminal, and leaves no file behind.
        command.env("RUSTC_ICE", "0");
        total.add(follow(&mut command, Style::Short)?);
    }
    Ok(total)
}

/// The cargo of the nightly toolchain; what the cargo that runs us says to its children about
/// itself is not for another.
fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]);
    for name in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS"] {
        command.env_remove(name);
    }
    command
}

/// Installs what is missing.
fn ensure() -> Result<()> {
    if works() {
        return Ok(());
    }
    let step = ui::Step::new("installing Miri");
    // Also right where the toolchain is there and only components are missing.
    let words = "toolchain install nightly --profile minimal --component miri --component rust-src";
    let output = Command::new("rustup").args(words.split(' ')).output();
    drop(step);
    let advice = match output {
        Ok(output) if output.status.success() && works() => {
            ui::say("installed Miri in the nightly toolchain");
            return Ok(());
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(_) => "rustup is not on the PATH".to_owned(),
    };
    let message = format!(
        "Miri is missing and cannot be installed, so nothing was checked with it; `rustup {words}` \
         installs it\n{advice}"
    );
    Err(failure(status::USAGE, message))
}

/// Whether Miri runs and finds the sources of the standard library.
fn works() -> bool {
    let succeeds = |command: &mut Command| command.output().is_ok_and(|out| out.status.success());
    let mut sysroot = Command::new("rustup");
    sysroot.args(["run", "nightly", "rustc", "--print", "sysroot"]);
    let Ok(output) = sysroot.output() else {
        return false;
    };
    let root = std::path::PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    root.join("lib/rustlib/src/rust/library").is_dir()
        && succeeds(nightly().args(["miri", "--version"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_this_cargo_reaches_the_other() {
        let command = nightly();
        let removed: Vec<_> = command
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .collect();
        assert_eq!(removed.len(), 5, "{removed:?}");
        assert_eq!(xtask::shell::line(&command), "rustup run nightly cargo");
    }
}
