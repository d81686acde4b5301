//! `cargo xtask mutants` from outside: what it says of a test that notices, and of one that cannot.

use std::path::Path;
use std::process::{Command, Output};

/// Runs it on the faults `SkipFlush` and `NarrowFlush` with a table of its own.
fn mutants(table: &str, faults: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("table.txt");
    std::fs::write(&file, table).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .arg("mutants")
        .arg("--table")
        .arg(&file)
        .args(faults);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    command.env_remove("TESSERA_FAULT");
    command.output().unwrap()
}

#[test]
fn a_fault_that_no_test_notices_fails_the_command() {
    let table = "\
        SkipFlush    host sync lib planted::tests::no_fault_is_planted_unless_asked_for\n\
        NarrowFlush  host sync lib word::tests::the_lock_is_one_word\n\
        NoSuchFault  host sync lib word::tests::the_lock_is_one_word\n\
        StaleSlot    boot\n\
        SkipGather   host sync lib word::tests::no_such_test\n\
        SkipConsistency host sync no_such_binary a\n";
    let faults = [
        "SkipFlush",
        "NarrowFlush",
        "SkipGather",
        "SkipConsistency",
        "StoreOverLive",
    ];
    let output = mutants(table, &faults);
    let said = String::from_utf8(output.stdout).unwrap();
    let begins = |words: &str| said.lines().any(|line| line.starts_with(words));
    assert!(begins("killed    SkipFlush "), "{said}");
    assert!(begins("SURVIVED  NarrowFlush "), "{said}");
    assert!(begins("NO TEST   SkipGather "), "{said}");
    assert!(begins("NO TEST   SkipConsistency "), "{said}");
    assert!(begins("NO TEST   StoreOverLive "), "{said}");
    assert!(
        begins("BAD ROW   line 3: no fault is called NoSuchFault"),
        "{said}"
    );
    assert!(begins("BAD ROW   line 4: "), "{said}");
    assert!(said.ends_with("1 passed, 6 failed\n"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn faults_that_are_noticed_let_it_pass() {
    let table = "SkipFlush host sync lib planted::tests::no_fault_is_planted_unless_asked_for\n";
    let output = mutants(table, &["SkipFlush"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.ends_with("1 passed, 0 failed\n"), "{said}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(mutants(table, &["Skip"]).status.code(), Some(2));
}
