//! House rules that no other tool checks. Each has a number in `RULES`' order, a reason here, and
//! a unit test with a planted violation.

mod code;
mod names;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use code::{code_only, has_word};

/// A text file of the repository.
struct Text<'a> {
    /// Path from the root, with slashes.
    path: &'a str,
    /// The lines as they are.
    lines: Vec<&'a str>,
    /// The lines of a Rust file without comments and the contents of strings; else empty.
    code: Vec<String>,
}

impl<'a> Text<'a> {
    fn new(path: &'a str, text: &'a str) -> Self {
        let code = if path.ends_with(".rs") {
            code_only(text)
        } else {
            Vec::new()
        };
        Self {
            path,
            lines: text.lines().collect(),
            code,
        }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

/// A rule returns the lines (from 1) that break it, each with what is wrong.
type Rule = fn(&Text<'_>) -> Vec<(usize, String)>;

const RULES: [Rule; 8] = [
    unsafe_in_its_place,
    asm_in_its_place,
    unsafe_has_a_reason,
    no_leftovers,
    descriptor_bits_in_the_codec,
    files_say_what_they_are,
    no_paths_of_a_machine,
    names::check,
];

/// Where `unsafe` may stand: what reaches memory or the machine. Everything else is kept safe by
/// the compiler (`forbid(unsafe_code)`) or by this rule.
const UNSAFE: [&str; 9] = [
    "boot/",
    "kernel/frame/",
    "kernel/pgtable/",
    "kernel/sync/",
    "kernel/src/arch/",
    // The maker of boot tables, which boot and kernel share and host tests run.
    "kernel/src/early/tables.rs",
    "kernel/model/",
    "user/",
    "tests/",
];

/// Where instructions may be spelt; `tests` has kernels that lie.
const ASM: [&str; 5] = [
    "boot/",
    "kernel/src/arch/",
    "kernel/sync/",
    "user/",
    "tests/",
];

/// How many lines above an `unsafe` its reason may begin.
const REACH: usize = 12;

/// Checks every text file below the root; the complaints are `path:line: what`.
///
/// # Errors
/// A file cannot be read.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut sources = Vec::new();
    for file in files(root)? {
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let (Ok(text), Ok(path)) = (String::from_utf8(bytes), file.strip_prefix(root)) else {
            continue;
        };
        sources.push((path.to_string_lossy().into_owned(), text));
    }
    let texts: Vec<Text<'_>> = sources
        .iter()
        .map(|(path, text)| Text::new(path, text))
        .collect();
    let excepted = tables::ALL
        .iter()
        .flat_map(|rule| rule.check_exceptions(&texts));
    Ok(texts.iter().flat_map(check_text).chain(excepted).collect())
}

fn check_text(text: &Text<'_>) -> Vec<String> {
    let by_rule = RULES.iter().flat_map(|rule| rule(text));
    let by_signs = tables::ALL.iter().flat_map(|rule| rule.check(text));
    let found = by_rule.chain(by_signs);
    found
        .map(|(line, what)| format!("{}:{line}: {what}", text.path))
        .collect()
}

/// Files that people write: no build output, no version control, no lock file, no licence texts.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut dirs) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                let built = dir == root && matches!(name.as_str(), "target" | "out");
                if name != ".git" && !built {
                    dirs.push(path);
                }
            } else if is_written(&name) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_written(name: &str) -> bool {
    let endings = [".rs", ".toml", ".md", ".ld", ".sh", ".yml", ".S", ".gdb"];
    name == "run" || endings.iter().any(|ending| name.ends_with(ending))
}

fn lines_where<'a, T: AsRef<str> + 'a>(
    lines: &'a [T],
    broken: impl Fn(&str) -> Option<String> + 'a,
) -> Vec<(usize, String)> {
    let numbered = lines.iter().enumerate();
    numbered
        .filter_map(|(at, line)| Some((at + 1, broken(line.as_ref())?)))
        .collect()
}

fn unsafe_in_its_place(text: &Text<'_>) -> Vec<(usize, String)> {
    if text.is_in(&UNSAFE) {
        return Vec::new();
    }
    lines_where(&text.code, |line| {
        has_word(line, "unsafe").then(|| "`unsafe` in safe code".into())
    })
}

fn asm_in_its_place(text: &Text<'_>) -> Vec<(usize, String)> {
    if text.is_in(&ASM) {
        return Vec::new();
    }
    let macros = ["asm!", "global_asm!", "naked_asm!"];
    lines_where(&text.code, |line| {
        let found = macros.iter().any(|name| has_word(line, name));
        found.then(|| "assembly outside of the architecture's code".into())
    })
}

/// The reason stands in a comment with `SAFETY:` (a use) or `# Safety` (what a caller must keep),
/// at most [`REACH`] lines above, or on the same line.
fn unsafe_has_a_reason(text: &Text<'_>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, line) in text.code.iter().enumerate() {
        // In a type, `unsafe fn(…)` promises nothing yet.
        if !has_word(&line.replace("unsafe fn(", ""), "unsafe") {
            continue;
        }
        let above = &text.lines[at.saturating_sub(REACH)..=at];
        let reason = |line: &&str| line.contains("SAFETY:") || line.contains("# Safety");
        if !above.iter().any(reason) {
            found.push((at + 1, "`unsafe` without a SAFETY comment".to_owned()));
        }
    }
    found
}

/// Words that promise work instead of doing it.
fn no_leftovers(text: &Text<'_>) -> Vec<(usize, String)> {
    // Spelt in two parts so that this file keeps the rule itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("HA", "CK"),
        concat!("todo", "!"),
        concat!("unimpl", "emented!"),
    ];
    lines_where(&text.lines, |line| {
        let word = words.into_iter().find(|word| has_word(line, word))?;
        Some(format!("`{word}` left in the text"))
    })
}

/// Law 1: bits of a translation table descriptor are spelt in `arm64/pte` only. The signs looked
/// for are shifts into the upper attributes, masks of the output address, and the bits' names. The
/// codec's own tests, the model and the independent reader in `tests` spell them again on purpose.
fn descriptor_bits_in_the_codec(text: &Text<'_>) -> Vec<(usize, String)> {
    let in_kernel = text.is_in(&["kernel/", "boot/"]);
    if !in_kernel
        || text.is_in(&[
            "kernel/arm64/src/pte",
            "kernel/arm64/tests/",
            "kernel/model/src/descriptor.rs",
        ])
    {
        return Vec::new();
    }
    // Registers have high bits too, and `arm64` is where they are spelt.
    let numbers = !text.is_in(&["kernel/arm64/"]);
    let names = [
        "DBM",
        "PXN",
        "UXN",
        "AP_RO",
        "AP_EL0",
        "PTE_CONT",
        "PTE_VALID",
        "PTE_AF",
    ];
    lines_where(&text.code, |line| {
        let name = names
            .iter()
            .any(|name| has_word(line, name) && line.contains("const "));
        let shift = numbers && (50..=58).any(|bit| has_word(line, &format!("1 << {bit}")));
        let mask = numbers
            && line
                .to_lowercase()
                .replace('_', "")
                .contains("0x0000fffffffff000");
        (name || shift || mask).then(|| "a descriptor bit outside of arm64/pte (law 1)".into())
    })
}

fn files_say_what_they_are(text: &Text<'_>) -> Vec<(usize, String)> {
    let begins = text
        .lines
        .first()
        .is_some_and(|line| line.starts_with("//!"));
    if !text.is_rust() || begins {
        return Vec::new();
    }
    vec![(1, "the file does not begin with `//!`".to_owned())]
}

/// Paths that exist on one machine only.
fn no_paths_of_a_machine(text: &Text<'_>) -> Vec<(usize, String)> {
    let paths = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
        concat!("/Us", "ers/"),
    ];
    lines_where(&text.lines, |line| {
        let path = paths.into_iter().find(|path| {
            line.match_indices(path)
                .any(|(at, _)| !line[..at].ends_with(is_path_character))
        })?;
        Some(format!("`{path}` is a path of one machine"))
    })
}

fn is_path_character(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | '~' | '$' | ')')
}

#[cfg(test)]
mod tests;
