//! The QEMU command line as a value: one place that knows which options Tessera needs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::tree;

/// CPU models on which QEMU accepts `mte=on`; with any other it ends with a message.
const WITH_MTE: [&str; 4] = ["max", "neoverse-n2", "cortex-a710", "neoverse-v2"];

/// How much tag storage the device tree describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagStorage {
    /// A thirty-second of RAM on a machine with MTE; none on others, and where a tree is given.
    Enough,
    /// None.
    None,
    /// So many bytes: the kernel refuses what does not fit RAM.
    Bytes(u64),
}

impl TagStorage {
    /// `none`, or a size as QEMU writes it.
    ///
    /// # Errors
    /// Neither.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self::None),
            size => Ok(Self::Bytes(tree::bytes(size)?)),
        }
    }
}

/// The seed of QEMU's random numbers where a run must be reproducible and none was asked for. It
/// also decides the seeds that QEMU writes into the device tree, which therefore keeps them.
const ICOUNT_SEED: u64 = 1;

/// A `virt` machine that boots a Tessera image. Paths should be absolute: the command line is
/// printed for pasting and run from other directories.
#[derive(Clone, Debug)]
pub struct Machine {
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    cpu: String,
    smp: u32,
    memory: String,
    mte: Option<bool>,
    icount: bool,
    seed: Option<u64>,
    dtb: Option<PathBuf>,
    tag_storage: TagStorage,
    ram_file: Option<PathBuf>,
    gdb: Option<String>,
    token: Option<String>,
    bootargs: Vec<String>,
    raw: Vec<OsString>,
}

impl Machine {
    /// One CPU of model `max` with MTE and 512 MiB, booting this `Image` (or ELF).
    #[must_use]
    pub fn new(kernel: impl AsRef<Path>) -> Self {
        Self {
            kernel: kernel.as_ref().to_owned(),
            initrd: None,
            cpu: "max".to_owned(),
            smp: 1,
            memory: "512M".to_owned(),
            mte: None,
            icount: false,
            seed: None,
            dtb: None,
            tag_storage: TagStorage::None,
            ram_file: None,
            gdb: None,
            token: None,
            bootargs: Vec::new(),
            raw: Vec::new(),
        }
    }

    /// The initial RAM disk, see [`crate::initrd`].
    #[must_use]
    pub fn initrd(mut self, file: impl AsRef<Path>) -> Self {
        self.initrd = Some(file.as_ref().to_owned());
        self
    }

    /// The CPU model, with QEMU's own `,property=value` suffixes if wanted.
    #[must_use]
    pub fn cpu(mut self, model: &str) -> Self {
        self.cpu = model.to_owned();
        self
    }

    /// The number of CPUs.
    #[must_use]
    pub fn smp(mut self, cpus: u32) -> Self {
        self.smp = cpus;
        self
    }

    /// The size of RAM as QEMU writes it: `512M`, `2G`.
    #[must_use]
    pub fn memory(mut self, size: &str) -> Self {
        self.memory = size.to_owned();
        self
    }

    /// Memory tagging on or off. Default: on where QEMU supports it for the CPU model.
    #[must_use]
    pub fn mte(mut self, on: bool) -> Self {
        self.mte = Some(on);
        self
    }

    /// Virtual time counts instructions (1 ns each), so that a run is reproducible and costs are
    /// instruction counts. Tells the kernel with `tessera.icount=1`.
    #[must_use]
    pub fn icount(mut self, on: bool) -> Self {
        self.icount = on;
        self
    }

    /// The seed of QEMU's own random numbers: MTE's IRG, RNDR, the device tree's `rng-seed`.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// A device tree blob instead of the one QEMU makes.
    #[must_use]
    pub fn dtb(mut self, file: impl AsRef<Path>) -> Self {
        self.dtb = Some(file.as_ref().to_owned());
        self
    }

    /// Tag storage in the device tree. Default: none.
    #[must_use]
    pub fn tag_storage(mut self, storage: TagStorage) -> Self {
        self.tag_storage = storage;
        self
    }

    /// The same machine with the device tree that its tag storage takes; QEMU's own is asked for with
    /// this QEMU.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn with_tree(&self, qemu: &Path) -> Result<Self> {
        let memory = || tree::bytes(&self.memory);
        let storage = match self.tag_storage {
            _ if self.dtb.is_some() => return Ok(self.clone()),
            TagStorage::None => return Ok(self.clone()),
            TagStorage::Enough if !self.has_mte() => return Ok(self.clone()),
            TagStorage::Enough => tree::enough_for(memory()?),
            TagStorage::Bytes(bytes) => bytes,
        };
        let smp = self.smp.to_string();
        let board = self.plain_board();
        let arguments = [
            "-M",
            &board,
            "-cpu",
            &self.cpu,
            "-smp",
            &smp,
            "-m",
            &self.memory,
        ];
        let own = arguments.into_iter().map(str::to_owned);
        let raw = self
            .raw
            .iter()
            .map(|word| word.to_string_lossy().into_owned());
        let arguments: Vec<_> = own.chain(raw).collect();
        let tree = tree::with_tag_storage(qemu, &arguments, memory()?, storage)?;
        Ok(self.clone().dtb(tree))
    }

    /// Keeps guest RAM in this file (shared mapping; offset = physical address − 0x4000_0000), for
    /// a reader on the host. QEMU creates the file; memory and file size are equal.
    #[must_use]
    pub fn ram_file(mut self, file: impl AsRef<Path>) -> Self {
        self.ram_file = Some(file.as_ref().to_owned());
        self
    }

    /// Waits for a debugger before the first instruction, at a QEMU character device
    /// (`tcp:127.0.0.1:1234`, `unix:/path,server=on,wait=off`).
    #[must_use]
    pub fn gdb(mut self, device: &str) -> Self {
        self.gdb = Some(device.to_owned());
        self
    }

    /// Asks the kernel for control lines with this token, see [`crate::control::token`].
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Adds one word to the kernel's command line.
    #[must_use]
    pub fn bootarg(mut self, word: impl Into<String>) -> Self {
        self.bootargs.push(word.into());
        self
    }

    /// Adds one word to QEMU's command line.
    #[must_use]
    pub fn arg(mut self, word: impl Into<OsString>) -> Self {
        self.raw.push(word.into());
        self
    }

    /// The same machine with another kernel.
    #[must_use]
    pub fn other_kernel(self, kernel: impl AsRef<Path>) -> Self {
        Self {
            kernel: kernel.as_ref().to_owned(),
            ..self
        }
    }

    /// The kernel file.
    #[must_use]
    pub fn kernel(&self) -> &Path {
        &self.kernel
    }

    /// The token given, if any.
    #[must_use]
    pub fn given_token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Whether a debugger is waited for, so that no time-out makes sense.
    #[must_use]
    pub fn waits_for_gdb(&self) -> bool {
        self.gdb.is_some()
    }

    /// Whether this machine has MTE: asked for, or else supported by QEMU for the CPU model.
    #[must_use]
    pub fn has_mte(&self) -> bool {
        let model = self.cpu.split(',').next().unwrap_or_default();
        self.mte.unwrap_or(WITH_MTE.contains(&model))
    }

    /// The kernel's command line.
    #[must_use]
    pub fn append(&self) -> String {
        let token = self
            .token
            .as_ref()
            .map(|token| format!("tessera.token={token}"));
        let icount = self.icount.then(|| "tessera.icount=1".to_owned());
        let words = token
            .into_iter()
            .chain(icount)
            .chain(self.bootargs.iter().cloned());
        words.collect::<Vec<_>>().join(" ")
    }

    /// The whole command, with this QEMU. The console is on its standard input and output, and its
    /// exit status is the one that the kernel asks for through semihosting.
    #[must_use]
    pub fn command(&self, qemu: &Path) -> Command {
        let mut command = Command::new(qemu);
        command.args(["-M", &self.board(), "-accel", "tcg", "-cpu", &self.cpu]);
        command.args(["-smp", &self.smp.to_string(), "-m", &self.memory]);
        command.args([
            "-nodefaults",
            "-display",
            "none",
            "-monitor",
            "none",
            "-serial",
            "stdio",
        ]);
        command.args([
            "-no-reboot",
            "-semihosting-config",
            "enable=on,target=native",
        ]);
        if let Some(file) = &self.ram_file {
            let size = &self.memory;
            let mut object = OsString::from(format!(
                "memory-backend-file,id=ram0,size={size},share=on,mem-path="
            ));
            object.push(escape_commas(file));
            command.arg("-object").arg(object);
        }
        if self.icount {
            command.args(["-icount", "shift=0,sleep=off"]);
        }
        if let Some(seed) = self.seed.or(self.icount.then_some(ICOUNT_SEED)) {
            command.args(["-seed", &seed.to_string()]);
        }
        if let Some(device) = &self.gdb {
            command.args(["-S", "-gdb", device]);
        }
        if let Some(file) = &self.dtb {
            command.arg("-dtb").arg(file);
        }
        command.arg("-kernel").arg(&self.kernel);
        if let Some(file) = &self.initrd {
            command.arg("-initrd").arg(file);
        }
        let append = self.append();
        if !append.is_empty() {
            command.args(["-append", &append]);
        }
        command.args(&self.raw);
        command
    }

    fn plain_board(&self) -> String {
        let mut board = "virt,gic-version=3".to_owned();
        if self.has_mte() {
            board.push_str(",mte=on");
        }
        board
    }

    fn board(&self) -> String {
        let mut board = self.plain_board();
        if self.ram_file.is_some() {
            board.push_str(",memory-backend=ram0");
        }
        board
    }
}

/// QEMU reads `,,` in an option value as one comma.
fn escape_commas(file: &Path) -> OsString {
    match file.to_str() {
        Some(text) => text.replace(',', ",,").into(),
        None => file.as_os_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(machine: &Machine) -> String {
        crate::shell::line(&machine.command(Path::new("qemu")))
    }

    #[test]
    fn mte_is_asked_for_only_where_the_cpu_model_has_it() {
        for (cpu, on) in [("max", true), ("max,lpa2=off", true), ("neoverse-n2", true)]
            .into_iter()
            .chain([
                ("cortex-a72", false),
                ("cortex-a76", false),
                ("neoverse-v1", false),
            ])
        {
            let machine = Machine::new("/k").cpu(cpu);
            assert_eq!(text(&machine).contains("mte=on"), on, "{cpu}");
        }
        assert!(!text(&Machine::new("/k").mte(false)).contains("mte"));
    }

    #[test]
    fn a_reproducible_machine_has_a_seed_and_says_so_to_the_kernel() {
        let line = text(
            &Machine::new("/k")
                .icount(true)
                .seed(7)
                .token("ab")
                .bootarg("x=1"),
        );
        assert!(line.contains("-icount shift=0,sleep=off -seed 7"), "{line}");
        assert!(text(&Machine::new("/k").icount(true)).contains(" -seed 1 "));
        assert!(!text(&Machine::new("/k")).contains("-seed"));
        assert!(
            line.ends_with("-append 'tessera.token=ab tessera.icount=1 x=1'"),
            "{line}"
        );
    }

    #[test]
    fn every_file_is_named_and_commas_in_the_ram_file_are_escaped() {
        let machine = Machine::new("/k")
            .initrd("/i")
            .dtb("/d t")
            .ram_file("/r,am")
            .gdb("tcp::1");
        let line = text(&machine);
        for part in [
            "-kernel /k",
            "-initrd /i",
            "-dtb '/d t'",
            "mem-path=/r,,am",
            "-S -gdb tcp::1",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(line.contains("memory-backend=ram0"), "{line}");
    }
}
