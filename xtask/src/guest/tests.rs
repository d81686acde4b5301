//! A shell script in QEMU's place: it gets QEMU's arguments and ignores them.

use super::*;
use crate::ending::status;
use std::path::PathBuf;

const TOKEN: &str = "abc";

/// A script as an executable file. A process of its own writes it: a file that we have open for
/// writing could be inherited by another test's child, and cannot be executed then.
fn script(dir: &Path, body: &str) -> PathBuf {
    let path = dir.join("qemu");
    let write = "printf '#!/bin/sh\n%s\n' \"$2\" > \"$1\" && chmod +x \"$1\"";
    let status = Command::new("sh")
        .args(["-c", write, "sh"])
        .arg(&path)
        .arg(body)
        .status();
    assert!(status.unwrap().success());
    path
}

fn spawn(dir: &Path, body: &str) -> Guest {
    let machine = Machine::new("/kernel").token(TOKEN);
    Guest::spawn(&machine, &script(dir, body), Some(&dir.join("log"))).unwrap()
}

fn run(body: &str, limits: &Limits) -> (Run, Vec<u8>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let mut output = Vec::new();
    let guest = spawn(dir.path(), body);
    let sink = |_: &mut Guest, piece: &Piece| {
        if let Piece::Output(bytes) = piece {
            output.extend_from_slice(bytes);
        }
        Ok(())
    };
    let run = guest.run(limits, sink).unwrap();
    (run, output, std::fs::read(dir.path().join("log")).unwrap())
}

fn is_alive(pid: u32) -> bool {
    Command::new("kill")
        .args(["-0", &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

#[test]
fn output_lines_and_log_are_kept_apart() {
    let body = "printf 'a@abc exit status=3\\nb@abc halt status=3\\n'; echo oops >&2; \
                echo 'qemu: warning: icount sleep disabled and no active timers' >&2; exit 3";
    let (run, output, log) = run(body, &Limits::secs(60));
    assert_eq!(run.ending, Ending::Exited { status: 3 });
    assert_eq!(
        (output.as_slice(), run.tail.as_slice()),
        (&b"ab"[..], &b"ab"[..])
    );
    assert_eq!(log, b"a@abc exit status=3\nb@abc halt status=3\n");
    assert_eq!((run.complaints.as_str(), run.lines.len()), ("oops\n", 2));
    assert_eq!(
        run.line("halt").and_then(|line| line.number("status")),
        Some(3)
    );
}

#[test]
fn a_listener_gets_the_trace_and_complaints_stay_complaints() {
    let dir = tempfile::tempdir().unwrap();
    let body = "echo trace 1 >&2; echo oops >&2; printf 'trace 2' >&2";
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&heard);
    let listener = move |line: &[u8]| {
        let is_trace = line.starts_with(b"trace");
        if is_trace {
            lock_lines(&listener).push(String::from_utf8_lossy(line).into_owned());
        }
        is_trace
    };
    let machine = Machine::new("/kernel").token(TOKEN);
    let qemu = script(dir.path(), body);
    let guest = Guest::spawn_traced(&machine, &qemu, Box::new(listener)).unwrap();
    let run = guest.run(&Limits::secs(60), |_, _| Ok(())).unwrap();
    assert_eq!(run.complaints, "oops\n");
    assert_eq!(*lock_lines(&heard), ["trace 1", "trace 2"]);
}

fn lock_lines(lines: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_machine_that_hangs_is_stopped_and_its_process_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let guest = spawn(dir.path(), "echo begun; exec sleep 1000");
    let pid = guest.pid();
    assert!(is_alive(pid));
    let limits = Limits {
        total: Some(Duration::from_millis(300)),
        ..Limits::default()
    };
    let run = guest.run(&limits, |_, _| Ok(())).unwrap();
    assert_eq!(run.ending.status(), status::TIMEOUT);
    assert_eq!((run.tail.as_slice(), run.qemu), (&b"begun\n"[..], None));
    assert!(!is_alive(pid));
}

#[test]
fn the_boot_limit_ends_with_the_first_instruction_of_a_program() {
    let limits = Limits {
        boot: Some(Duration::from_millis(400)),
        ..Limits::default()
    };
    let stuck = run("echo '@abc boot cpus=1'; exec sleep 1000", &limits).0;
    assert!(
        matches!(stuck.ending, Ending::Stopped(Stop::BootTimeOut(_))),
        "{:?}",
        stuck.ending
    );
    let body = "echo '@abc el0 instructions=1'; sleep 1; echo '@abc halt status=0'";
    assert_eq!(run(body, &limits).0.ending, Ending::Halted { status: 0 });
}

#[test]
fn dropping_the_guest_stops_it() {
    let dir = tempfile::tempdir().unwrap();
    let guest = spawn(dir.path(), "exec sleep 1000");
    let pid = guest.pid();
    drop(guest);
    assert!(!is_alive(pid));
}

#[test]
fn a_sink_that_fails_stops_it() {
    let dir = tempfile::tempdir().unwrap();
    let guest = spawn(dir.path(), "echo x; exec sleep 1000");
    let pid = guest.pid();
    assert!(
        guest
            .run(&Limits::secs(60), |_, _| anyhow::bail!("enough"))
            .is_err()
    );
    assert!(!is_alive(pid));
}

#[test]
fn an_interrupt_ends_the_run() {
    let limits = Limits {
        interrupt: Some(Arc::new(AtomicBool::new(true))),
        ..Limits::default()
    };
    assert_eq!(
        run("exec sleep 1000", &limits).0.ending,
        Ending::Stopped(Stop::Interrupt)
    );
}

#[test]
fn what_is_typed_reaches_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let mut guest = spawn(
        dir.path(),
        "read line; echo \"got $line\"; echo '@abc halt status=0'",
    );
    guest.send(b"hello\n").unwrap();
    let run = guest.run(&Limits::secs(60), |_, _| Ok(())).unwrap();
    assert_eq!(run.tail, b"got hello\n");
}

#[test]
fn a_flood_is_neither_lost_nor_kept() {
    let body = "i=0; while [ $i -lt 2000 ]; do echo \"line $i $(printf %0100d 0)\"; \
                i=$((i+1)); done; echo '@abc halt status=0'";
    let (run, output, _) = run(body, &Limits::secs(120));
    assert_eq!(output.iter().filter(|byte| **byte == b'\n').count(), 2000);
    assert!(run.tail.len() <= TAIL && run.tail.ends_with(b"0\n"));
}

#[test]
fn on_a_terminal_a_lone_at_sign_is_shown_after_a_pause() {
    let limits = Limits {
        interactive: true,
        ..Limits::secs(60)
    };
    let dir = tempfile::tempdir().unwrap();
    let guest = spawn(
        dir.path(),
        "printf 'user@'; read line; echo '@abc halt status=0'",
    );
    let mut output = Vec::new();
    let run = guest.run(&limits, |guest, piece| {
        if let Piece::Output(bytes) = piece {
            output.extend_from_slice(bytes);
            if output.ends_with(b"@") {
                guest.send(b"\n")?;
            }
        }
        Ok(())
    });
    assert_eq!(run.unwrap().ending, Ending::Halted { status: 0 });
    assert_eq!(output, b"user@");
}

#[test]
fn a_missing_qemu_is_told() {
    let machine = Machine::new("/kernel");
    let error = Guest::spawn(&machine, Path::new("/nowhere/qemu"), None);
    // With setpriv in between it is setpriv that fails, and says so.
    if let Ok(guest) = error {
        let run = guest.run(&Limits::secs(60), |_, _| Ok(())).unwrap();
        assert_eq!(run.ending.status(), status::EMULATOR);
        assert!(
            run.complaints.contains("/nowhere/qemu"),
            "{}",
            run.complaints
        );
    }
}
