//! `cargo xtask setup`: what this machine has, and what had to be fetched.

use anyhow::Result;
use xtask::ending::status;

use crate::cli::Setup;
use crate::provision::{self, Qemu, Search, Source};
use crate::toolchain::{self, Found};
use crate::workspace::Workspace;

/// Prints one line per item on standard output.
///
/// # Errors
/// Something is missing and cannot be had.
pub fn run(workspace: &Workspace, options: &Setup) -> Result<u8> {
    let mut missing = false;
    for target in [toolchain::KERNEL, toolchain::USER] {
        let state = if options.check {
            let installed = toolchain::is_installed(target);
            missing |= !installed;
            if installed { "present" } else { "missing" }
        } else {
            match toolchain::ensure(target)? {
                Found::Present => "present",
                Found::Added => "added",
            }
        };
        println!("Rust target {target}: {state}");
    }
    if !options.check {
        println!("{}", described(&provision::ensure(workspace)?));
        return Ok(0);
    }
    match provision::search(workspace)? {
        Search::Usable(qemu) => println!("{}", described(&qemu)),
        Search::Nothing(why) => {
            missing = true;
            println!("QEMU: missing ({})", why.join("; "));
        }
    }
    if missing {
        println!("`cargo xtask setup` fetches what is missing.");
    }
    Ok(if missing { status::USAGE } else { 0 })
}

fn described(qemu: &Qemu) -> String {
    let source = match qemu.source {
        Source::Variable => "from the variable QEMU",
        Source::Path => "from the PATH",
        Source::Unpacked => "fetched earlier for this repository",
        Source::Fetched => "fetched now for this repository",
    };
    format!("QEMU {}: {}, {source}", qemu.version, qemu.path.display())
}
