//! What `docs/laws.md` and `docs/STATUS.md` name exists (PTE-23): tests, trials, files, functions.
//!
//! Names stand in backticks. `family::name` is a trial of this package, three words or more joined by
//! underscores are a test function, something with a slash is a file, `Type::function` is looked for
//! in the sources. `…` and `*` stand for the rest of a name. Each law has to name a test that fails
//! when it is broken, or to say that it waits for one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENTS: [&str; 2] = ["docs/laws.md", "docs/STATUS.md"];

/// What a name in backticks turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// A trial, a test function, or a file.
    Test,
    /// No name that is checked, or one of something else that exists.
    Other,
    /// Nothing has this name.
    Nothing,
}

/// Everything that has a name.
struct Names {
    root: PathBuf,
    trials: Vec<String>,
    /// Functions in files that have tests.
    tests: BTreeSet<String>,
    /// Every function, and every type.
    functions: BTreeSet<String>,
    types: BTreeSet<String>,
}

impl Names {
    fn gather(root: &Path) -> Self {
        let mut names = Self {
            root: root.to_owned(),
            trials: Vec::new(),
            tests: BTreeSet::new(),
            functions: BTreeSet::new(),
            types: BTreeSet::new(),
        };
        for trial in crate::trials() {
            let name = trial.name().split('[').next().unwrap_or_default();
            names.trials.push(name.to_owned());
        }
        let mut folders = ["kernel", "boot", "user", "xtask", "tests"]
            .map(|folder| root.join(folder))
            .to_vec();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder of sources") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "rs") {
                    names.read(&path, &fs::read_to_string(&path).expect("a source"));
                }
            }
        }
        names
    }

    fn read(&mut self, path: &Path, text: &str) {
        let in_kernel = path.components().any(|part| part.as_os_str() == "selftest");
        let marks = ["#[test]", "proptest!", "models! {"];
        let has_tests = in_kernel || marks.iter().any(|mark| text.contains(mark));
        for function in declared(text, "fn ") {
            if has_tests {
                self.tests.insert(function.to_owned());
            }
            self.functions.insert(function.to_owned());
        }
        let kinds = ["struct ", "enum ", "trait ", "type "];
        let types = kinds.iter().flat_map(|kind| declared(text, kind));
        self.types.extend(types.map(str::to_owned));
    }

    fn find(&self, name: &str) -> Found {
        let test = |there: bool| if there { Found::Test } else { Found::Nothing };
        if name.contains(|c: char| c.is_whitespace() || "<>=()$".contains(c)) {
            return Found::Other;
        }
        if let Some((first, last)) = name.split_once("::") {
            if first.starts_with(char::is_lowercase) {
                return test(self.trials.iter().any(|trial| stands_for(name, trial)));
            }
            return match self.types.contains(first) && self.functions.contains(last) {
                true => Found::Other,
                false => Found::Nothing,
            };
        }
        if name.contains('/') {
            let (package, rest) = name.split_once('/').unwrap_or_default();
            let in_sources = format!("kernel/{package}/src/{rest}");
            let places = [name, &format!("kernel/{name}"), &in_sources];
            return test(places.iter().any(|place| self.root.join(place).exists()));
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_…*".contains(c);
        let words = name.split('_').filter(|word| !word.is_empty()).count();
        match words >= 3 && name.chars().all(plain) {
            true => test(self.tests.iter().any(|known| stands_for(name, known))),
            false => Found::Other,
        }
    }
}

/// The names that are declared behind a keyword.
fn declared<'a>(text: &'a str, keyword: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(keyword)
        .filter(|(at, _)| *at == 0 || text[..*at].ends_with([' ', '\n', '(']))
        .map(|(at, _)| {
            let name = &text[at + keyword.len()..];
            let part = |c: char| c.is_alphanumeric() || c == '_';
            &name[..name.find(|c| !part(c)).unwrap_or(name.len())]
        })
        .filter(|name| !name.is_empty())
}

/// Whether `pattern`, with `…` or `*` for anything, stands for `name`.
fn stands_for(pattern: &str, name: &str) -> bool {
    let parts: Vec<&str> = pattern.split(['…', '*']).collect();
    let [first, middle @ .., last] = &parts[..] else {
        return pattern == name;
    };
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    for part in middle {
        let Some((_, behind)) = rest.split_once(part) else {
            return false;
        };
        rest = behind;
    }
    rest.ends_with(last)
}

/// What stands in backticks in a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Names that nothing has, and laws without a test.
fn check(names: &Names, document: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let place = format!("{document}:{}", at + 1);
        let lost = quoted(line).filter(|name| names.find(name) == Found::Nothing);
        complaints.extend(lost.map(|name| format!("{place}: there is no `{name}`")));
        let cells: Vec<&str> = line.split('|').collect();
        let numbered = |cell: &str| cell.trim().starts_with(|c: char| c.is_ascii_digit());
        let is_law = document.ends_with("laws.md") && cells.len() == 5 && numbered(cells[1]);
        if is_law {
            let tests = quoted(cells[3]).filter(|name| names.find(name) == Found::Test);
            if tests.count() == 0 && !cells[3].contains("wait") {
                complaints.push(format!(
                    "{place}: no test, and it does not say that it waits"
                ));
            }
        }
    }
    complaints
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the repository's root").to_owned()
}

#[test]
fn what_the_documents_name_exists() {
    let names = Names::gather(&root());
    let complaints: Vec<String> = DOCUMENTS
        .iter()
        .flat_map(|document| {
            let text = fs::read_to_string(names.root.join(document)).expect("a document");
            check(&names, document, &text)
        })
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn names_of_nothing_are_found() {
    let names = Names::gather(&root());
    for name in [
        "what_the_documents_name_exists",
        "what_the_documents_…",
        "doors::believes_no_liar",
        "doors::*",
        "t5::faults",
        "t4::selftest::*-hold",
        "pgtable/tests/engine.rs",
        "docs/laws.md",
        "arm64/pte",
    ] {
        assert_eq!(names.find(name), Found::Test, "{name}");
    }
    for name in [
        "no_test_of_this_name",
        "no_test_of_…",
        "t5::no_such_trial",
        "t9::*",
        "docs/no_such_file.md",
        "Gather::no_such_function",
        "NoSuchType::release",
    ] {
        assert_eq!(names.find(name), Found::Nothing, "{name}");
        let text = format!("a line\nsee `{name}`, a test\n");
        assert_eq!(check(&names, "a.md", &text).len(), 1, "{name}");
    }
    for name in [
        "munmap",
        "TPIDR_EL0",
        "cargo xtask ci",
        "Gather::release",
        "-icount shift=0",
    ] {
        assert_eq!(names.find(name), Found::Other, "{name}");
    }
}

#[test]
fn a_law_without_a_test_is_found() {
    let names = Names::gather(&root());
    let law = |last: &str| check(&names, "laws.md", &format!("| 3 | what | {last} |\n")).len();
    assert_eq!(law("the type offers nothing else"), 1);
    assert_eq!(law("`munmap`"), 1);
    assert_eq!(law("waits for userfaultfd"), 0);
    assert_eq!(law("`doors::believes_no_liar`"), 0);
}

#[test]
fn dots_and_stars_stand_for_the_rest() {
    assert!(stands_for("a_b", "a_b") && !stands_for("a_b", "a_b_c") && !stands_for("b", "a_b"));
    assert!(stands_for("a_…", "a_b") && stands_for("*_b", "a_b") && stands_for("a*c*e", "abcde"));
    assert!(!stands_for("a*x*e", "abcde") && !stands_for("a_…c", "a_b"));
}
