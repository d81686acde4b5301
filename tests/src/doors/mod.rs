//! What the README promises of `cargo xtask qemu`, through the real binary and nothing else.

mod say;
mod seeing;

use std::fs;
use std::io::Read;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use crate::make::elf::{DYN, Elf, INTERP, R, Segment};
use crate::scenarios::big_output;
use crate::{env, liars, trial};
use say::{Said, children, command, is_running, qemu, say, wait, xtask_command};

/// Name and test.
type Door = (&'static str, fn(&str) -> Result<()>);

const DOORS: &[Door] = &[
    ("runs_a_program_by_name", by_name),
    ("runs_a_program_by_path", by_path),
    ("runs_the_tour_without_a_program", tour),
    ("gives_servers_what_their_arguments_name", servers),
    ("passes_the_status_on", statuses),
    ("tells_of_a_signal", signal),
    ("passes_the_environment_on", environment),
    ("says_that_a_file_is_missing", missing_file),
    ("says_that_a_folder_is_no_program", folder),
    ("says_what_is_wrong_with_a_file", wrong_files),
    ("says_how_to_build_a_static_program", dynamic),
    ("stops_a_busy_program_in_time", |name| timeout(name, "spin")),
    ("stops_an_idle_program_in_time", |name| {
        timeout(name, "wait")
    }),
    ("reports_a_kernel_bug_with_its_backtrace", kernel_bug),
    ("reports_a_store_to_a_page_table", stray_store),
    ("prints_a_command_that_can_be_pasted", print),
    ("prints_statistics_as_a_table", table),
    ("keeps_the_output_byte_exact", exact),
    ("believes_no_liar", liar),
    ("believes_no_lying_kernel", lying_kernels),
    ("refuses_wrong_use_with_status_2", wrong_use),
    ("says_that_qemu_is_missing", no_qemu),
    ("says_that_the_kernel_is_no_kernel", no_kernel),
    ("ends_on_interrupt", interrupt),
    ("ends_when_nobody_reads", closed_pipe),
    ("lists_its_options", help),
    ("says_where_instructions_go", profile),
];

/// The tests of this kind.
pub fn trials() -> Vec<Trial> {
    let doors = DOORS.iter().chain(seeing::DOORS);
    doors
        .map(|&(door, test)| {
            let name = format!("doors::{door}");
            trial(name.clone(), move || {
                eprintln!("running {name}");
                test(&name)
            })
        })
        .collect()
}

fn by_name(name: &str) -> Result<()> {
    let said = qemu(name, &["--", "hello", "two words", ""])?;
    said.status(0)?;
    let expected = "Hello from EL0.\narg 0: hello\narg 1: two words\narg 2: \n";
    said.ensure(said.text() == expected, "the output is not the program's")
}

fn by_path(name: &str) -> Result<()> {
    let path = env::program("hello")?;
    let path = path.to_str().context("odd path")?;
    let said = qemu(name, &["--", path])?;
    said.status(0)?;
    let expected = format!("Hello from EL0.\narg 0: {path}\n");
    said.ensure(said.text() == expected, "the output is not the program's")
}

/// Our own program by name, and a file and a program of the host by path.
fn servers(name: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("numbers");
    fs::write(&file, [1; 5000])?;
    let file = file.to_str().context("odd path")?;
    let sum = env::program("sum")?;
    let sum = sum.to_str().context("odd path")?;
    for program in ["sum", sum] {
        let said = qemu(name, &["--", "pager", file, program])?;
        said.status(0)?;
        let expected = "5000 bytes, sum 5000, first bytes 2\n";
        let ends = format!("pager: {program} exited with status 0\n");
        let text = said.text();
        said.ensure(
            text.starts_with(expected) && text.ends_with(&ends),
            "the program has not seen the file",
        )?;
    }
    Ok(())
}

fn tour(name: &str) -> Result<()> {
    let said = qemu(name, &["--timeout", "200"])?;
    said.status(0)?;
    said.ensure(said.text().lines().count() > 20, "a tour of so few lines")
}

fn statuses(name: &str) -> Result<()> {
    [0, 1, 42, 255].into_iter().try_for_each(|status| {
        let said = qemu(name, &["--", "exitcode", &status.to_string()])?;
        said.status(status)
    })
}

fn signal(name: &str) -> Result<()> {
    let said = qemu(name, &["--", "faults", "null-read"])?;
    said.status(128 + 11)?;
    said.says(&["SIGSEGV", "0x0"])
}

fn environment(name: &str) -> Result<()> {
    let said = qemu(name, &["--env", "A=1", "--env", "B=x y", "--", "hello"])?;
    said.status(0)?;
    said.ensure(
        said.text().ends_with("env A=1\nenv B=x y\n"),
        "the environment is missing",
    )
}

fn missing_file(name: &str) -> Result<()> {
    let said = qemu(name, &["--", "./no/such/file"])?;
    said.status(127)?;
    said.says(&["./no/such/file"])
}

fn folder(name: &str) -> Result<()> {
    let said = qemu(name, &["--", "/"])?;
    said.status(127)?;
    said.says(&["/", "directory"])
}

/// Writes a file, runs it, and returns what was said.
fn run_bytes(name: &str, bytes: &[u8]) -> Result<Said> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("odd");
    fs::write(&path, bytes)?;
    qemu(name, &["--", path.to_str().context("odd path")?])
}

fn wrong_files(name: &str) -> Result<()> {
    let own = fs::read(env::xtask()?)?;
    let mut small = Elf::exits(0);
    (small.class, small.machine) = (1, 40);
    let mut cut = Elf::exits(0).bytes();
    cut.pop();
    let files: [(&[u8], &str); 4] = [
        (b"#!/bin/sh\nexit 0\n", "not an ELF"),
        // The first bytes of the program that runs this: code for the host.
        (
            &own[..own.len().min(4096)],
            if cfg!(target_arch = "x86_64") {
                "x86-64"
            } else {
                ""
            },
        ),
        (&small.bytes(), "32-bit"),
        (&cut, "cut off"),
    ];
    for (bytes, words) in files {
        let said = run_bytes(name, bytes)?;
        said.status(126)?;
        said.says(&[words])?;
    }
    Ok(())
}

fn dynamic(name: &str) -> Result<()> {
    let interp = Segment {
        kind: INTERP,
        flags: R,
        in_file: 4,
        in_memory: 4,
        ..Segment::default()
    };
    let mut elf = Elf::exits(0).with(interp);
    elf.kind = DYN;
    let said = run_bytes(name, &elf.bytes())?;
    said.status(126)?;
    said.says(&["dynamic", "static", "aarch64-unknown-linux-musl"])
}

fn timeout(name: &str, program: &str) -> Result<()> {
    let started = Instant::now();
    let said = qemu(name, &["--timeout", "20", "--", program])?;
    said.status(124)?;
    said.says(&["20", "--timeout"])?;
    let took = started.elapsed().as_secs();
    said.ensure(took >= 20, &format!("stopped after {took} s already"))
}

fn kernel_bug(name: &str) -> Result<()> {
    let said = qemu(name, &["--bootarg", "tessera.panic=1", "--", "hello"])?;
    said.status(70)?;
    // The backtrace has names and lines of the kernel's sources.
    said.says(&["bug", "backtrace", "start_machine", "start.rs:"])
}

/// A stray store of the kernel to a page table is reported as what it is; unprotected tables take it.
fn stray_store(name: &str) -> Result<()> {
    let stray = ["--bootarg", "tessera.panic=stray", "--", "hello"];
    let said = qemu(name, &stray)?;
    said.status(70)?;
    let words = "store to a live page table (level 0 table of space 1)";
    said.says(&["bug", words, "backtrace", "stray_store", "protect.rs:"])?;
    let off = ["--bootarg", "tessera.protect_pgtables=off"];
    let said = qemu(&format!("{name}_off"), &[&off[..], &stray[..]].concat())?;
    said.status(0)?;
    let text = said.text();
    said.ensure(text.contains("was not noticed"), "no warning of it")
}

fn print(name: &str) -> Result<()> {
    let said = qemu(name, &["--print", "--icount", "--", "hello"])?;
    said.status(0)?;
    let text = said.text();
    said.ensure(
        text.lines().count() == 1 && text.contains("-kernel"),
        "not one command",
    )?;
    let mut shell = Command::new("sh");
    shell.args(["-c", text.trim()]).current_dir("/");
    shell
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let pasted = say(&format!("{name}_pasted"), shell)?;
    pasted.status(0)?;
    pasted.ensure(
        pasted.text().contains("Hello from EL0."),
        "the pasted command greets nobody",
    )
}

fn table(name: &str) -> Result<()> {
    let said = qemu(name, &["--stats", "--", "hello"])?;
    said.status(0)?;
    said.ensure(
        said.text() == "Hello from EL0.\narg 0: hello\n",
        "standard output is not pure",
    )?;
    said.says(&["faults"])
}

fn exact(name: &str) -> Result<()> {
    let said = qemu(name, &["--", "bigout"])?;
    said.status(0)?;
    said.ensure(said.out == big_output(), "a byte of the output is wrong")
}

fn liar(name: &str) -> Result<()> {
    let said = qemu(name, &["--stats=json", "--", "liar", "0123456789abcdef"])?;
    said.status(7)?;
    let text = said.text();
    // Ten tokens, each claim said three times, and once more at the end: all of it is output.
    let claims = text.matches("halt status=0").count();
    said.ensure(claims == 31, &format!("{claims} claims came through"))?;
    let last = text.lines().last().unwrap_or_default();
    said.ensure(
        last.starts_with('{') && !last.contains("\"faults\":0}"),
        "its statistics are believed",
    )
}

/// Kernels that are none: what xtask says of each.
fn lying_kernels(name: &str) -> Result<()> {
    let kernel = liars::binary()?;
    let kernel = kernel.to_str().context("odd path")?;
    for (liar, status) in [
        ("silent-exit", 72),
        ("wrong-token", 72),
        ("reset", 72),
        ("no-halt", 72),
        ("panic", 70),
        ("panic-success", 70),
        ("hang", 124),
        ("silent", 124),
        ("flood", 124),
    ] {
        let lie = format!("liar={liar}");
        // Any file serves as the program: nobody looks at it.
        let words = [
            "--timeout",
            "8",
            "--kernel",
            kernel,
            "--bootarg",
            &lie,
            "--",
            kernel,
        ];
        let said = qemu(&format!("{name}_{liar}"), &words)?;
        said.status(status)?;
        said.ensure(!said.err.is_empty(), "no explanation")?;
    }
    Ok(())
}

fn wrong_use(name: &str) -> Result<()> {
    for words in [
        &["--no-such-option"][..],
        &["--smp", "0"],
        &["program-without-dashes"],
    ] {
        let said = qemu(name, words)?;
        said.status(2)?;
        said.ensure(!said.err.is_empty() && said.out.is_empty(), "no message")?;
    }
    Ok(())
}

fn no_qemu(name: &str) -> Result<()> {
    let mut command = command(&["--", "hello"])?;
    command.env("QEMU", "/no/such/qemu");
    let said = say(name, command)?;
    said.status(2)?;
    said.says(&["/no/such/qemu"])
}

fn no_kernel(name: &str) -> Result<()> {
    let own = env::xtask()?;
    let said = qemu(
        name,
        &["--kernel", own.to_str().context("odd path")?, "--", "hello"],
    )?;
    said.status(2)?;
    let said = qemu(name, &["--kernel", "/no/such/kernel", "--", "hello"])?;
    said.status(2)?;
    said.says(&["/no/such/kernel"])
}

/// Starts `program` and waits until it has printed something.
fn started(words: &[&str]) -> Result<(Child, ChildStdout)> {
    let mut child = command(words)?.stderr(Stdio::null()).spawn()?;
    let mut out = child.stdout.take().context("no output")?;
    let mut byte = [0];
    ensure!(out.read(&mut byte)? == 1, "it ended without a word");
    Ok((child, out))
}

fn interrupt(name: &str) -> Result<()> {
    let (child, out) = started(&["--timeout", "120", "--", "wait"])?;
    let emulators = children(child.id());
    ensure!(!emulators.is_empty(), "{name}: no QEMU runs below xtask");
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()?;
    ensure!(killed.success(), "cannot interrupt");
    let output = wait(child)?;
    drop(out);
    ensure!(
        output.status.code() == Some(130),
        "status {:?} instead of 130",
        output.status
    );
    thread::sleep(Duration::from_millis(200));
    let left: Vec<_> = emulators.iter().filter(|pid| is_running(**pid)).collect();
    ensure!(left.is_empty(), "QEMU still runs: {left:?}");
    Ok(())
}

/// `xtask qemu -- bigout | head -c 1` ends too.
fn closed_pipe(name: &str) -> Result<()> {
    let (child, out) = started(&["--timeout", "120", "--", "bigout"])?;
    drop(out);
    let output = wait(child)?;
    let status = output.status.code();
    ensure!(
        status == Some(128 + 13),
        "{name}: status {status:?} instead of 141"
    );
    Ok(())
}

fn help(name: &str) -> Result<()> {
    let said = qemu(name, &["--help"])?;
    said.status(0)?;
    let text = said.text();
    for option in [
        "--cpu",
        "--smp",
        "--memory",
        "--icount",
        "--gdb",
        "--timeout",
        "--log",
        "--bootarg",
        "--stats",
        "--trace",
        "--print",
    ] {
        said.ensure(text.contains(option), &format!("{option} is not described"))?;
    }
    Ok(())
}

/// The parts of a profile add up to what was measured, and every instruction is in the listing.
fn profile(name: &str) -> Result<()> {
    let row = "mprotect_ro_64k";
    let said = say(name, xtask_command(&["bench", "mm", "--profile", row])?)?;
    said.status(0)?;
    let text = said.text();
    let words: Vec<&str> = text.split_whitespace().collect();
    let figure = |at: usize| words.get(at).and_then(|word| word.parse::<f64>().ok());
    // FIGURE instructions per page were measured, FIGURE of them in the kernel
    let (measured, counted) = figure(0).zip(figure(6)).context(text.clone())?;
    said.ensure(
        counted > 1.0 && (measured - counted).abs() < 0.1 * measured,
        "the profile is not of what was measured",
    )?;
    said.ensure(
        text.contains("kernel::") && text.contains("pgtable::"),
        "no names",
    )?;
    let listing = said.err.lines().find_map(|line| line.split_once(": /"));
    let (_, listing) = listing.context("no listing is named")?;
    let listing = fs::read_to_string(format!("/{listing}"))?;
    said.ensure(
        listing.contains("  eret"),
        "the listing does not reach the way out",
    )
}
