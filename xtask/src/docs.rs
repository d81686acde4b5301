//! `cargo xtask docs`: writes `docs/calls.md` from the crate `abi`, and the example in `docs/native.md`
//! from the program that it is, so that they cannot say anything else. The table of calls is data there; what rights, kinds and words mean stands in the comments,
//! which are read from the source.

use std::fmt::Write;

use abi::Rights;
use abi::calls::{Call, TABLE};
use anyhow::{Context, Result};

use crate::workspace::{Workspace, write_atomically};

const LIB: &str = include_str!("../../kernel/abi/src/lib.rs");
const MESSAGE: &str = include_str!("../../kernel/abi/src/message.rs");

const HEAD: &str = "\
# The kernel's own calls

<!-- Written by `cargo xtask docs` from `kernel/abi`. -->

Programs make them with `svc #1`; `svc #0` is Linux's ABI. How a program uses them without assembly:
[native.md](native.md).
";

/// Families of calls: the first number, and what they are about.
const FAMILIES: [(u64, &str); 8] = [
    (0, "The process and the machine, watched"),
    (8, "Handles"),
    (16, "Endpoints"),
    (32, "Processes"),
    (48, "Threads"),
    (64, "Pagers"),
    (80, "Devices"),
    (u64::MAX, ""),
];

/// Blocks of constants whose comments say what they mean: heading, source, how the block begins.
const BLOCKS: [(&str, &str, &str); 11] = [
    ("Rights", LIB, "pub struct Rights"),
    ("Kinds of handles", LIB, "pub enum Kind"),
    ("What the first program starts with", LIB, "pub mod slot"),
    ("Bindings", LIB, "pub enum Binding"),
    ("Sets of registers", LIB, "pub mod registers"),
    ("Kinds of messages", MESSAGE, "pub enum Kind"),
    ("Words of an exception", MESSAGE, "pub mod exception"),
    ("Words of a resolved fault", MESSAGE, "pub mod resolved"),
    ("Words of a request for a page", MESSAGE, "pub mod request"),
    ("Labels of answers to the kernel", MESSAGE, "pub mod answer"),
    ("Reasons for a missing page", MESSAGE, "pub enum Reason"),
];

const EXAMPLE: &str = include_str!("../../user/servers/src/bin/squares.rs");
/// Where code begins and ends in a page.
const FENCES: [&str; 2] = ["```rust\n", "```\n"];

/// Writes the pages.
///
/// # Errors
/// One cannot be read or written.
pub fn run(workspace: &Workspace) -> Result<u8> {
    let docs = workspace.root().join("docs");
    write_atomically(&docs.join("calls.md"), page()?.as_bytes())?;
    let native = docs.join("native.md");
    let text = std::fs::read_to_string(&native)?;
    write_atomically(&native, with_example(&text)?.as_bytes())?;
    Ok(0)
}

/// A page with the example as its first block of Rust.
fn with_example(text: &str) -> Result<String> {
    let [begin, end] = FENCES;
    let (before, rest) = text.split_once(begin).context("no block of Rust")?;
    let (_, after) = rest.split_once(end).context("a block without an end")?;
    Ok([before, begin, EXAMPLE, end, after].concat())
}

/// The page as it has to be.
fn page() -> Result<String> {
    let mut page = HEAD.to_owned();
    // The first paragraph is about the crate.
    let rules = opening(LIB);
    page.push_str(rules.split_once("\n\n").map_or("", |(_, rest)| rest));
    for pair in FAMILIES.windows(2) {
        let [(first, name), (end, _)] = pair else {
            continue;
        };
        writeln!(page, "\n## {name}\n")?;
        page.push_str("| number | call | result | rights | errors | what it does |\n");
        page.push_str("|---|---|---|---|---|---|\n");
        for call in TABLE
            .iter()
            .filter(|call| (*first..*end).contains(&call.number))
        {
            row(&mut page, call)?;
        }
    }
    page.push_str("\n## Messages\n\n");
    page.push_str(&opening(MESSAGE));
    for (name, source, begin) in BLOCKS {
        writeln!(
            page,
            "\n## {name}\n\n| name | value | meaning |\n|---|---|---|"
        )?;
        let items = items(source, begin);
        anyhow::ensure!(!items.is_empty(), "no `{begin}` in the source");
        for (name, value, meaning) in items {
            writeln!(page, "| `{name}` | {value} | {meaning} |")?;
        }
    }
    Ok(page)
}

fn row(page: &mut String, call: &Call) -> Result<()> {
    let Call {
        number,
        name,
        arguments,
        result,
        rights,
        errors,
        what,
    } = call;
    let rights = names(*rights);
    writeln!(
        page,
        "| {number} | `{name}({arguments})` | {result} | {rights} | {errors} | {what} |"
    )
    .context("a string")
}

fn names(rights: Rights) -> String {
    let names: Vec<_> = rights
        .iter_names()
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    names.join(" ")
}

/// The comment that a source begins with.
fn opening(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    lines
        .map(|line| plain(line.strip_prefix(' ').unwrap_or(line)) + "\n")
        .collect()
}

/// The constants and variants of the block that begins so: name, value, meaning.
fn items(source: &str, begin: &str) -> Vec<(String, String, String)> {
    let lines = source.lines().map(str::trim_start);
    let block = lines.skip_while(|line| !line.starts_with(begin)).skip(1);
    let (mut found, mut meaning) = (Vec::new(), String::new());
    for line in block.take_while(|line| !line.starts_with('}')) {
        if let Some(text) = line.strip_prefix("///") {
            meaning += text;
        } else if let Some((name, value)) = item(line) {
            found.push((name, value, plain(meaning.trim())));
            meaning.clear();
        }
    }
    found
}

/// `const NAME: T = VALUE;`, `pub const NAME: T = VALUE;` or `Name = VALUE,`.
fn item(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(" = ")?;
    let name = name.strip_prefix("pub ").unwrap_or(name);
    let name = name.strip_prefix("const ").unwrap_or(name);
    let name = name.split(':').next()?;
    let value = value.trim_end_matches([';', ',']);
    Some((name.into(), value.into()))
}

/// A comment without the links of documentation that is made from code.
fn plain(text: &str) -> String {
    text.replace("[`", "`").replace("`]", "`")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = include_str!("../../docs/calls.md");
    const NATIVE: &str = include_str!("../../docs/native.md");

    #[test]
    fn the_example_is_the_program() {
        let page = with_example(NATIVE).expect("a page with an example");
        assert!(
            page == NATIVE,
            "docs/native.md is stale: run cargo xtask docs"
        );
    }

    #[test]
    fn the_page_is_what_the_abi_says() {
        let page = page().expect("a page");
        assert!(page == OLD, "docs/calls.md is stale: run cargo xtask docs");
        for call in TABLE {
            let row = format!("| {} | `{}(", call.number, call.name);
            assert_eq!(page.matches(&row).count(), 1, "{}", call.name);
        }
    }

    #[test]
    fn a_block_is_read_with_its_comments() {
        let source = "/// No.\npub enum A {\n    /// One,\n    /// [`two`].\n    B = 1,\n}\n";
        let expected = ("B".into(), "1".into(), "One, `two`.".into());
        assert_eq!(items(source, "pub enum A"), [expected]);
        let source = "pub mod a {\n    /// Says `x`.\n    pub const B: u32 = 1 << 2;\n}\n";
        let expected = ("B".into(), "1 << 2".into(), "Says `x`.".into());
        assert_eq!(items(source, "pub mod a"), [expected]);
    }
}
