//! Every rule against a planted violation and against what it must let pass.

use super::*;

pub(super) const HEAD: &str = "//! What it is.\n";

/// The complaints about a file whose first line says what it is.
fn complaints(path: &str, text: &str) -> Vec<String> {
    check_text(&Text::new(path, &format!("{HEAD}{text}")))
}

pub(super) fn planted(path: &str, text: &str, part: &str) {
    let found = complaints(path, text);
    assert!(
        found.iter().any(|line| line.contains(part)),
        "{path}: {text}: {found:?}"
    );
}

pub(super) fn clean(path: &str, text: &str) {
    let found = complaints(path, text);
    assert!(found.is_empty(), "{path}: {text}: {found:?}");
}

#[test]
fn unsafe_outside_of_its_crates_is_found() {
    let text = "// SAFETY: law 4\nunsafe { x() }\n";
    for path in [
        "kernel/mm/src/a.rs",
        "kernel/arm64/src/a.rs",
        "kernel/src/sched.rs",
        "xtask/src/a.rs",
    ] {
        planted(path, text, ":3: `unsafe` in safe code");
    }
    clean("kernel/pgtable/src/a.rs", text);
    clean(
        "kernel/mm/src/a.rs",
        "#![forbid(unsafe_code)] // unsafe\nlet x = \"unsafe\";\n",
    );
}

#[test]
fn assembly_outside_of_the_architecture_is_found() {
    for name in ["asm!", "core::arch::global_asm!", "naked_asm!"] {
        planted(
            "kernel/pgtable/src/a.rs",
            &format!("{name}(\"isb\");\n"),
            "assembly outside",
        );
        clean("kernel/src/arch/a.rs", &format!("{name}(\"isb\");\n"));
    }
    clean("kernel/mm/src/a.rs", "// asm!\nfn alarm() {}\n");
}

#[test]
fn unsafe_without_a_reason_is_found() {
    let far = format!("// SAFETY: law 4\n{}unsafe {{ x() }}\n", "\n".repeat(REACH));
    for text in ["unsafe { x() }\n", "unsafe impl Send for X {}\n", &far] {
        planted("kernel/frame/src/a.rs", text, "without a SAFETY comment");
    }
    clean(
        "kernel/frame/src/a.rs",
        "/// # Safety\n/// Law 8.\npub unsafe fn x() {}\n",
    );
    clean(
        "kernel/frame/src/a.rs",
        "// SAFETY: law 8\nlet x =\n    unsafe { y() };\n",
    );
    clean("kernel/frame/src/a.rs", "type F = unsafe fn(u8);\n");
}

#[test]
fn leftovers_are_found_in_every_kind_of_file() {
    let word = concat!("TO", "DO");
    planted(
        "kernel/mm/src/a.rs",
        &format!("// {word}: later\n"),
        "left in the text",
    );
    planted(
        "docs/a.md",
        &format!("{word} write this\n"),
        "left in the text",
    );
    planted(
        "kernel/mm/src/a.rs",
        concat!("fn x() { todo", "!() }\n"),
        "left in the text",
    );
    clean("docs/a.md", "a todo list\n");
}

#[test]
fn descriptor_bits_outside_of_the_codec_are_found() {
    let bits = [
        "let x = pte | 1 << 52;\n",
        "const ADDRESS: u64 = 0x0000_ffff_ffff_f000;\n",
    ];
    for text in bits {
        planted("kernel/pgtable/src/a.rs", text, "law 1");
        planted("boot/src/main.rs", text, "law 1");
        clean("kernel/arm64/src/regs.rs", text);
        clean("tests/src/reader/descriptor.rs", text);
    }
    planted("kernel/arm64/src/regs.rs", "const PXN: u64 = 2;\n", "law 1");
    clean(
        "kernel/arm64/src/pte/bits.rs",
        "const PXN: u64 = 1 << 53;\n",
    );
    clean("kernel/pgtable/src/a.rs", "let size = 1 << 12;\n");
}

#[test]
fn a_file_that_does_not_say_what_it_is_is_found() {
    assert_eq!(
        check_text(&Text::new("kernel/mm/src/a.rs", "fn x() {}\n")).len(),
        1
    );
    assert_eq!(check_text(&Text::new("kernel/mm/src/a.rs", "")).len(), 1);
    assert!(check_text(&Text::new("docs/a.md", "# Title\n")).is_empty());
}

#[test]
fn paths_of_one_machine_are_found() {
    for path in [
        concat!("/ro", "ot/x"),
        concat!("/ho", "me/me"),
        concat!("/wo", "rk/main"),
    ] {
        planted("docs/a.md", &format!("see {path}\n"), "path of one machine");
        planted(
            "xtask/src/a.rs",
            &format!("let x = \"{path}\";\n"),
            "path of one machine",
        );
    }
    clean(
        "docs/a.md",
        concat!("target/ho", "me/x and $HOME/ro", "ot/x\n"),
    );
}

#[test]
fn the_walk_skips_build_output_and_finds_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    for file in [
        "target/debug/x.rs",
        ".git/x.md",
        "kernel/src/a.rs",
        ".ci/run",
        "docs/b.md",
        "c.bin",
    ] {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "unsafe").unwrap();
    }
    let found = files(dir.path()).unwrap();
    assert_eq!(found.len(), 3, "{found:?}");
    let complaints = check(dir.path()).unwrap();
    assert!(
        complaints
            .iter()
            .any(|line| line.starts_with("kernel/src/a.rs:1: ")),
        "{complaints:?}"
    );
}
