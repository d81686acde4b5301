//! `cargo xtask qemu`: boots the kernel, runs a program, and says how it ended.

use std::io::{ErrorKind, IsTerminal, Read, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use xtask::control::token;
use xtask::ending::{Ending, Stop, status};
use xtask::guest::{Guest, Limits, Piece, Run};
use xtask::initrd::Initrd;
use xtask::machine::{Machine, TagStorage};
use xtask::trace::Trace;

use crate::artifacts::{self, Kernel};
use crate::cli::{self, Level, Qemu, Stats};
use crate::failure::failure;
use crate::output::Output;
use crate::terminal::Unbuffered;
use crate::workspace::{Workspace, write_atomically};
use crate::{provision, stats, symbolize, ui};

/// How long a kernel may take to its first EL0 instruction: a hundred times what it needs, for
/// machines under load.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// CPUs by default where they run side by side.
pub const CPUS: u32 = 4;

/// A program with its arguments; the tour is one with further programs for the prompt.
pub struct Payload {
    args: Vec<String>,
    file: PathBuf,
    bins: Vec<(String, PathBuf)>,
    is_tour: bool,
}

/// A run that is over, and the kernel that ran.
pub struct Done {
    /// How it went.
    pub run: Run,
    kernel: Kernel,
}

/// Runs the command and returns the exit status.
///
/// # Errors
/// Anything that keeps the machine from being started.
pub fn run(workspace: &Workspace, options: &Qemu) -> Result<u8> {
    match boot(workspace, options)? {
        Some(done) => tell(&done, options),
        None => Ok(0),
    }
}

/// Boots the machine that the options describe and follows it to its end. None if the command was
/// only to be printed.
///
/// # Errors
/// Anything that keeps the machine from being started.
pub fn boot(workspace: &Workspace, options: &Qemu) -> Result<Option<Done>> {
    let interactive = stdin().is_terminal() && stdout().is_terminal();
    if let Some(Stats::JsonFile(file)) = &options.stats {
        Output::open(file)?;
    }
    let payload = Payload::new(workspace, &options.command)?;
    let qemu = provision::ensure(workspace)?;
    let kernel = kernel(workspace, &options.machine)?;
    let prompt = payload.is_tour && interactive;
    let mut machine = machine(&kernel, &options.machine, payload.is_tour)?;
    if prompt {
        machine = machine.bootarg("tessera.prompt=1");
    }
    if let Some(port) = options.gdb {
        machine = machine.gdb(&format!("tcp:127.0.0.1:{port}"));
    }
    if let Some(categories) = options.trace {
        machine = machine.bootarg(format!("tessera.trace={categories}"));
    }
    if let Some(file) = &options.snapshot {
        machine = machine.ram_file(std::path::absolute(file)?);
    }
    let archive = payload.initrd(&options.env)?;
    if options.print {
        let file = workspace
            .scratch()?
            .join("print")
            .join(payload.archive_name());
        write_atomically(&file, &archive)?;
        println!(
            "{}",
            xtask::shell::line(
                &machine
                    .initrd(file)
                    .with_tree(&qemu.path)?
                    .command(&qemu.path)
            )
        );
        return Ok(None);
    }
    let dir = tempfile::Builder::new()
        .prefix("run-")
        .tempdir_in(workspace.scratch()?)?;
    let initrd = dir.path().join("initrd.cpio");
    std::fs::write(&initrd, archive).context("cannot write the initial RAM disk")?;
    let machine = machine.initrd(initrd).token(&token());
    announce(options, &kernel, interactive);
    let terminal = prompt.then(Unbuffered::new).flatten();
    let run = follow(&machine, &qemu.path, &limits(options, interactive))?;
    drop(terminal);
    Ok(Some(Done { run, kernel }))
}

/// The kernel that the options ask for, built if need be.
///
/// # Errors
/// The build fails, or the given file is no kernel.
pub fn kernel(workspace: &Workspace, options: &cli::Machine) -> Result<Kernel> {
    match &options.kernel {
        Some(file) => artifacts::foreign_kernel(file),
        None if options.checked => artifacts::kernel(workspace, "checked"),
        None => artifacts::kernel(workspace, "kernel"),
    }
}

/// The machine that the options ask for. The tour counts instructions unless it was given several
/// CPUs.
///
/// # Errors
/// The device tree cannot be read.
pub fn machine(kernel: &Kernel, options: &cli::Machine, is_tour: bool) -> Result<Machine> {
    let icount = options.icount || (is_tour && options.smp.is_none_or(|cpus| cpus == 1));
    let cpus = options.smp.unwrap_or(if icount { 1 } else { CPUS });
    let mut machine = Machine::new(&kernel.image)
        .cpu(&options.cpu)
        .smp(cpus)
        .memory(&options.memory)
        .icount(icount);
    if options.no_mte {
        machine = machine.mte(false);
    }
    machine = machine.tag_storage(options.tag_storage.unwrap_or(TagStorage::Enough));
    if let Some(seed) = options.seed {
        machine = machine.seed(seed);
    }
    if let Some(file) = &options.dtb {
        std::fs::File::open(file).map_err(|error| {
            failure(
                status::USAGE,
                format!("cannot read {}: {error}", file.display()),
            )
        })?;
        machine = machine.dtb(std::path::absolute(file)?);
    }
    if let Some(level) = options.log {
        machine = machine.bootarg(format!("tessera.log={}", level_word(level)));
    }
    Ok(options.bootarg.iter().fold(machine, Machine::bootarg))
}

fn level_word(level: Level) -> String {
    format!("{level:?}").to_lowercase()
}

impl Payload {
    /// The program named by the command line: a file, one of our own programs by name, or the tour.
    ///
    /// # Errors
    /// The file is missing or cannot be read (127), or a build fails.
    pub fn new(workspace: &Workspace, command: &[String]) -> Result<Self> {
        let Some(program) = command.first() else {
            return Self::tour(workspace);
        };
        let mut own = Own::new(workspace);
        let file = own.find(program)?.unwrap_or_else(|| program.into());
        let is_server = artifacts::package_of(workspace, program) == Some("servers");
        let mut bins = Vec::new();
        // What a server starts, or serves, has to be in the archive.
        for name in command[1..].iter().filter(|_| is_server) {
            match own.find(name)? {
                Some(file) => bins.push((name.clone(), file)),
                None if Path::new(name).is_file() => bins.push((name.clone(), name.into())),
                None => {}
            }
        }
        Ok(Self {
            args: command.to_vec(),
            file,
            bins,
            is_tour: false,
        })
    }

    fn tour(workspace: &Workspace) -> Result<Self> {
        let mut bins = artifacts::programs(workspace, &["tour", "programs"])?;
        let index = bins.iter().position(|(name, _)| name == "tour");
        let (name, file) = bins.swap_remove(index.context("cargo built no tour")?);
        bins.sort();
        Ok(Self {
            args: vec![name],
            file,
            bins,
            is_tour: true,
        })
    }

    /// Whether no program was named.
    pub fn is_tour(&self) -> bool {
        self.is_tour
    }

    /// The archive that carries it all.
    ///
    /// # Errors
    /// A file cannot be read: 127 for the program.
    pub fn initrd(&self, env: &[String]) -> Result<Vec<u8>> {
        let program = std::fs::read(&self.file).map_err(|error| {
            let reason = match error.kind() {
                ErrorKind::NotFound => "no such file".to_owned(),
                ErrorKind::IsADirectory => "it is a directory".to_owned(),
                _ => error.to_string(),
            };
            failure(
                status::NOT_FOUND,
                format!("cannot read {}: {reason}", self.args[0]),
            )
        })?;
        let mut initrd = Initrd::with_env(&self.args, env, &program);
        for (name, file) in &self.bins {
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
            initrd = initrd.bin(name, bytes);
        }
        Ok(initrd.archive())
    }

    fn archive_name(&self) -> String {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        format!("{name}.cpio")
    }
}

/// Our own programs by name, built when the first one is asked for.
struct Own<'a> {
    workspace: &'a Workspace,
    built: Option<Vec<(String, PathBuf)>>,
}

impl<'a> Own<'a> {
    const fn new(workspace: &'a Workspace) -> Self {
        Self {
            workspace,
            built: None,
        }
    }

    /// The program of this name, unless there is a file that is called so.
    fn find(&mut self, name: &str) -> Result<Option<PathBuf>> {
        if Path::new(name).exists() || artifacts::package_of(self.workspace, name).is_none() {
            return Ok(None);
        }
        let built = match self.built.take() {
            Some(built) => built,
            None => artifacts::programs(self.workspace, &artifacts::OWN)?,
        };
        let found = built.iter().find(|(bin, _)| bin == name);
        let found = found.map(|(_, file)| file.clone());
        self.built = Some(built);
        found
            .map(Some)
            .with_context(|| format!("cargo built no program {name}"))
    }
}

/// What a person should know before the machine starts: how to leave it, how to attach.
fn announce(options: &Qemu, kernel: &Kernel, interactive: bool) {
    if interactive {
        ui::say("Ctrl-C stops the machine");
    }
    if let Some(port) = options.gdb {
        let elf = kernel
            .elf
            .as_ref()
            .map_or_else(String::new, |elf| format!("{} ", elf.display()));
        ui::say(&format!(
            "waiting for a debugger: gdb-multiarch {elf}-ex 'target remote 127.0.0.1:{port}'"
        ));
    }
}

fn limits(options: &Qemu, interactive: bool) -> Limits {
    let total = options
        .timeout
        .filter(|secs| *secs > 0.0)
        .map(Duration::from_secs_f64);
    let patient = options.timeout.is_some() || options.gdb.is_some();
    Limits {
        boot: (!patient).then_some(BOOT_LIMIT),
        total,
        interrupt: Some(interrupt_flag()),
        interactive,
    }
}

/// A flag that Ctrl-C, SIGTERM and SIGHUP set.
pub fn interrupt_flag() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    // It fails only when a handler is installed twice, and we install one.
    let _ = ctrlc::set_handler(move || set.store(true, Ordering::Relaxed));
    flag
}

/// Runs the machine with its console on our standard input and output.
fn follow(machine: &Machine, qemu: &Path, limits: &Limits) -> Result<Run> {
    let mut guest = Guest::spawn(machine, qemu, None)?;
    let mut input = guest.take_input();
    let mut output = Some(stdout());
    guest.run(limits, |guest, piece| {
        // Before the kernel has set its console up, what is typed would be lost.
        if matches!(piece, Piece::Control(_))
            && let Some(input) = input.take()
        {
            std::thread::spawn(move || forward_input(input));
        }
        if let (Piece::Output(bytes), Some(to)) = (piece, output.as_mut())
            && to.write_all(bytes).and_then(|()| to.flush()).is_err()
        {
            // Nobody reads any more (`| head`): end as a program killed by SIGPIPE would.
            output = None;
            guest.stop();
            return Err(failure(128 + 13, "standard output is closed; stopped"));
        }
        Ok(())
    })
}

/// Types our standard input on the machine's console. The end of input is typed as Ctrl-D, the
/// terminal's own sign for it.
fn forward_input(mut input: ChildStdin) {
    let mut buffer = [0; 4096];
    let mut from = stdin().lock();
    loop {
        match from.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(count) if count > 0 => {
                if input.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            _ => break,
        }
    }
    // QEMU must not see the pipe close before the program has read it all; dropping it when the
    // machine ends is soon enough.
    let _ = input.write_all(b"\x04");
    std::thread::park();
}

/// Says how it ended and returns the exit status.
///
/// # Errors
/// What was asked for cannot be written.
pub fn tell(Done { run, kernel }: &Done, options: &Qemu) -> Result<u8> {
    if !run.ending.is_ordinary() {
        // Our message must not begin in the middle of the program's line on a terminal.
        if stdout().is_terminal() && !matches!(run.tail.last(), None | Some(b'\n')) {
            println!();
        }
        ui::say(&run.ending.to_string());
        explain(run, kernel, options);
    }
    // The tour asks for a call that does not exist, on purpose.
    if !options.command.is_empty() {
        show_unknown_calls(run);
    }
    if options.trace.is_some() {
        show_trace(run);
    }
    show_stats(run, options.stats.as_ref())?;
    Ok(run.ending.status())
}

fn explain(run: &Run, kernel: &Kernel, options: &Qemu) {
    match &run.ending {
        Ending::Bug { backtrace, .. } if !backtrace.is_empty() => {
            let text = symbolize::backtrace(kernel.elf.as_deref(), backtrace);
            ui::say(&format!("backtrace, innermost first:\n{text}"));
        }
        Ending::Stopped(Stop::BootTimeOut(_) | Stop::TimeOut(_)) => {
            let now = options
                .timeout
                .map_or_else(String::new, |secs| format!(" (now {secs})"));
            ui::say(&format!(
                "`--timeout SECS` sets the limit{now}; 0 means none"
            ));
            show_tail(run);
        }
        Ending::Emulator { .. } | Ending::Silent { .. } | Ending::Refused { .. } => show_tail(run),
        _ => {}
    }
    if !run.complaints.is_empty() {
        ui::say(&format!("QEMU said:\n{}", run.complaints.trim_end()));
    }
}

/// The last lines of the console, where they did not just scroll by on the same terminal.
fn show_tail(run: &Run) {
    if stdout().is_terminal() {
        return;
    }
    let text = String::from_utf8_lossy(&run.tail);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(10)..];
    if last.is_empty() {
        ui::say("the console stayed empty");
    } else {
        ui::say(&format!("last on the console:\n{}", last.join("\n")));
    }
}

/// Calls that the kernel does not know explain many a program that fails.
fn show_unknown_calls(run: &Run) {
    let calls = run.lines.iter().filter(|line| line.event() == "unknown");
    let calls: Vec<String> = calls
        .map(|line| {
            let get = |key| line.get(key).unwrap_or("?");
            format!("{} ({}) ×{}", get("name"), get("number"), get("count"))
        })
        .collect();
    if !calls.is_empty() {
        ui::say(&format!(
            "system calls not known here, answered ENOSYS: {}",
            calls.join(", ")
        ));
    }
}

fn show_trace(run: &Run) {
    match Trace::of(&run.lines) {
        Ok(trace) => ui::say(&format!("what happened:\n{}", trace.table().trim_end())),
        Err(why) => ui::say(&format!("the trace cannot be read: {why}")),
    }
}

fn show_stats(run: &Run, form: Option<&Stats>) -> Result<()> {
    let Some(form) = form else { return Ok(()) };
    let Some(json) = run.line("stats").and_then(|line| line.get("json")) else {
        ui::say("the kernel gave no statistics");
        return Ok(());
    };
    match (form, serde_json::from_str(json)) {
        (Stats::Json, _) => {
            // A program whose last line has no newline must not spoil the JSON line.
            let lead = if matches!(run.tail.last(), None | Some(b'\n')) {
                ""
            } else {
                "\n"
            };
            writeln!(stdout(), "{lead}{json}")?;
        }
        (Stats::JsonFile(file), _) => Output::open(file)?.write(format!("{json}\n").as_bytes())?,
        (Stats::Table, Ok(value)) => ui::say(&format!(
            "what it cost:\n{}",
            stats::table(&value).trim_end()
        )),
        (Stats::Table, Err(error)) => ui::say(&format!("unreadable statistics ({error}): {json}")),
    }
    Ok(())
}
