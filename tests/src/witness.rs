//! Answers the kernel's snapshots: while the guest waits, the independent reader judges its RAM.

use std::path::PathBuf;

use anyhow::{Context, Result};
use xtask::guest::{Guest, Piece};

use crate::outcome::Outcome;
use crate::reader::memory::RamFile;
use crate::reader::{Inspection, Rule, Snapshot, inspect};
use crate::runner::Watcher;

/// Where RAM starts on QEMU's `virt` machine.
const RAM_BASE: u64 = 0x4000_0000;

/// Reads at each `snapshot` line, then lets the guest go on.
#[derive(Debug)]
pub struct Witness {
    ram: PathBuf,
    found: Vec<Result<Inspection, String>>,
}

impl Witness {
    /// A witness of the RAM in this file.
    pub fn new(ram: PathBuf) -> Self {
        Self {
            ram,
            found: Vec::new(),
        }
    }

    /// Passes when there was a snapshot and each was in order.
    pub fn judge(&self) -> Outcome {
        if self.found.is_empty() {
            return Outcome::Fail("the kernel never stopped for the reader".into());
        }
        for found in &self.found {
            match found {
                Err(error) => return Outcome::Fail(error.clone()),
                Ok(found) if !found.violations.is_empty() => {
                    return Outcome::Fail(format!("the reader found laws broken: {found}"));
                }
                // A program that has run has tables, and the kernel has its own.
                Ok(found) if found.tables < 4 || found.user_mappings == 0 => {
                    return Outcome::Fail(format!("the reader saw next to nothing: {found}"));
                }
                Ok(_) => {}
            }
        }
        Outcome::Pass
    }

    /// The laws that the readings found broken, for programs that break one on purpose.
    pub fn broken(&self) -> Vec<Rule> {
        let found = self.found.iter().flatten();
        found
            .flat_map(|found| found.violations.iter().map(|violation| violation.rule))
            .collect()
    }

    /// What the readings found, for the log.
    pub fn summary(&self) -> String {
        let lines: Vec<_> = self
            .found
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        lines.concat()
    }
}

impl Watcher for Witness {
    fn piece(&mut self, guest: &mut Guest, piece: &Piece) -> Result<()> {
        let Piece::Control(line) = piece else {
            return Ok(());
        };
        if line.event() != "snapshot" {
            return Ok(());
        }
        let found = match Snapshot::parse(line.fields()) {
            Err(error) => Err(format!("{error}: {}", line.rest())),
            Ok(snapshot) => {
                let ram = RamFile::open(&self.ram, RAM_BASE).context("cannot open guest RAM")?;
                Ok(inspect(&ram, &snapshot))
            }
        };
        self.found.push(found);
        // A guest that has ended meanwhile is the judge's business.
        let _ = guest.send(b"\n");
        Ok(())
    }
}
