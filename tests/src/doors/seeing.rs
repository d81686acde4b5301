//! What a run shows of itself: figures, traces, pages.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Door;
use super::say::{Said, qemu, say, xtask_command};

pub(super) const DOORS: &[Door] = &[
    ("prints_statistics_as_json", json),
    ("writes_statistics_to_a_file", json_file),
    ("documents_every_statistic", documented),
    ("shows_a_trace", trace),
    ("names_the_categories_that_there_are", wrong_category),
    ("writes_a_page_about_a_run", page),
    ("writes_a_page_about_a_run_that_dies", page_of_death),
    ("wants_a_program_to_report_about", no_program),
    ("refuses_to_report_where_nothing_can_be_written", unwritable),
];

fn report(name: &str, words: &[&str]) -> Result<Said> {
    say(name, xtask_command(&[&["report"], words].concat())?)
}

fn json(name: &str) -> Result<()> {
    let said = qemu(name, &["--stats=json", "--", "hello"])?;
    said.status(0)?;
    let text = said.text();
    let last = text.lines().last().unwrap_or_default();
    let parsed: serde_json::Result<Value> = serde_json::from_str(last);
    said.ensure(
        parsed.is_ok_and(|value| value.is_object()),
        "the last line is no JSON object",
    )?;
    said.ensure(
        text.starts_with("Hello from EL0.\n"),
        "the output is not the program's",
    )
}

fn json_file(name: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("stats.json");
    let option = format!("--stats=json:{}", file.display());
    let said = qemu(name, &[&option, "--", "hello"])?;
    said.status(0)?;
    said.ensure(
        said.text() == "Hello from EL0.\narg 0: hello\n",
        "standard output is not pure",
    )?;
    let written = fs::read_to_string(&file)?;
    let parsed: serde_json::Result<Value> = serde_json::from_str(&written);
    said.ensure(
        written.lines().count() == 1 && parsed.is_ok_and(|value| value["memory"].is_object()),
        &format!("not one line of JSON: {written}"),
    )?;
    let option = format!("--stats=json:{}/no/such/folder", folder.path().display());
    let said = qemu(&format!("{name}_not"), &[&option, "--", "hello"])?;
    said.status(2)?;
    said.ensure(said.out.is_empty(), "it ran all the same")?;
    said.says(&["cannot write", "no/such/folder"])
}

/// The keys of a JSON object, those of objects in it with a point between.
fn keys(value: &Value, prefix: &str, into: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let key = match key.strip_prefix("level_") {
            Some(_) => "level_N",
            None => key,
        };
        let path = format!("{prefix}{key}");
        match value.is_object() {
            true => keys(value, &format!("{path}."), into),
            false => {
                into.insert(path);
            }
        }
    }
}

/// docs/counters.md has a row for each key, and each of its rows is a key.
fn documented(name: &str) -> Result<()> {
    let said = qemu(name, &["--icount", "--stats=json", "--", "hello"])?;
    said.status(0)?;
    let text = said.text();
    let stats: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    let mut there = BTreeSet::new();
    keys(&stats, "", &mut there);
    // The sums over all spaces are documented by one row.
    let sums = |key: &String| {
        let key = key.strip_prefix("all_spaces.");
        key.is_some_and(|key| there.contains(&format!("memory.{key}")))
    };
    let summed = there.iter().filter(|key| sums(key)).count();
    let mut expected: BTreeSet<_> = there.iter().filter(|key| !sums(key)).cloned().collect();
    said.ensure(summed > 30, &format!("only {summed} sums over all spaces"))?;
    expected.insert("all_spaces.…".into());
    let rows = include_str!("../../../docs/counters.md").lines();
    let cells = rows.filter_map(|row| row.strip_prefix("| `")?.split_once('`'));
    let categories: BTreeSet<_> = mm::trace::Category::ALL
        .iter()
        .map(|(_, word)| *word)
        .collect();
    let documented: BTreeSet<_> = cells
        .map(|(cell, _)| cell)
        .filter(|cell| !categories.contains(cell))
        .map(str::to_owned)
        .collect();
    let differing: Vec<_> = documented.symmetric_difference(&expected).collect();
    said.ensure(
        differing.is_empty(),
        &format!("in the document or in the figures only: {differing:?}"),
    )
}

fn trace(name: &str) -> Result<()> {
    let said = qemu(name, &["--trace", "fault,map", "--", "hello"])?;
    said.status(0)?;
    said.ensure(
        said.text() == "Hello from EL0.\narg 0: hello\n",
        "standard output is not pure",
    )?;
    said.says(&["what happened:", "fault_image", "fetch", "mmap", " events"])?;
    said.ensure(
        !said.err.contains("table_made") && !said.err.contains("flush_"),
        "categories that nobody asked for are shown",
    )
}

fn wrong_category(name: &str) -> Result<()> {
    for task_name in ["qemu", "report"] {
        let words = [task_name, "--trace", "fault,folt", "--", "hello"];
        let said = say(&format!("{name}_{task_name}"), xtask_command(&words)?)?;
        said.status(2)?;
        said.says(&["`folt`", "fault, map, zap, fold", "all"])?;
        said.ensure(said.out.is_empty(), "it ran all the same")?;
    }
    Ok(())
}

fn page(name: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("page.html");
    let out = file.to_str().context("odd path")?;
    let said = report(name, &["--out", out, "--", "folios"])?;
    said.status(0)?;
    said.says(&["the report is in", out])?;
    let page = fs::read_to_string(&file)?;
    for part in [
        "<!doctype html>",
        "program exited with status 0",
        "[stack]",
        "contiguous blocks of 64 KiB",
        "class=\"anon\"",
        "anon: ",
        "<th>level 3</th>",
        "<th>folds</th>",
    ] {
        said.ensure(page.contains(part), &format!("the page lacks {part}"))?;
    }
    said.ensure(!page.contains("<script"), "the page has a script")
}

fn page_of_death(name: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("page.html");
    let out = file.to_str().context("odd path")?;
    let said = report(name, &["--out", out, "--", "faults", "null-read"])?;
    said.status(128 + 11)?;
    let page = fs::read_to_string(&file)?;
    for part in ["SIGSEGV", "segv 1", "[stack]"] {
        said.ensure(page.contains(part), &format!("the page lacks {part}"))?;
    }
    // A kernel that dies tells the newest events with its report.
    let bug = ["--bootarg", "tessera.panic=1", "--out", out, "--", "hello"];
    let said = report(&format!("{name}_kernel"), &bug)?;
    said.status(70)?;
    let page = fs::read_to_string(&file)?;
    for part in ["kernel bug: ", "table_made", "described no space"] {
        said.ensure(page.contains(part), &format!("the page lacks {part}"))?;
    }
    Ok(())
}

fn no_program(name: &str) -> Result<()> {
    let said = report(name, &[])?;
    said.status(2)?;
    said.says(&["which program?", "cargo xtask report"])
}

fn unwritable(name: &str) -> Result<()> {
    let said = report(name, &["--out", "/no/such/folder/page.html", "--", "hello"])?;
    said.status(2)?;
    said.says(&["cannot write /no/such/folder/page.html"])?;
    said.ensure(said.out.is_empty(), "it ran all the same")
}
