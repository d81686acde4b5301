//! The rules about tables against planted violations, and their exceptions.

use super::super::Text;
use super::super::tests::{HEAD, clean, planted};
use super::{ALL, Exception, Signs};

/// Each sign of each rule, planted in the scope of the rule, and where it is excepted.
#[test]
fn tables_reached_around_the_engine_are_found() {
    for rule in ALL {
        for sign in rule.signs {
            let tail = if sign.ends_with('(') { ")" } else { " x" };
            let line = format!("let _ = y {sign}{tail};\n").replace("y .", "y.");
            for scope in rule.scope {
                planted(&format!("{scope}planted.rs"), &line, rule.complaint);
            }
            clean("xtask/src/a.rs", &line);
            clean(
                "kernel/mm/src/a.rs",
                &format!("// {line}let x = \"{sign}\";\n"),
            );
        }
        for exception in rule.exceptions {
            let file = match exception.path.strip_suffix('/') {
                Some(folder) => format!("{folder}/a.rs"),
                None => exception.path.to_owned(),
            };
            for sign in rule.signs {
                let text = format!("{HEAD}let _ = y {sign} x;\n");
                let found = rule.check(&Text::new(&file, &text));
                let excepted = rule
                    .exceptions
                    .iter()
                    .any(|other| file.starts_with(other.path) && other.signs.contains(sign));
                assert_eq!(found.is_empty(), excepted, "{file}: {sign}");
            }
        }
    }
}

#[test]
fn forbidden_patterns_as_people_write_them_are_found() {
    let lines = [
        (
            "kernel/mm/src/a.rs",
            "let pte = unsafe { entry.read_volatile() };\n",
            "PTE-11",
        ),
        (
            "kernel/src/a.rs",
            "core::ptr::write_volatile(entry, 0);\n",
            "PTE-11",
        ),
        (
            "kernel/pgtable/src/walk.rs",
            "let e = (pa + offset) as *const u64;\n",
            "PTE-11",
        ),
        (
            "kernel/pgtable/src/walk.rs",
            "let c = AtomicU64::from_ptr(p);\n",
            "PTE-11",
        ),
        (
            "kernel/mm/src/a.rs",
            "let c = frames.cells(pfn);\n",
            "PTE-11",
        ),
        (
            "kernel/mm/src/a.rs",
            "let pte = Pte::from_raw(2 << 3);\n",
            "UF-31",
        ),
        (
            "kernel/mm/src/a.rs",
            "let lock = meta.table_lock().lock(1);\n",
            "PTE-18",
        ),
        (
            "kernel/src/a.rs",
            "let t = frames.table_from_entry(pfn);\n",
            "PTE-18",
        ),
        (
            "kernel/pgtable/src/leaf.rs",
            "self.table.cell(index).store(0);\n",
            "PTE-18",
        ),
        (
            "kernel/mm/src/a.rs",
            "if core::ptr::eq(space, init_mm()) {}\n",
            "CTOR-08",
        ),
        (
            "kernel/mm/src/a.rs",
            "if Arc::ptr_eq(&a.space, &b.space) {}\n",
            "CTOR-08",
        ),
        (
            "kernel/pgtable/src/walk.rs",
            "fence(Ordering::Acquire);\n",
            "GUP-17",
        ),
    ];
    for (path, line, rule) in lines {
        planted(path, line, rule);
    }
}

#[test]
fn an_exception_without_a_reason_or_a_need_is_found() {
    const BARE: Signs = Signs {
        scope: &["kernel/"],
        signs: &["x"],
        complaint: "no",
        exceptions: &[Exception {
            path: "kernel/a.rs",
            signs: &["x"],
            reason: "",
        }],
    };
    let complaints = |text| BARE.check_exceptions(&[Text::new("kernel/a.rs", text)]);
    assert_eq!(complaints("x").len(), 1);
    assert_eq!(complaints("y").len(), 2);
    assert_eq!(BARE.check_exceptions(&[]).len(), 2);
    for rule in ALL {
        let excepted = |e: &Exception| e.reason.split_whitespace().count() >= 2;
        assert!(rule.exceptions.iter().all(excepted), "{}", rule.complaint);
    }
}
