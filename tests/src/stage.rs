//! Sets up one boot of the kernel with one program, and judges how it ended.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xtask::initrd::Initrd;
use xtask::machine::Machine;

use crate::env;
use crate::matrix::Cell;
use crate::outcome::{self, Ending, Outcome};
use crate::runner::{Boot, Booted, Limits, Listener, file_name};
use crate::witness::Witness;

/// A boot to come. Files it needs live in a folder that is left only if the test fails, so that the
/// command in its message works.
pub struct Stage {
    name: String,
    machine: Machine,
    initrd: Initrd,
    limits: Limits,
    witness: Option<Witness>,
    folder: PathBuf,
}

impl Stage {
    /// The shipped kernel on this machine, functional: under icount.
    ///
    /// # Errors
    /// The environment is incomplete, or no folder can be made.
    pub fn new(name: &str, cell: Cell, args: &[&str], program: &[u8]) -> Result<Self> {
        Ok(Self {
            name: name.into(),
            machine: cell.machine(&env::kernel_image()?, true),
            initrd: Initrd::with_env(args, &["LANG=C", "TESSERA=yes"], program),
            limits: Limits::FUNCTIONAL,
            witness: None,
            folder: folder(name)?,
        })
    }

    /// The same for a program of `user/programs`; `args[0]` is its name.
    ///
    /// # Errors
    /// See [`Stage::new`]; also when there is no such program.
    pub fn program(name: &str, cell: Cell, args: &[&str]) -> Result<Self> {
        let path = env::program(args.first().copied().unwrap_or_default())?;
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::new(name, cell, args, &bytes)
    }

    /// Changes the machine.
    #[must_use]
    pub fn machine(mut self, change: impl FnOnce(Machine) -> Machine) -> Self {
        self.machine = change(self.machine);
        self
    }

    /// Changes the initial RAM disk.
    #[must_use]
    pub fn initrd(mut self, change: impl FnOnce(Initrd) -> Initrd) -> Self {
        self.initrd = change(self.initrd);
        self
    }

    /// Runs the CPUs in parallel, with the limits of stress tests.
    #[must_use]
    pub fn parallel(mut self) -> Self {
        self.machine = self.machine.icount(false);
        self.limits = Limits::STRESS;
        self
    }

    /// Other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Has the independent reader judge guest memory when the program has ended.
    #[must_use]
    pub fn witnessed(mut self) -> Self {
        let ram = self.folder.join("ram");
        self.machine = self.machine.ram_file(&ram).bootarg("tessera.snapshot=exit");
        self.witness = Some(Witness::new(ram));
        self
    }

    /// [`Stage::witnessed`] on a condition.
    #[must_use]
    pub fn witnessed_if(self, condition: bool) -> Self {
        if condition { self.witnessed() } else { self }
    }

    /// A path for a file of this boot.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Boots.
    ///
    /// # Errors
    /// The harness itself failed; what the kernel did is in the result.
    pub fn run(self) -> Result<Played> {
        self.run_with(&mut Listener)
    }

    /// Boots with a watcher of one's own; a witness takes its place.
    ///
    /// # Errors
    /// See [`Stage::run`].
    pub fn run_with(mut self, watcher: &mut dyn crate::runner::Watcher) -> Result<Played> {
        let initrd = self.file("initrd");
        fs::write(&initrd, self.initrd.archive()).context("cannot write the initrd")?;
        let boot = Boot::new(&self.name, self.machine.initrd(&initrd), self.limits);
        let booted = match &mut self.witness {
            Some(witness) => boot.run(witness)?,
            None => boot.run(watcher)?,
        };
        // It is as large as the machine's RAM, and QEMU makes it when it is missing.
        let _ = fs::remove_file(self.folder.join("ram"));
        Ok(Played {
            booted,
            witness: self.witness,
            folder: self.folder,
        })
    }
}

/// A boot that has been.
#[derive(Debug)]
pub struct Played {
    /// What is known about it.
    pub booted: Booted,
    /// What the reader saw, if it was there.
    pub witness: Option<Witness>,
    folder: PathBuf,
}

impl Played {
    /// Judges the program's end and, if there is one, what the witness saw; then `more`.
    ///
    /// # Errors
    /// Everything that is not as expected.
    pub fn expect(
        &self,
        ending: Ending,
        more: impl FnOnce(&Booted) -> Result<(), String>,
    ) -> Result<()> {
        let mut outcome = outcome::program(&self.booted.ended, ending);
        if outcome == Outcome::Pass
            && let Some(witness) = &self.witness
        {
            outcome = witness.judge();
        }
        if outcome == Outcome::Pass
            && let Err(why) = more(&self.booted)
        {
            outcome = Outcome::Fail(why);
        }
        self.verdict(outcome)
    }

    /// Turns a verdict into the result of a test; see [`Booted::verdict`].
    ///
    /// # Errors
    /// Every outcome but [`Outcome::Pass`].
    pub fn verdict(&self, outcome: Outcome) -> Result<()> {
        self.booted.verdict(outcome)?;
        clear(&self.folder);
        Ok(())
    }
}

/// An empty folder for the files of a boot.
///
/// # Errors
/// It cannot be made.
pub fn folder(test: &str) -> Result<PathBuf> {
    let folder = env::out()?.join("files").join(file_name(test));
    clear(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Removes a folder of [`folder`]'s.
pub fn clear(folder: &Path) {
    // One that is not there need not be removed, and one that stays does no harm.
    let _ = fs::remove_dir_all(folder);
}
