//! Builds the kernel and the programs with cargo, and finds what it made.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use xtask::ending::status;
use xtask::image;

use crate::failure::failure;
use crate::toolchain;
use crate::ui;
use crate::workspace::{Workspace, write_atomically};

/// A built kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The flat `Image` to boot.
    pub image: PathBuf,
    /// The ELF it was made from, with symbols and line tables; none for a foreign `Image`.
    pub elf: Option<PathBuf>,
}

/// Builds the kernel in a profile of the workspace (`kernel` or `checked`).
///
/// # Errors
/// The target is missing, the build fails (status 101, cargo's output is shown), or the result is
/// no arm64 `Image`.
pub fn kernel(workspace: &Workspace, profile: &str) -> Result<Kernel> {
    kernel_with(workspace, profile, None)
}

/// Builds the kernel with one more feature of the crate `kernel`, in target directories of the
/// feature's own, so that neither build throws the other away.
///
/// # Errors
/// As [`kernel`].
pub fn kernel_with(workspace: &Workspace, profile: &str, feature: Option<&str>) -> Result<Kernel> {
    toolchain::ensure(toolchain::KERNEL)?;
    let mut command = cross_build(workspace, toolchain::KERNEL, profile);
    command.args(["--package", "boot"]);
    let mut place = workspace.scratch()?.join(profile);
    let mut what = "building the kernel".to_owned();
    if let Some(feature) = feature {
        command.arg("--features").arg(format!("kernel/{feature}"));
        command.env("CARGO_TARGET_DIR", workspace.target().join(feature));
        place = place.join(feature);
        what = format!("{what} with {feature}");
    }
    let built = run_cargo(&mut command, &what)?;
    let (_, elf) = built.into_iter().next().context("cargo built no kernel")?;
    let bytes = std::fs::read(&elf).with_context(|| format!("cannot read {}", elf.display()))?;
    let image = place.join("Image");
    write_atomically(&image, &image::flat(&bytes)?)?;
    Ok(Kernel {
        image,
        elf: Some(elf),
    })
}

/// A kernel that somebody else has built: an `Image`, or an ELF that QEMU loads itself.
///
/// # Errors
/// The file cannot be read, or it is neither.
pub fn foreign_kernel(file: &Path) -> Result<Kernel> {
    let absolute = std::path::absolute(file)?;
    let bytes = std::fs::read(&absolute).map_err(|error| {
        failure(
            status::USAGE,
            format!("cannot read {}: {error}", file.display()),
        )
    })?;
    if !image::is_bootable(&bytes) {
        let message = format!(
            "{} is neither an arm64 Image nor an AArch64 ELF",
            file.display()
        );
        return Err(failure(status::USAGE, message));
    }
    let elf = image::is_aarch64_elf(&bytes).then(|| absolute.clone());
    Ok(Kernel {
        image: absolute,
        elf,
    })
}

/// The programs of these packages, as (name, file).
///
/// # Errors
/// The target is missing, or the build fails (status 101, cargo's output is shown).
pub fn programs(workspace: &Workspace, packages: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    toolchain::ensure(toolchain::USER)?;
    let mut command = cross_build(workspace, toolchain::USER, "user");
    command
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .arg("--bins");
    run_cargo(&mut command, "building the programs")
}

/// Packages that have programs to be run by name.
pub const OWN: [&str; 2] = ["programs", "servers"];

/// The package, of [`OWN`], that has a program of this name.
pub fn package_of(workspace: &Workspace, name: &str) -> Option<&'static str> {
    let plain = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    OWN.into_iter().find(|package| {
        let bins = workspace.root().join("user").join(package).join("src/bin");
        let is_file = bins.join(format!("{name}.rs")).is_file();
        plain && (is_file || bins.join(name).join("main.rs").is_file())
    })
}

/// RUSTFLAGS in the environment are meant for the host and would replace the flags that
/// .cargo/config.toml gives these targets, so they are taken away.
fn cross_build(workspace: &Workspace, target: &str, profile: &str) -> Command {
    let mut command = workspace.cargo();
    command.args(["build", "--quiet", "--target", target, "--profile", profile]);
    command.args(["--message-format", "json-render-diagnostics"]);
    command
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.env_remove("CARGO_BUILD_TARGET");
    command
}

/// Runs a build and returns the executables it names, in its order.
fn run_cargo(command: &mut Command, what: &str) -> Result<Vec<(String, PathBuf)>> {
    let step = ui::Step::new(what);
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("cannot run cargo")?;
    drop(step);
    ui::pass_on(&output.stderr);
    if !output.status.success() {
        let line = xtask::shell::line(command);
        return Err(failure(
            status::BUILD,
            format!("{what} failed; the command was\n{line}"),
        ));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    Ok(messages.lines().filter_map(executable).collect())
}

fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let name = message["target"]["name"].as_str()?;
    Some((name.to_owned(), message["executable"].as_str()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_about_executables_count() {
        let made =
            r#"{"reason":"compiler-artifact","target":{"name":"boot"},"executable":"/t/boot"}"#;
        assert_eq!(executable(made), Some(("boot".into(), "/t/boot".into())));
        let library = r#"{"reason":"compiler-artifact","target":{"name":"mm"},"executable":null}"#;
        assert_eq!(executable(library), None);
        assert_eq!(executable("warning: not json"), None);
    }
}
