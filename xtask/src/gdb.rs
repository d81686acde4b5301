//! `cargo xtask gdb`: a stopped machine and a debugger attached to it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::artifacts::Kernel;
use crate::cli::Gdb;
use crate::run::{self, Payload};
use crate::workspace::{Workspace, write_atomically};
use crate::{provision, ui};

/// Debuggers that may know AArch64, best first.
const DEBUGGERS: [&str; 3] = ["gdb-multiarch", "aarch64-linux-gnu-gdb", "gdb"];

/// Starts the machine, then the debugger; the machine ends with the debugger.
///
/// # Errors
/// The machine cannot be built or started.
pub fn run(workspace: &Workspace, options: &Gdb) -> Result<u8> {
    // QEMU would fail, and gdb attach to whoever has the port.
    if let Err(error) = std::net::TcpListener::bind(("127.0.0.1", options.port)) {
        bail!(
            "port {} cannot be used ({error}); --port names another",
            options.port
        );
    }
    let payload = Payload::new(workspace, &options.command)?;
    let qemu = provision::ensure(workspace)?;
    let kernel = run::kernel(workspace, &options.machine)?;
    let archive = workspace.scratch()?.join("gdb.cpio");
    write_atomically(&archive, &payload.initrd(&[])?)?;
    let device = format!("tcp:127.0.0.1:{}", options.port);
    let machine = run::machine(&kernel, &options.machine, payload.is_tour())?;
    let machine = machine
        .initrd(&archive)
        .gdb(&device)
        .with_tree(&qemu.path)?;
    let mut command = machine.command(&qemu.path);
    let arguments = arguments(&kernel, options.port);
    let Some(debugger) = DEBUGGERS
        .into_iter()
        .find(|debugger| knows_aarch64(debugger))
    else {
        let mut by_hand = Command::new("gdb-multiarch");
        by_hand.args(&arguments);
        ui::say(&format!(
            "no gdb here knows AArch64; install gdb-multiarch, or from elsewhere:\n{}\n\
             The machine waits; Ctrl-C stops it.",
            xtask::shell::line(&by_hand)
        ));
        let status = command.status().context("cannot start QEMU")?;
        return Ok(status
            .code()
            .map_or(xtask::ending::status::EMULATOR, |code| code as u8));
    };
    let console = workspace.scratch()?.join("gdb-console.log");
    let log = File::create(&console).context("cannot write the console's log")?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut machine = Stopped(command.spawn().context("cannot start QEMU")?);
    machine.wait_until_listening(options.port, &console)?;
    ui::say(&format!(
        "the machine's console is in {}",
        console.display()
    ));
    // gdb makes Ctrl-C its own; without this, it would end us and the machine under it.
    let _interrupts = run::interrupt_flag();
    let status = Command::new(debugger)
        .args(&arguments)
        .status()
        .context("cannot start gdb")?;
    Ok(status.code().unwrap_or(1) as u8)
}

fn arguments(kernel: &Kernel, port: u16) -> Vec<String> {
    let elf = kernel.elf.as_deref().map(|elf| elf.display().to_string());
    let remote = format!("target remote 127.0.0.1:{port}");
    elf.into_iter()
        .chain(["-q", "-ex", &remote].map(str::to_owned))
        .collect()
}

fn knows_aarch64(debugger: &str) -> bool {
    let question = ["-nx", "-batch", "-ex", "set architecture aarch64"].map(OsStr::new);
    let output = Command::new(debugger)
        .args(question)
        .stdin(Stdio::null())
        .output();
    output.is_ok_and(|output| {
        output.status.success()
            && !String::from_utf8_lossy(&output.stderr).contains("ndefined item")
    })
}

/// A QEMU that ends with us.
struct Stopped(Child);

impl Stopped {
    /// QEMU needs a moment until its port is open. The connection itself is left to gdb: QEMU
    /// serves one debugger only, so the port is looked up, not tried.
    fn wait_until_listening(&mut self, port: u16, console: &Path) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end && !is_listening(port) {
            if self.0.try_wait()?.is_some() {
                let said = fs::read_to_string(console).unwrap_or_default();
                bail!("QEMU did not start: {}", said.trim());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// Whether a socket listens on the port, as the system tells; where it does not tell, true after
/// the time that starting takes.
fn is_listening(port: u16) -> bool {
    let Ok(table) = fs::read_to_string("/proc/net/tcp") else {
        std::thread::sleep(Duration::from_secs(1));
        return true;
    };
    let wanted = format!(":{port:04X}");
    let listening = |line: &str| {
        let mut words = line.split_whitespace();
        let local = words.nth(1).is_some_and(|local| local.ends_with(&wanted));
        local && words.nth(1) == Some("0A")
    };
    table.lines().any(listening)
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Both fail only if it has already gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_port_is_seen_and_a_closed_one_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_listening(port));
        drop(listener);
        assert!(!is_listening(port) || !Path::new("/proc/net/tcp").exists());
    }
}
