//! Every end that a run can have, and what is made of it.

use super::*;
use std::os::unix::process::ExitStatusExt;

fn lines(text: &[&str]) -> Vec<Line> {
    text.iter().map(|text| Line::parse(text)).collect()
}

fn ended(code: i32) -> Option<ExitStatus> {
    Some(ExitStatus::from_raw(code << 8))
}

#[test]
fn the_programs_status_comes_from_its_line_not_from_qemu() {
    let lines = lines(&["boot cpus=1", "exit status=3", "halt status=3"]);
    let ending = judge(&lines, None, ended(0), false);
    assert_eq!((ending.status(), ending.is_ordinary()), (3, true));
}

#[test]
fn a_signal_is_named_with_its_address() {
    let killed = "killed signal=11 code=SEGV_MAPERR addr=0x10 pc=0x400";
    let ending = judge(
        &lines(&[killed, "halt status=139"]),
        None,
        ended(139),
        false,
    );
    assert_eq!(ending.status(), 139);
    let text = ending.to_string();
    assert!(
        text.contains("signal 11 (SIGSEGV, SEGV_MAPERR at 0x10; pc 0x400)"),
        "{text}"
    );
}

#[test]
fn a_bug_wins_over_everything_and_keeps_its_backtrace() {
    let told = [
        "exit status=0",
        "bug law=8 text=table twice",
        "bt pc=0x10",
        "bt pc=0x20",
    ];
    for (stop, qemu) in [
        (Some(Stop::Interrupt), None),
        (None, ended(70)),
        (None, ended(0)),
    ] {
        let ending = judge(&lines(&told), stop, qemu, false);
        let Ending::Bug {
            text,
            law,
            backtrace,
        } = &ending
        else {
            panic!("{ending:?}")
        };
        assert_eq!((text.as_str(), law.as_str()), ("table twice", "8"));
        assert_eq!(backtrace, &[0x10, 0x20]);
        assert_eq!(ending.status(), 70);
    }
}

#[test]
fn an_end_without_a_word_is_no_success_even_with_status_zero() {
    let status =
        |told: &[&str], qemu, complained| judge(&lines(told), None, qemu, complained).status();
    assert_eq!(status(&[], ended(0), false), status::SILENT);
    assert_eq!(
        status(&["boot cpus=1", "exit status=0"], ended(0), false),
        status::SILENT
    );
    assert_eq!(status(&[], ended(1), true), status::EMULATOR);
    assert_eq!(
        status(&["boot cpus=1"], Some(ExitStatus::from_raw(11)), false),
        71
    );
}

#[test]
fn a_kernel_without_a_token_speaks_by_status() {
    assert_eq!(judge(&[], None, ended(78), false).status(), status::REFUSED);
    assert_eq!(judge(&[], None, ended(70), false).status(), status::BUG);
    let told = lines(&["boot cpus=1", "refused text=no memory", "halt status=78"]);
    assert!(
        judge(&told, None, ended(78), false)
            .to_string()
            .ends_with("machine: no memory")
    );
}

#[test]
fn a_time_out_is_one_unless_the_kernel_had_halted() {
    let stop = Some(Stop::TimeOut(Duration::from_secs(1)));
    assert_eq!(
        judge(&lines(&["boot cpus=1"]), stop, None, false).status(),
        status::TIMEOUT
    );
    let told = lines(&["exit status=4", "halt status=4"]);
    assert_eq!(judge(&told, stop, None, false).status(), 4);
}

#[test]
fn a_refused_program_is_told_in_the_kernels_words() {
    let told = lines(&[
        "execfail reason=not-elf text=not an ELF file",
        "halt status=126",
    ]);
    let ending = judge(&told, None, ended(126), false);
    assert_eq!(ending.status(), status::NO_EXEC);
    assert_eq!(
        ending.to_string(),
        "cannot execute the program: not an ELF file"
    );
}
