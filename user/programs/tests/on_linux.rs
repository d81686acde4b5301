//! The programs that are not in assembly, on the Linux they are built on: what they expect of a
//! kernel has to be what Linux does.

#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

use std::fs::File;
use std::process::{Command, Stdio};

/// Runs a program with standard output to a regular file, where partial writes count exactly, and
/// returns its status (128 + signal for a signal), its output and its errors.
fn run(program: &str, arguments: &[&str]) -> (i32, Vec<u8>, String) {
    use std::os::unix::process::ExitStatusExt;
    let name = format!("programs-{}-{}", std::process::id(), unique());
    let path = std::env::temp_dir().join(name);
    let file = File::create(&path).expect("a temporary file");
    let result = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(file)
        .output()
        .expect("the program starts");
    let output = std::fs::read(&path).expect("the output is there");
    std::fs::remove_file(&path).expect("the temporary file goes");
    let status = result.status;
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    (
        code,
        output,
        String::from_utf8_lossy(&result.stderr).into_owned(),
    )
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn passes(program: &str, arguments: &[&str]) {
    let (status, output, errors) = run(program, arguments);
    assert_eq!(status, 0, "{errors}");
    let output = String::from_utf8_lossy(&output);
    let last = output.lines().last().unwrap_or_default();
    assert!(
        last.contains(": pass (") && last.ends_with(" checks)"),
        "{last}"
    );
}

macro_rules! pass_here {
    ($($test:ident: $program:literal $($argument:literal)*;)*) => {
        $(
            #[test]
            fn $test() {
                passes(env!(concat!("CARGO_BIN_EXE_", $program)), &[$($argument),*]);
            }
        )*
    };
}

pass_here! {
    threads_meet: "threads";
    a_thousand_threads_run: "thousand";
    memory_grows_and_shrinks: "alloc";
    bad_pointers_are_refused: "efault" "strict";
    mappings_follow_the_model: "mmaps" "1" "5000";
    mappings_follow_the_model_from_another_seed: "mmaps" "2" "5000";
    objects_are_shared: "objects";
    copies_are_made_when_written: "cow";
    contents_do_not_depend_on_sizes: "sizes";
    neighbours_hold_what_was_written: "around";
    memory_stands_pressure: "pressure" "500";
    mappings_survive_a_storm: "mapstorm" "500";
    futexes_count: "futexes";
    threads_run_where_they_may: "sched";
    clocks_are_sane: "timeprog";
    handlers_repair_what_was_wrong: "signals";
    memory_files_follow_the_model: "memfd";
    memory_files_follow_the_model_from_another_seed: "memfd" "7" "4000";
    unknown_calls_are_unknown: "unknown";
    panics_are_caught: "panics" "caught";
    panics_stay_in_their_thread: "panics" "thread";
    panics_poison_locks: "panics" "poison";
}

#[test]
fn programs_end_with_the_listed_statuses() {
    let panics = env!("CARGO_BIN_EXE_panics");
    let (status, list, _) = run(panics, &["list"]);
    assert_eq!(status, 0);
    let list = String::from_utf8(list).expect("the list is text");
    assert!(list.lines().count() >= 10, "{list}");
    for line in list.lines() {
        let (name, expected) = line.split_once(' ').expect("a name and a status");
        let (status, _, errors) = run(panics, &[name]);
        assert_eq!(status.to_string(), expected, "panics {name}: {errors}");
    }
}

#[test]
fn exit_statuses_and_wrong_arguments_are_told_apart() {
    let program = env!("CARGO_BIN_EXE_exitcode");
    for (argument, expected) in [("0", 0), ("1", 1), ("255", 255), ("256", 2), ("x", 2)] {
        assert_eq!(run(program, &[argument]).0, expected, "exitcode {argument}");
    }
}

#[test]
fn the_big_output_is_exact() {
    let (status, output, _) = run(env!("CARGO_BIN_EXE_bigout"), &[]);
    assert_eq!((status, output.len()), (0, 1 << 20));
    for (number, line) in output.chunks(64).enumerate() {
        assert_eq!(&line[..9], format!("{number:08x} ").as_bytes());
        let mut letters = line[9..63].iter().enumerate();
        let right = |(at, letter): (usize, &u8)| usize::from(letter - b'A') == (number + at) % 26;
        assert!(letters.all(right) && line[63] == b'\n', "line {number}");
    }
}
