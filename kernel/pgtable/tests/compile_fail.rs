//! The compile-fail suite: what the types forbid stays forbidden (PTE-09).
//!
//! Each file of `compile_fail/` breaks one rule on one line, which says at its end by which error it
//! has to be refused: `//~ E0614`. The line above it, behind `//=`, is the line as it would be
//! right: with that one line exchanged the file compiles, so it is refused for nothing else. The
//! first line of a file names the requirements that it is for; how many each has is counted below.
//!
//! All files are checked by one cargo command in a project of their own, offline, with the sources
//! that this test was built from. See decision 0006 for why it is not done by snapshots.
#![cfg(not(miri))]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value as Json;

/// Cases by requirement. A case that is added is counted here; none is lost unnoticed.
const COUNTS: [(&str, usize); 14] = [
    ("CTOR-05", 7),
    ("CTOR-08", 9),
    ("D17", 11),
    ("TAG-24", 2),
    ("GUP-02", 7),
    ("GUP-03", 5),
    ("GUP-12", 12),
    ("GUP-19", 9),
    ("PTE-01", 24),
    ("PTE-03", 16),
    ("PTE-04", 5),
    ("PTE-06", 7),
    ("PTE-08", 12),
    ("PTE-21", 7),
];

/// Cases that are no good, each in one way, to see that this is noticed.
const LIARS: [(&str, &str); 3] = [
    (
        "liar_compiles",
        "//! X: \n//= 1;\nconst A: u8 = 1; //~ E0308\n",
    ),
    (
        "liar_other_code",
        "//! X: \n//= 1;\nconst A: u8 = b; //~ E0308\n",
    ),
    (
        "liar_other_line",
        "//! X: \n//= 1;\nconst A: u8 = 1; //~ E0308\nconst B: u8 = \"\";\n",
    ),
];

/// A file of the suite.
#[derive(Debug)]
struct Case {
    name: String,
    source: String,
    /// The requirements it is for.
    ids: Vec<String>,
    /// The line that is refused, from 1, and by which error.
    line: usize,
    code: String,
    /// The same with that line as it would be right.
    twin: String,
}

impl Case {
    fn parse(name: &str, source: &str) -> Result<Self, String> {
        let lines: Vec<&str> = source.lines().collect();
        let head = lines.first().and_then(|line| line.strip_prefix("//! "));
        let (ids, _) = head
            .and_then(|head| head.split_once(": "))
            .ok_or(format!("{name}: the first line names no requirement"))?;
        let marked: Vec<usize> = (0..lines.len())
            .filter(|at| lines[*at].contains("//~"))
            .collect();
        let [at] = marked[..] else {
            return Err(format!("{name}: {} lines with //~, not one", marked.len()));
        };
        let (wrong, code) = lines[at].split_once(" //~ ").unwrap_or_default();
        let right = at.checked_sub(1).and_then(|above| {
            let text = lines[above].trim_start();
            Some(text.strip_prefix("//=")?.trim())
        });
        let right = right.ok_or(format!("{name}: no //= above the line"))?;
        let is_code = code.len() == 5 && code.starts_with('E');
        if !is_code || wrong.trim() == right {
            return Err(format!("{name}: no error code, or a twin that is no other"));
        }
        let mut twin = lines.clone();
        twin[at] = right;
        Ok(Self {
            name: name.to_owned(),
            source: source.to_owned(),
            ids: ids.split(", ").map(str::to_owned).collect(),
            line: at + 1,
            code: code.to_owned(),
            twin: twin.join("\n") + "\n",
        })
    }

    /// What is wrong with what the compiler said of the file.
    fn judge(&self, errors: &[CompileError]) -> Result<(), String> {
        let (name, code, line) = (&self.name, &self.code, self.line);
        if errors.is_empty() {
            return Err(format!(
                "{name}: compiles, {code} was expected in line {line}"
            ));
        }
        let expected = |error: &&CompileError| error.code == *code && error.lines.contains(&line);
        match errors.iter().find(|error| !expected(error)) {
            None => Ok(()),
            Some(other) => Err(format!(
                "{name}: {code} was expected in line {line}, not this:\n{}",
                other.text
            )),
        }
    }
}

/// An error with a place.
#[derive(Debug)]
struct CompileError {
    code: String,
    lines: Vec<usize>,
    text: String,
}

impl CompileError {
    fn of(message: &Json) -> Option<Self> {
        let spans = message["spans"]
            .as_array()
            .filter(|spans| !spans.is_empty())?;
        let primary = spans.iter().filter(|span| span["is_primary"] == true);
        (message["level"] == "error").then(|| Self {
            code: message["code"]["code"]
                .as_str()
                .unwrap_or("no code")
                .to_owned(),
            lines: primary
                .filter_map(|span| span["line_start"].as_u64())
                .map(|line| line as usize)
                .collect(),
            text: message["rendered"].as_str().unwrap_or_default().to_owned(),
        })
    }
}

fn cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail");
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .expect("the suite's directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let parse = |path: &PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Case::parse(&name, &fs::read_to_string(path).expect("a text"))
    };
    files
        .iter()
        .map(parse)
        .collect::<Result<_, _>>()
        .expect("well-formed cases")
}

/// Writes what has changed, so that cargo finds the rest fresh.
fn write(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return;
    }
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(path, text).expect("a file");
}

/// A project with the twins as modules of its library, and each case as a program.
fn write_project(dir: &Path, cases: &[Case]) {
    let kernel = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("kernel/");
    let names = ["arm64", "frame", "pgtable"];
    let dependency = |name: &&str| format!("{name} = {{ path = {:?} }}\n", kernel.join(name));
    let manifest = format!(
        "[package]\nname = \"compile-fail\"\nedition = \"2024\"\n[workspace]\n\
         [lints.rust]\nwarnings = \"allow\"\n[profile.dev]\ndebug = false\n[dependencies]\n{}",
        names.iter().map(dependency).collect::<String>()
    );
    write(&dir.join("Cargo.toml"), &manifest);
    let lock = kernel.with_file_name("Cargo.lock");
    fs::copy(lock, dir.join("Cargo.lock")).expect("the lock file");
    let _old = fs::remove_dir_all(dir.join("src/bin"));
    let mut twins = String::new();
    for case in cases {
        let name = &case.name;
        write(
            &dir.join(format!("src/bin/{name}.rs")),
            &format!("{}fn main() {{}}\n", case.source),
        );
        if !name.starts_with("liar_") {
            write(&dir.join(format!("src/{name}.rs")), &case.twin);
            twins += &format!("mod {name};\n");
        }
    }
    write(&dir.join("src/lib.rs"), &twins);
}

/// The errors of every target.
fn check(dir: &Path) -> BTreeMap<String, Vec<CompileError>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "check",
        "--quiet",
        "--offline",
        "--keep-going",
        "--lib",
        "--bins",
    ]);
    cargo
        .args(["--message-format", "json", "--manifest-path"])
        .arg(dir.join("Cargo.toml"));
    cargo.arg("--target-dir").arg(dir.join("target"));
    let output = cargo.stdin(Stdio::null()).output().expect("cargo");
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Json>(line).ok());
    let mut errors: BTreeMap<String, Vec<CompileError>> = BTreeMap::new();
    let mut artifacts = BTreeSet::new();
    for message in messages {
        let name = message["target"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match message["reason"].as_str() {
            Some("compiler-artifact") => _ = artifacts.insert(name),
            _ => errors
                .entry(name)
                .or_default()
                .extend(CompileError::of(&message["message"])),
        }
    }
    let twins = errors.remove("compile_fail").unwrap_or_default();
    let twins: Vec<&str> = twins.iter().map(|error| &*error.text).collect();
    assert!(
        twins.is_empty(),
        "twins that do not compile:\n{}",
        twins.join("\n")
    );
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        artifacts.contains("compile_fail"),
        "nothing was compiled:\n{log}"
    );
    errors
}

#[test]
fn what_the_types_forbid_stays_forbidden() {
    let cases = cases();
    let liars = LIARS.map(|(name, source)| Case::parse(name, source).expect("well formed"));
    let all: Vec<Case> = cases.into_iter().chain(liars).collect();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_fail");
    write_project(&dir, &all);
    let errors = check(&dir);
    let none = Vec::new();
    let verdict = |case: &Case| case.judge(errors.get(&case.name).unwrap_or(&none));
    let (liars, cases): (Vec<&Case>, Vec<&Case>) =
        all.iter().partition(|case| case.name.starts_with("liar_"));
    for liar in liars {
        assert!(verdict(liar).is_err(), "{} was believed", liar.name);
    }
    let wrong: Vec<String> = cases
        .into_iter()
        .filter_map(|case| verdict(case).err())
        .collect();
    assert!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn no_case_is_lost() {
    let mut counts = BTreeMap::new();
    let cases = cases();
    for id in cases.iter().flat_map(|case| &case.ids) {
        *counts.entry(id.as_str()).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from(COUNTS), "cases by requirement");
}

#[test]
fn a_case_without_its_parts_is_no_case() {
    let whole = "//! X-1, X-2: why.\n//= let a = 1;\nlet a = b; //~ E0425\n";
    let case = Case::parse("whole", whole).expect("a case");
    assert_eq!((case.line, &*case.code, case.ids.len()), (3, "E0425", 2));
    assert!(case.twin.ends_with("\nlet a = 1;\n"));
    let parts = [
        "//! X-1, X-2: why.\n",
        "//= let a = 1;\n",
        " //~ E0425",
        "X-1, X-2: ",
    ];
    for part in parts {
        assert!(
            Case::parse("part", &whole.replace(part, "")).is_err(),
            "without {part}"
        );
    }
    assert!(Case::parse("empty", "").is_err());
    assert!(Case::parse("same", &whole.replace("a = b", "a = 1")).is_err());
}
