//! Finds a QEMU that is good enough, or fetches one for this repository alone.
//!
//! The order: `$QEMU`; `qemu-system-aarch64` on the PATH; the one fetched earlier; one fetched now
//! with the system's package tools and unpacked under the target directory.

mod apt;
pub mod linux;
mod sources;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use xtask::ending::status;

use crate::failure::failure;
use crate::ui;
use crate::workspace::Workspace;

/// The oldest major version whose memory tagging works (7.2 has one tag byte per page).
const OLDEST: u32 = 8;
const PROGRAM: &str = "qemu-system-aarch64";

/// A usable QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    /// What to execute.
    pub path: PathBuf,
    /// Its version, as it prints it.
    pub version: String,
    /// Where it comes from.
    pub source: Source,
}

/// Where a QEMU comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The variable QEMU.
    Variable,
    /// The PATH.
    Path,
    /// Fetched for this repository some time ago.
    Unpacked,
    /// Fetched just now.
    Fetched,
}

/// What a search without fetching found.
#[derive(Debug)]
pub enum Search {
    /// One that can be used.
    Usable(Qemu),
    /// None, and why not.
    Nothing(Vec<String>),
}

/// The search without fetching.
///
/// # Errors
/// `$QEMU` names something that cannot be used: an explicit wish is not overridden.
pub fn search(workspace: &Workspace) -> Result<Search> {
    let mut why = Vec::new();
    if let Some(wish) = std::env::var_os("QEMU").filter(|wish| !wish.is_empty()) {
        let path = on_path(Path::new(&wish)).unwrap_or_else(|| PathBuf::from(&wish));
        return match probe(&path) {
            Ok(version) => Ok(Search::Usable(Qemu {
                path,
                version,
                source: Source::Variable,
            })),
            Err(problem) => Err(failure(
                status::USAGE,
                format!("the variable QEMU names {}: {problem}", path.display()),
            )),
        };
    }
    match on_path(Path::new(PROGRAM)) {
        Some(path) => match probe(&path) {
            Ok(version) => {
                return Ok(Search::Usable(Qemu {
                    path,
                    version,
                    source: Source::Path,
                }));
            }
            Err(problem) => why.push(format!("{}: {problem}", path.display())),
        },
        None => why.push(format!("{PROGRAM} is not on the PATH")),
    }
    let path = home(workspace)?.join(PROGRAM);
    if path.exists() {
        match probe(&path) {
            Ok(version) => {
                return Ok(Search::Usable(Qemu {
                    path,
                    version,
                    source: Source::Unpacked,
                }));
            }
            Err(problem) => why.push(format!("{}: {problem}", path.display())),
        }
    }
    Ok(Search::Nothing(why))
}

/// The search, and a fetch if it found nothing.
///
/// # Errors
/// No usable QEMU can be had; the message has the commands that install one.
pub fn ensure(workspace: &Workspace) -> Result<Qemu> {
    let mut why = match search(workspace)? {
        Search::Usable(qemu) => return Ok(qemu),
        Search::Nothing(why) => why,
    };
    match fetch(workspace) {
        Ok(qemu) => Ok(qemu),
        Err(error) => {
            why.push(format!("fetching one failed: {error:#}"));
            Err(failure(status::USAGE, advice(&why)))
        }
    }
}

/// The message for a machine without a usable QEMU.
pub fn advice(why: &[String]) -> String {
    let why: Vec<String> = why
        .iter()
        .map(|reason| reason.replace('\n', "\n    "))
        .collect();
    let why = why.join("\n  ");
    let debian = apt::backports_hint().unwrap_or_default();
    format!(
        "no usable QEMU: Tessera needs {PROGRAM} {OLDEST}.0 or newer\n  {why}\n\
         Install one with\n\
         \x20 Debian, Ubuntu:  sudo apt-get update && sudo apt-get install qemu-system-arm\n{debian}\
         \x20 Fedora:          sudo dnf install qemu-system-aarch64\n\
         \x20 Arch:            sudo pacman -S qemu-system-aarch64\n\
         \x20 macOS:           brew install qemu\n\
         or name one in the variable QEMU."
    )
}

fn home(workspace: &Workspace) -> Result<PathBuf> {
    Ok(workspace.scratch()?.join("qemu"))
}

/// Fetches under a lock, so that of several processes one works and the others use the result;
/// whatever is at the final place is complete.
fn fetch(workspace: &Workspace) -> Result<Qemu> {
    let home = home(workspace)?;
    let lock = File::create(home.with_extension("lock")).context("cannot make the lock file")?;
    let waiting = ui::Step::new("waiting for another fetch of QEMU");
    lock.lock().context("cannot lock")?;
    drop(waiting);
    let path = home.join(PROGRAM);
    if let Ok(version) = probe(&path) {
        return Ok(Qemu {
            path,
            version,
            source: Source::Unpacked,
        });
    }
    let work = tempfile::Builder::new()
        .prefix("qemu-fetch-")
        .tempdir_in(workspace.scratch()?)?;
    let unpacked = apt::fetch(work.path())?;
    write_wrapper(&unpacked)?;
    let version = probe(&unpacked.join(PROGRAM))
        .map_err(|problem| anyhow::anyhow!("what was fetched cannot be used: {problem}"))?;
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::rename(&unpacked, &home).with_context(|| format!("cannot make {}", home.display()))?;
    ui::say(&format!("fetched QEMU {version} into {}", home.display()));
    Ok(Qemu {
        path,
        version,
        source: Source::Fetched,
    })
}

/// A script that starts the unpacked QEMU with its own libraries, modules and data, wherever the
/// directory lies.
fn write_wrapper(unpacked: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let libraries = library_dirs(unpacked);
    let modules = libraries
        .iter()
        .find(|dir| unpacked.join(dir).join("qemu").is_dir());
    let list = libraries
        .iter()
        .map(|dir| format!("$here/{dir}"))
        .collect::<Vec<_>>()
        .join(":");
    let modules = modules.map_or_else(String::new, |dir| {
        format!("QEMU_MODULE_DIR=\"$here/{dir}/qemu\"\nexport QEMU_MODULE_DIR\n")
    });
    let script = format!(
        "#!/bin/sh\n\
         here=$(dirname \"$(readlink -f \"$0\")\")\n\
         LD_LIBRARY_PATH=\"{list}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\n\
         export LD_LIBRARY_PATH\n{modules}\
         exec \"$here/usr/bin/{PROGRAM}\" -L \"$here/usr/share/qemu\" \"$@\"\n"
    );
    let path = unpacked.join(PROGRAM);
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Directories with shared libraries, relative to where the packages were unpacked.
fn library_dirs(unpacked: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for base in ["usr/lib", "lib", "usr/lib64", "lib64"] {
        let inner = fs::read_dir(unpacked.join(base))
            .into_iter()
            .flatten()
            .flatten();
        let names = inner.map(|entry| format!("{base}/{}", entry.file_name().to_string_lossy()));
        found.extend(std::iter::once(base.to_owned()).chain(names));
    }
    found.retain(|dir| {
        let mut entries = fs::read_dir(unpacked.join(dir))
            .into_iter()
            .flatten()
            .flatten();
        entries.any(|entry| entry.file_name().to_string_lossy().contains(".so."))
    });
    found
}

/// Finds a program as a shell would.
fn on_path(program: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |path: &Path| {
        fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if program.components().count() > 1 {
        return runs(program)
            .then(|| std::path::absolute(program).ok())
            .flatten();
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|path| runs(path))
}

/// The version of a QEMU, or why it cannot be used.
fn probe(path: &Path) -> Result<String, String> {
    let output = Command::new(path)
        .arg("--version")
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(version) = parse_version(&text) else {
        let errors = String::from_utf8_lossy(&output.stderr);
        let errors = errors
            .lines()
            .next()
            .unwrap_or("it prints no version")
            .to_owned();
        return Err(format!("not a QEMU that runs here ({errors})"));
    };
    match major(&version) {
        Some(major) if major >= OLDEST => Ok(version),
        _ => Err(format!(
            "version {version} is too old ({OLDEST}.0 or newer is needed)"
        )),
    }
}

fn parse_version(text: &str) -> Option<String> {
    let rest = text.trim_start().strip_prefix("QEMU emulator version ")?;
    rest.split_whitespace().next().map(str::to_owned)
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An executable script. A process of its own writes it: a file that we have open for writing
    /// could be inherited by another test's child, and cannot be executed then.
    fn script(dir: &Path, name: &str, body: &str) -> PathBuf {
        let path = dir.join(name);
        let write = "printf '#!/bin/sh\n%s\n' \"$2\" > \"$1\" && chmod +x \"$1\"";
        let status = Command::new("sh")
            .args(["-c", write, "sh"])
            .arg(&path)
            .arg(body)
            .status();
        assert!(status.unwrap().success());
        path
    }

    #[test]
    fn a_version_is_judged_by_its_major_number() {
        let dir = tempfile::tempdir().unwrap();
        let says = |text: &str| probe(&script(dir.path(), "q", &format!("echo '{text}'")));
        assert_eq!(
            says("QEMU emulator version 10.0.2 (Debian 1:10)"),
            Ok("10.0.2".into())
        );
        assert_eq!(says("QEMU emulator version 8.0.0"), Ok("8.0.0".into()));
        assert!(
            says("QEMU emulator version 7.2.22 (x)")
                .unwrap_err()
                .contains("7.2.22 is too old")
        );
        assert!(says("hello").unwrap_err().contains("not a QEMU"));
        assert!(probe(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn the_wrapper_finds_its_libraries_from_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a b");
        fs::create_dir_all(root.join("usr/lib/x-linux/qemu")).unwrap();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("usr/lib/x-linux/libz.so.1"), "").unwrap();
        let body = "echo \"$LD_LIBRARY_PATH|$QEMU_MODULE_DIR|$*\"";
        script(&root.join("usr/bin"), PROGRAM, body);
        write_wrapper(&root).unwrap();
        let output = Command::new(root.join(PROGRAM))
            .arg("x y")
            .current_dir("/")
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap();
        let root = root.canonicalize().unwrap();
        let root = root.display();
        let libraries = format!("{root}/usr/lib/x-linux");
        let expected = format!("{libraries}|{libraries}/qemu|-L {root}/usr/share/qemu x y\n");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }

    #[test]
    fn the_advice_names_every_system_and_every_reason() {
        let text = advice(&["reason one".into(), "reason\ntwo".into()]);
        for part in [
            "reason one",
            "\n    two",
            "apt-get install",
            "dnf",
            "pacman",
            "brew",
            "QEMU.",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
