//! The command line. The comments on the fields are the help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mm::trace::Categories;

/// Builds, boots and checks Tessera.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
pub struct Cli {
    #[command(subcommand)]
    pub task: Task,
}

#[derive(Debug, Subcommand)]
pub enum Task {
    /// Boot the kernel in QEMU and run a program, or the tour
    Qemu(Box<Qemu>),
    /// Run a program with everything watched, and write a page of HTML about it
    Report(Box<Report>),
    /// Run the tests: host, model checker, booted kernel
    Test(Test),
    /// Plant faults and see that tests notice each of them
    Mutants(Mutants),
    /// Run host tests under Miri, which finds undefined behaviour
    Miri(Miri),
    /// Count the instructions that operations of the kernel take
    Bench(Bench),
    /// Everything a commit must pass: format, lints, docs, tests
    Ci(Ci),
    /// Write the pages of docs that are made from the code
    Docs,
    /// Boot the kernel stopped and attach gdb to it
    Gdb(Box<Gdb>),
    /// Show what this machine has, and fetch what is missing
    Setup(Setup),
    /// Record on Linux what the program `verbs` sees of the memory calls
    RecordLinux(RecordLinux),
}

/// Boot the kernel in QEMU and run a program, or the tour.
///
/// The program's output goes to standard output byte for byte, standard input is typed on the
/// machine's console, and everything else is said on standard error. The exit status is the
/// program's own, 128+n if signal n ended it, or one of those listed below.
#[derive(Args, Clone, Debug)]
#[command(
    override_usage = "cargo xtask qemu [OPTIONS] [-- PROGRAM [ARGS]...]",
    after_long_help = "\
Exit status, where it is not the program's:
    2  wrong use, or QEMU or a Rust target is missing and cannot be had
   70  a bug in the kernel (its report and backtrace are on standard error)
   71  QEMU refused its options, crashed or was killed
   72  the machine ended without saying why (a reset)
   78  the kernel refuses this machine (no memory, bad device tree)
  101  the build failed
  124  time-out
  126  the kernel cannot execute the program (not static, wrong machine, damaged, …)
  127  the program file is missing or cannot be read
  130  interrupted

Environment:
  QEMU   the qemu-system-aarch64 to use (8.0 or newer)"
)]
pub struct Qemu {
    #[command(flatten)]
    pub machine: Machine,
    /// Wait for a debugger at 127.0.0.1:PORT before the first instruction [default port: 1234]
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true,
          default_missing_value = "1234")]
    pub gdb: Option<u16>,
    /// Stop the machine after this many seconds, 0 for never. By default the kernel has 60 seconds
    /// to start the program, and the program as long as it likes
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub timeout: Option<f64>,
    /// Show what the run cost when it ends: a table on standard error, or `--stats=json` for one
    /// line of JSON as the last line of standard output, or `--stats=json:FILE` for that line in a
    /// file (docs/counters.md says what the keys mean)
    #[arg(long, value_name = "FORM", num_args = 0..=1, require_equals = true,
          default_missing_value = "table", value_parser = stats)]
    pub stats: Option<Stats>,
    /// Trace these categories of events, with commas between them, and show them on standard error
    /// when the run has ended: fault, map, zap, fold, around, cow, object, flush, tables, sched,
    /// syscall, or all
    #[arg(long, value_name = "CATEGORIES", value_parser = categories)]
    pub trace: Option<Categories>,
    /// Print the QEMU command, ready for pasting into a shell, and do not run it
    #[arg(long)]
    pub print: bool,
    /// Keep guest RAM in this file while the machine runs, for a reader on the host
    #[arg(long, value_name = "FILE")]
    pub snapshot: Option<PathBuf>,
    /// Environment of the program (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub env: Vec<String>,
    /// A static AArch64 Linux program, or the name of one in user/programs; then its arguments.
    /// Without a program the tour runs, counting instructions, with one CPU
    #[arg(last = true, value_name = "PROGRAM")]
    pub command: Vec<String>,
}

/// Run a program with everything watched, and write a page of HTML about it.
///
/// The page needs no network and no script: the address space drawn, faults over time, contiguous
/// blocks, what faults cost, tables, all counters. Instructions are counted, on one CPU, unless
/// --smp says otherwise. Output and exit status are the program's, as with `cargo xtask qemu`.
#[derive(Args, Debug)]
#[command(override_usage = "cargo xtask report [--out FILE] [QEMU OPTIONS] -- PROGRAM [ARGS]...")]
pub struct Report {
    /// Where to write the page
    #[arg(long, value_name = "FILE", default_value = "tessera-report.html")]
    pub out: PathBuf,
    /// Events that each CPU keeps: older ones are overwritten
    #[arg(long, value_name = "N", default_value_t = 32768,
          value_parser = clap::value_parser!(u32).range(16..=1 << 20))]
    pub events: u32,
    #[command(flatten)]
    pub qemu: Qemu,
}

/// The machine to boot.
#[derive(Args, Clone, Debug)]
pub struct Machine {
    /// CPU model, as QEMU names them; models with memory tagging get it turned on
    #[arg(long, value_name = "MODEL", default_value = "max")]
    pub cpu: String,
    /// Number of CPUs [default: 4; 1 with --icount and for the tour]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=123))]
    pub smp: Option<u32>,
    /// RAM, as QEMU writes sizes
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = memory)]
    pub memory: String,
    /// Make virtual time count instructions: runs are reproducible and costs exact
    #[arg(long)]
    pub icount: bool,
    /// Do not turn memory tagging on
    #[arg(long)]
    pub no_mte: bool,
    /// Tag storage that the device tree describes: a size, or `none` [default: a thirty-second of RAM
    /// where there is MTE]. The kernel refuses, with a word, what does not fit RAM
    #[arg(long, value_name = "SIZE", value_parser = xtask::machine::TagStorage::parse)]
    pub tag_storage: Option<xtask::machine::TagStorage>,
    /// What the kernel logs on the console
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<Level>,
    /// A word for the kernel's command line (repeatable)
    #[arg(long, value_name = "WORD", value_parser = bootarg)]
    pub bootarg: Vec<String>,
    /// A device tree blob instead of the one QEMU makes (compact: see docs/caveats.md)
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
    /// Boot this Image or ELF instead of building the kernel
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Boot the kernel with all assertions and lock-order checks
    #[arg(long, conflicts_with = "kernel")]
    pub checked: bool,
    /// Seed of QEMU's random numbers, and of those the device tree carries [default: random; 1
    /// with --icount]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Run the tests: host, model checker, booted kernel.
///
/// Ends on a line `N passed, N failed` over all tiers; the status is 1 if anything failed.
#[derive(Args, Clone, Debug, Default)]
pub struct Test {
    /// Only tests whose name contains this
    pub name: Option<String>,
    /// List the tests instead of running them
    #[arg(long)]
    pub list: bool,
    /// Also the long ones: more seeds, all CPU models
    #[arg(long)]
    pub full: bool,
}

/// Plant faults and see that tests notice each of them.
///
/// A fault is a place in the sources where a build with the feature `planted` can be told to do the
/// wrong thing (kernel/sync/src/planted.rs lists them). tests/mutants.txt names a test for each: it
/// must pass without the fault and fail with it. The status is 1 if a fault survives, has no test,
/// or the table is wrong. The builds have target directories of their own.
#[derive(Args, Clone, Debug, Default)]
pub struct Mutants {
    /// Only these faults
    pub names: Vec<String>,
    /// List the faults and their tests instead of planting them
    #[arg(long)]
    pub list: bool,
    /// Another table than tests/mutants.txt
    #[arg(long, value_name = "FILE")]
    pub table: Option<PathBuf>,
}

/// Run host tests under Miri, which finds undefined behaviour.
///
/// With strict provenance and the sizes that tests choose for Miri. It needs a nightly toolchain
/// with the component miri; what is missing is installed with rustup, and where that cannot be
/// done the status is 2.
#[derive(Args, Clone, Debug, Default)]
pub struct Miri {
    /// Only tests whose name contains this
    pub name: Option<String>,
}

/// Count the instructions that operations of the kernel take.
///
/// The measuring code runs in a kernel built for it, on one neoverse-n2 whose instructions QEMU
/// counts, so that two runs give the same figures. They are compared with those in tests/bench: the
/// status is 1 if one has become more than 3 % worse.
#[derive(Args, Clone, Debug)]
pub struct Bench {
    /// Only this group of benchmarks (a file in tests/bench); all without it
    pub name: Option<String>,
    /// Write the figures into tests/bench. The commit that does so has to say why they changed
    #[arg(long)]
    pub update: bool,
    /// Show where the instructions of this row of a program's group go, by function; an annotated
    /// listing goes to target/tessera/profile/ROW.txt
    #[arg(long, value_name = "ROW", requires = "name", conflicts_with = "update")]
    pub profile: Option<String>,
}

/// Everything a commit must pass: format, lints, docs, tests.
#[derive(Args, Debug)]
pub struct Ci {
    /// Also the long tests, benchmarks, all planted faults, and Miri
    #[arg(long)]
    pub full: bool,
}

/// Boot the kernel stopped and attach gdb to it.
///
/// Starts gdb-multiarch (or a gdb that knows aarch64) with the kernel's symbols; without one,
/// prints the commands and waits. The machine's console goes to target/tessera/gdb-console.log.
#[derive(Args, Debug)]
#[command(override_usage = "cargo xtask gdb [OPTIONS] [-- PROGRAM [ARGS]...]")]
pub struct Gdb {
    #[command(flatten)]
    pub machine: Machine,
    /// Port on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 1234)]
    pub port: u16,
    /// The program and its arguments; the tour if none
    #[arg(last = true, value_name = "PROGRAM")]
    pub command: Vec<String>,
}

/// Show what this machine has, and fetch what is missing.
#[derive(Args, Debug)]
pub struct Setup {
    /// Change nothing: only say what is there; status 2 if something is missing
    #[arg(long)]
    pub check: bool,
}

/// Record on Linux what the program `verbs` sees of the memory calls.
///
/// Boots Debian's kernel for arm64 (fetched for this repository, with the system's package tools)
/// in QEMU with the program as its only process, and writes what it prints into tests/data/verbs,
/// one file for each seed. The tests compare Tessera with these files, so they are recorded again
/// only when the program changes, or for another kernel, and then committed.
#[derive(Args, Clone, Debug)]
pub struct RecordLinux {
    /// Calls in each sequence
    #[arg(long, default_value_t = 160)]
    pub count: u32,
    /// Print instead of writing files, with the map after every call
    #[arg(long)]
    pub full: bool,
    /// Seeds
    #[arg(required = true, value_name = "SEED")]
    pub seeds: Vec<u64>,
}

/// Forms of the cost report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stats {
    /// A table for people, on standard error.
    Table,
    /// One line of JSON, on standard output behind the program's own output.
    Json,
    /// One line of JSON, in a file.
    JsonFile(PathBuf),
}

/// Log levels of the kernel.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Level {
    /// Nothing.
    Off,
    /// Errors.
    Error,
    /// Errors and warnings.
    Warn,
    /// And what was found and set up.
    Info,
    /// And decisions.
    Debug,
    /// Everything.
    Trace,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e9).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number of seconds".to_owned()),
    }
}

fn stats(text: &str) -> Result<Stats, String> {
    match text.split_once(':') {
        None if text == "table" => Ok(Stats::Table),
        None if text == "json" => Ok(Stats::Json),
        Some(("json", file)) if !file.is_empty() => Ok(Stats::JsonFile(file.into())),
        _ => Err("expected table, json or json:FILE".to_owned()),
    }
}

fn categories(text: &str) -> Result<Categories, String> {
    xtask::trace::categories(text)
}

/// QEMU reads a bare number as mebibytes.
fn memory(text: &str) -> Result<String, String> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T', 'k', 'm', 'g', 't']);
    let suffix = text.len() - digits.len();
    if suffix <= 1 && digits.parse::<u64>().is_ok_and(|size| size > 0) {
        return Ok(text.to_owned());
    }
    Err("expected a size such as 512M or 2G".to_owned())
}

fn bootarg(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err("expected one word; repeat --bootarg for more".to_owned());
    }
    Ok(text.to_owned())
}

fn assignment(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() && !text.contains('\0') => Ok(text.to_owned()),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_values_are_refused_with_status_two() {
        for words in [
            &["qemu", "--memory", "lots"][..],
            &["qemu", "--memory", "0"],
            &["qemu", "--smp", "0"],
            &["qemu", "--timeout", "soon"],
            &["qemu", "--timeout", "-1"],
            &["qemu", "--bootarg", "two words"],
            &["qemu", "--env", "=x"],
            &["qemu", "--log", "loud"],
            &["qemu", "--stats=xml"],
            &["qemu", "--stats=json:"],
            &["qemu", "--trace", "folt"],
            &["qemu", "--trace", ""],
            &["qemu", "--kernel", "k", "--checked"],
            &["qemu", "program"],
            &["qmeu"],
            &[],
        ] {
            let error = Cli::try_parse_from([&["xtask"], words].concat()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn the_help_names_every_category() {
        let mut cli = Cli::command();
        let qemu = cli.find_subcommand_mut("qemu").unwrap();
        let trace = qemu.get_arguments().find(|arg| arg.get_id() == "trace");
        let help = trace.and_then(clap::Arg::get_help).unwrap().to_string();
        for (_, word) in mm::trace::Category::ALL {
            assert!(help.contains(word), "{word}");
        }
    }

    #[test]
    fn everything_behind_two_dashes_belongs_to_the_program() {
        let words = [
            "xtask",
            "qemu",
            "--stats",
            "--",
            "./prog",
            "--stats=json",
            "--",
            "-x",
        ];
        let Task::Qemu(qemu) = Cli::try_parse_from(words).unwrap().task else {
            panic!()
        };
        assert_eq!(qemu.stats, Some(Stats::Table));
        assert_eq!(qemu.command, ["./prog", "--stats=json", "--", "-x"]);
    }
}
