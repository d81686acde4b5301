//! T6: the harness against kernels that lie, hang, panic and reboot.
//!
//! One tiny bare-metal program, `tests/liars/liar.rs`, is compiled when the first test needs it.
//! It does what its boot argument says; each test knows which class the harness must put it in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use xtask::guest::{Guest, Piece};
use xtask::machine::Machine;

use crate::make::elf;
use crate::make::fdt::Virt;
use crate::make::shim::{self, TREE};
use crate::outcome::{self, Ended, Ending, Outcome};
use crate::runner::{Boot, Booted, Limits, Listener, Watcher};
use crate::trial;
use crate::witness::Witness;

/// Short limits: nothing here does anything for long.
const LIMITS: Limits = Limits {
    quiet: Duration::from_secs(6),
    total: Duration::from_secs(12),
    bytes: 1 << 20,
};

/// What the harness must say of a liar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Pass,
    Fail,
    Silent,
    Hung,
    Crashed,
    Emulator,
}

/// Liars, the class each belongs to, and words the verdict must contain.
const LIARS: [(&str, Class, &str); 18] = [
    ("honest", Class::Pass, ""),
    ("silent", Class::Silent, "no sign of life"),
    (
        "silent-exit",
        Class::Silent,
        "status 0 without a control line",
    ),
    (
        "silent-off",
        Class::Silent,
        "status 0 without a control line",
    ),
    ("hang", Class::Hung, "in test first"),
    ("spin", Class::Hung, "in test first"),
    ("done-nonzero", Class::Fail, "QEMU ended with status 3"),
    ("ghost", Class::Fail, "name=ghost"),
    ("miscount", Class::Fail, "passed=2"),
    ("unfinished", Class::Crashed, "halted in test first"),
    ("failed-zero", Class::Fail, "status is 0"),
    ("no-halt", Class::Crashed, "without halt"),
    ("halt-and-stay", Class::Hung, "halt status=0"),
    ("panic", Class::Crashed, "table twice"),
    ("panic-success", Class::Crashed, "hidden"),
    ("reset", Class::Crashed, "in test first"),
    ("wrong-token", Class::Silent, "without a control line"),
    ("flood", Class::Hung, "bytes of output"),
];

/// The tests of this tier.
pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<_> = LIARS
        .iter()
        .map(|&(liar, class, words)| {
            let name = format!("t6::{liar}");
            trial(name.clone(), move || {
                let booted = boot(&name, liar, |machine| machine, &mut Listener)?;
                believed(&booted, class, words)
            })
        })
        .collect();
    trials.push(trial("t6::reset_loop".into(), reset_loop));
    trials.push(trial("t6::emulator_killed".into(), emulator_killed));
    trials.push(trial("t6::emulator_refuses".into(), emulator_refuses));
    trials.push(trial(
        "t6::bad_tables_are_seen_in_guest_memory".into(),
        bad_tables,
    ));
    trials.push(trial(
        "t6::a_snapshot_of_nothing_is_no_snapshot".into(),
        bad_snapshot,
    ));
    trials.push(trial(
        "t6::the_shim_passes_the_tree_on".into(),
        tree_arrives,
    ));
    trials.push(trial(
        "t6::a_halted_liar_is_no_program".into(),
        honest_is_no_program,
    ));
    trials
}

/// Boots a liar; `change` may alter the machine.
fn boot(
    name: &str,
    liar: &str,
    change: impl FnOnce(Machine) -> Machine,
    watcher: &mut dyn Watcher,
) -> Result<Booted> {
    let machine = Machine::new(binary()?)
        .memory("128M")
        .token(&xtask::control::token())
        .bootarg(format!("liar={liar}"));
    Boot::new(name, change(machine), LIMITS).run(watcher)
}

/// The harness's verdict on the run is of this class and says these words.
fn believed(booted: &Booted, class: Class, words: &str) -> Result<()> {
    let verdict = outcome::self_tests(&booted.ended);
    if class_of(&verdict) == class && verdict.to_string().contains(words) {
        return Ok(());
    }
    booted.verdict(Outcome::Fail(format!(
        "should be {class:?} ({words}), was taken for: {verdict}"
    )))
}

fn class_of(outcome: &Outcome) -> Class {
    match outcome {
        Outcome::Pass => Class::Pass,
        Outcome::Fail(_) => Class::Fail,
        Outcome::Silent(_) => Class::Silent,
        Outcome::Hung(_) => Class::Hung,
        Outcome::Crashed(_) => Class::Crashed,
        Outcome::Emulator(_) => Class::Emulator,
    }
}

/// A kernel that resets itself for ever, on a machine that lets it.
fn reset_loop() -> Result<()> {
    let reboots = |machine: Machine| machine.arg("-action").arg("reboot=reset");
    let booted = boot("t6::reset_loop", "reset", reboots, &mut Listener)?;
    ensure!(
        booted.ended.all("boot").count() > 1,
        "QEMU did not let it boot again"
    );
    believed(&booted, Class::Crashed, "booted again")
}

/// Kills QEMU as soon as the guest has spoken.
struct Killer;

impl Watcher for Killer {
    fn piece(&mut self, guest: &mut Guest, piece: &Piece) -> Result<()> {
        if matches!(piece, Piece::Control(line) if line.event() == "test-begin") {
            let killed = Command::new("kill")
                .args(["-SEGV", &guest.pid().to_string()])
                .status()?;
            ensure!(killed.success(), "cannot kill QEMU");
        }
        Ok(())
    }
}

fn emulator_killed() -> Result<()> {
    let booted = boot(
        "t6::emulator_killed",
        "hang",
        |machine| machine,
        &mut Killer,
    )?;
    believed(&booted, Class::Emulator, "signal 11 in test first")
}

fn emulator_refuses() -> Result<()> {
    let change = |machine: Machine| machine.cpu("no-such-cpu");
    let booted = boot("t6::emulator_refuses", "honest", change, &mut Listener)?;
    believed(&booted, Class::Emulator, "no-such-cpu")
}

/// What counts as success for self-tests is none for a program: nothing was said about one.
fn honest_is_no_program() -> Result<()> {
    let booted = boot(
        "t6::honest_is_no_program",
        "honest",
        |machine| machine,
        &mut Listener,
    )?;
    let expect_fail = |ended: &Ended| match outcome::program(ended, Ending::Exit(0)) {
        Outcome::Fail(_) => Ok(()),
        other => bail!("was taken for: {other}"),
    };
    expect_fail(&booted.ended)
}

/// Boots a liar with a witness: what the witness says, after the guest has gone on and ended well.
fn witnessed(name: &str, liar: &str) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let ram = folder.path().join("ram");
    let mut witness = Witness::new(ram.clone());
    let booted = boot(name, liar, |machine| machine.ram_file(&ram), &mut witness)?;
    booted.verdict(outcome::program(&booted.ended, Ending::Exit(0)))?;
    Ok(witness.judge())
}

fn bad_tables() -> Result<()> {
    let verdict = witnessed("t6::bad_tables", "snapshot")?;
    let text = verdict.to_string();
    // Root and table without a record, and the mapping itself, found where the guest wrote it.
    for words in [
        "WriteExecute: space 1, level 1, va 0xffff000000000000: 0x40000000",
        "TableUnrecorded",
    ] {
        ensure!(
            text.contains(words),
            "the witness does not say {words}: {text}"
        );
    }
    Ok(())
}

fn bad_snapshot() -> Result<()> {
    let verdict = witnessed("t6::bad_snapshot", "snapshot-of-nothing")?;
    ensure!(
        verdict.to_string().contains("unusable snapshot"),
        "the witness says {verdict}"
    );
    let silent = Witness::new(PathBuf::new()).judge();
    ensure!(
        silent != Outcome::Pass,
        "a witness who saw nothing is content"
    );
    Ok(())
}

/// A kernel of thirteen instructions ends with 0 if x0 points to a device tree, else with 1: the
/// loader that brings odd trees does what it says.
fn tree_arrives() -> Result<()> {
    let code = [
        0xb940_0001, // ldr w1, [x0]
        elf::movz(2, 0x0dd0),
        elf::movk16(2, 0xedfe),
        0x6b02_003f, // cmp w1, w2
        0x1a9f_07e3, // cset w3, ne
        elf::movz(1, 0),
        elf::movk16(1, 0x4500),
        elf::movz(4, 0x26),
        elf::movk16(4, 2),
        0xf900_0024, // str x4, [x1]
        0xf900_0423, // str x3, [x1, #8]
        elf::movz(0, 0x18),
        0xd45e_0000, // hlt #0xf000
    ];
    let folder = tempfile::tempdir()?;
    let (kernel, tree) = (folder.path().join("kernel"), folder.path().join("tree"));
    std::fs::write(&kernel, code.map(u32::to_le_bytes).as_flattened())?;
    for (blob, status) in [
        (Virt::new(1 << 27, String::new(), (0, 0)).blob(), 0),
        (vec![0; 64], 1),
    ] {
        std::fs::write(&tree, blob)?;
        let files = [(TREE, tree.clone())];
        let machine = shim::machine(folder.path(), &kernel, TREE, &files)?;
        let booted = Boot::new("t6::shim", machine, LIMITS).run(&mut Listener)?;
        let ended = booted.ended.status.and_then(|status| status.code());
        ensure!(
            ended == Some(status),
            "status {ended:?} instead of {status}"
        );
    }
    Ok(())
}

/// The compiled liar.
pub(crate) fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = BINARY.get_or_init(|| compile().map_err(|error| format!("{error:#}")));
    made.clone().map_err(anyhow::Error::msg)
}

fn compile() -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/liars");
    let binary = crate::env::out()?.join("liar.elf");
    let script = source.join("liar.ld");
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args([
            "--edition=2024",
            "--target=aarch64-unknown-none-softfloat",
            "-Cpanic=abort",
        ])
        .args(["-Copt-level=1", "-o"])
        .arg(&binary)
        .arg(format!("-Clink-arg=-T{}", script.display()))
        .arg(source.join("liar.rs"))
        .output()
        .context("cannot run rustc")?;
    ensure!(
        output.status.success(),
        "the liar does not compile:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(binary)
}
