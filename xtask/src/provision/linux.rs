//! Fetches the Linux that some tests are recorded on, once, for this repository alone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::apt;
use crate::ui;
use crate::workspace::Workspace;

/// The version whose answers count: other kernels may say other things.
const OLDEST: (u32, u32) = (6, 12);
/// What the file of the kernel is called before its version.
const IMAGE: &str = "vmlinuz-";

/// A kernel that QEMU can boot.
#[derive(Clone, Debug)]
pub struct Linux {
    /// The `Image`.
    pub image: PathBuf,
    /// Its version, as it names itself.
    pub version: String,
}

/// The kernel fetched earlier, or one fetched now.
///
/// # Errors
/// There is no network, or the system has other package tools than apt.
pub fn ensure(workspace: &Workspace) -> Result<Linux> {
    let home = workspace.scratch()?.join("linux");
    if let Some(linux) = find(&home) {
        return Ok(linux);
    }
    let work = tempfile::Builder::new()
        .prefix("linux-fetch-")
        .tempdir_in(workspace.scratch()?)?;
    let root = apt::fetch_linux(work.path(), OLDEST)?;
    // The modules beside it are of no use without a disk.
    let _ = fs::remove_dir_all(&home);
    fs::rename(root.join("boot"), &home)
        .with_context(|| format!("cannot make {}", home.display()))?;
    let linux = find(&home).context("the package has no kernel")?;
    ui::say(&format!("fetched Linux {}", linux.version));
    Ok(linux)
}

fn find(home: &Path) -> Option<Linux> {
    let files = fs::read_dir(home).ok()?.flatten();
    files.map(|entry| entry.path()).find_map(|image| {
        let version = image.file_name()?.to_str()?.strip_prefix(IMAGE)?.to_owned();
        Some(Linux { image, version })
    })
}
