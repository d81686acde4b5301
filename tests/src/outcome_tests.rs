//! The judge against what kernels may say, without QEMU.

use super::*;

fn ended(code: i32, lines: &[&str]) -> Ended {
    Ended {
        lines: lines.iter().map(|line| Line::parse(line)).collect(),
        status: Some(ExitStatus::from_raw(code << 8)),
        ..Ended::default()
    }
}

const GOOD: [&str; 5] = [
    "boot cpus=1",
    "test-begin name=a",
    "test-end name=a result=pass",
    "tests-done passed=1 failed=0",
    "halt status=0",
];

#[test]
fn an_honest_run_passes_and_every_line_of_it_is_needed() {
    assert_eq!(self_tests(&ended(0, &GOOD)), Outcome::Pass);
    for (missing, line) in GOOD.iter().enumerate().skip(1) {
        let mut lines = GOOD.to_vec();
        lines.remove(missing);
        assert_ne!(
            self_tests(&ended(0, &lines)),
            Outcome::Pass,
            "without {line}"
        );
    }
    assert!(matches!(self_tests(&ended(1, &GOOD)), Outcome::Fail(_)));
}

#[test]
fn no_tests_is_no_pass() {
    let outcome = self_tests(&ended(
        0,
        &["tests-done passed=0 failed=0", "halt status=0"],
    ));
    assert!(matches!(outcome, Outcome::Fail(_)), "{outcome}");
}

#[test]
fn a_test_that_ends_under_another_name_is_out_of_order() {
    let outcome = self_tests(&ended(
        0,
        &[GOOD[1], "test-end name=b result=pass", GOOD[3], GOOD[4]],
    ));
    assert!(matches!(outcome, Outcome::Fail(_)), "{outcome}");
}

#[test]
fn a_failed_test_is_named() {
    let lines = [
        "test-begin name=a",
        "test-end name=a result=fail text=1 is not 2",
        "tests-done passed=0 failed=1",
        "halt status=1",
    ];
    let Outcome::Fail(why) = self_tests(&ended(1, &lines)) else {
        panic!()
    };
    assert!(why.contains("first a: 1 is not 2"), "{why}");
}

#[test]
fn the_test_in_which_a_machine_hangs_or_dies_is_named() {
    let mut hung = ended(0, &GOOD[..2]);
    let crashed = self_tests(&hung);
    assert!(
        matches!(&crashed, Outcome::Crashed(why) if why.contains("in test a")),
        "{crashed}"
    );
    (hung.stop, hung.status) = (Some(Stop::Quiet(Duration::from_secs(5))), None);
    let outcome = self_tests(&hung);
    assert!(
        matches!(&outcome, Outcome::Hung(why) if why.contains("in test a")),
        "{outcome}"
    );
}

#[test]
fn a_bug_report_wins_over_a_claim_of_success() {
    let mut lines = GOOD.to_vec();
    lines.insert(4, "bug law=8 text=table twice");
    let outcome = self_tests(&ended(0, &lines));
    assert!(
        matches!(&outcome, Outcome::Crashed(why) if why.contains("table twice")),
        "{outcome}"
    );
}

#[test]
fn silence_is_not_success() {
    assert!(matches!(ended(0, &[]).halted(), Err(Outcome::Silent(_))));
    assert!(matches!(ended(3, &[]).halted(), Err(Outcome::Silent(_))));
    let mut refused = ended(1, &[]);
    refused.complaints = "qemu: no such machine".into();
    assert!(matches!(refused.halted(), Err(Outcome::Emulator(_))));
    refused.status = Some(ExitStatus::from_raw(11));
    assert!(matches!(refused.halted(), Err(Outcome::Emulator(_))));
}

#[test]
fn a_program_ends_as_expected_or_fails() {
    let judge = |code, lines: &[&str], expected| program(&ended(code, lines), expected);
    assert_eq!(
        judge(3, &["exit status=3", "halt status=3"], Ending::Exit(3)),
        Outcome::Pass
    );
    let killed = [
        "killed signal=11 code=SEGV_MAPERR addr=0x0 pc=0x0",
        "halt status=139",
    ];
    assert_eq!(judge(139, &killed, Ending::Killed(11)), Outcome::Pass);
    let refused = [
        "execfail reason=not-elf text=not an ELF file",
        "halt status=126",
    ];
    assert_eq!(
        judge(126, &refused, Ending::ExecFail("not-elf")),
        Outcome::Pass
    );
    assert_eq!(judge(126, &refused, Ending::ExecFail("")), Outcome::Pass);
    for (code, lines, expected) in [
        (0, &["exit status=3", "halt status=0"][..], Ending::Exit(0)),
        (0, &["exit status=3", "halt status=0"], Ending::Exit(3)),
        (
            3,
            &["exit status=3", "exit status=3", "halt status=3"],
            Ending::Exit(3),
        ),
        (3, &["halt status=3"], Ending::Exit(3)),
        (
            139,
            &["exit status=139", "halt status=139"],
            Ending::Killed(11),
        ),
        (126, &refused, Ending::ExecFail("truncated")),
        (
            126,
            &["execfail text=?", "halt status=126"],
            Ending::ExecFail(""),
        ),
    ] {
        let outcome = judge(code, lines, expected);
        assert!(matches!(outcome, Outcome::Fail(_)), "{lines:?}: {outcome}");
    }
}

#[test]
fn a_second_boot_line_is_a_reset() {
    let outcome = ended(
        0,
        &[
            "boot cpus=1",
            "boot cpus=1",
            "exit status=0",
            "halt status=0",
        ],
    )
    .halted();
    assert!(matches!(outcome, Err(Outcome::Crashed(_))));
}
