//! `cargo xtask mutants`: are the tests any good? (DESIGN §5, tier T7)
//!
//! Each fault of `sync::planted` is planted in turn, and the test that `tests/mutants.txt` names
//! for it must fail then, having passed without. The faults are switches of one build: nothing is
//! compiled between two of them.

mod build;
mod table;
mod trial;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use sync::planted::Fault;
use xtask::ending::status;

use crate::cli::Mutants;
use crate::failure::failure;
use crate::test::Tally;
use crate::ui;
use crate::workspace::Workspace;
use build::Builds;
use table::{Row, Table, Test};
use trial::{Clean, Verdict};

/// The table in the repository.
const TABLE: &str = "tests/mutants.txt";

/// Runs or lists the faults.
///
/// # Errors
/// The table cannot be read, a name is no fault's, or the tests cannot be built.
pub fn run(workspace: &Workspace, options: &Mutants) -> Result<u8> {
    if options.list {
        return list(workspace, options);
    }
    let tally = tally(workspace, options)?;
    println!("{}", tally.line());
    Ok(tally.status())
}

/// Plants every fault asked for, one line for each, and counts: killed ones have passed.
///
/// # Errors
/// As [`run`].
pub fn tally(workspace: &Workspace, options: &Mutants) -> Result<Tally> {
    let table = read(workspace, options)?;
    let names = wanted(&options.names)?;
    let mut total = Tally::default();
    for complaint in &table.complaints {
        println!("BAD ROW   {complaint}");
        total.failed += 1;
    }
    let rows = names.iter().filter_map(|name| table.row(name));
    let builds = Builds::make(workspace, rows.map(|row| &row.test))?;
    let mut clean = BTreeMap::new();
    for name in names {
        let line = match table.row(name) {
            None => Line::failed("NO TEST", name, "no row of the table names one".to_owned()),
            Some(row) => judge(&builds, row, &mut clean)?,
        };
        println!("{line}");
        total.add(line.tally());
    }
    Ok(total)
}

/// What is said about one fault.
struct Line {
    killed: bool,
    word: &'static str,
    name: String,
    text: String,
}

impl Line {
    fn failed(word: &'static str, name: &str, text: String) -> Self {
        let (killed, name) = (false, name.to_owned());
        Self {
            killed,
            word,
            name,
            text,
        }
    }

    fn tally(&self) -> Tally {
        Tally {
            passed: u64::from(self.killed),
            failed: u64::from(!self.killed),
        }
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            word, name, text, ..
        } = self;
        write!(f, "{word:<9} {name:<27} {text}")
    }
}

/// Runs the test of a row without the fault, unless another row has had it run, and with it.
fn judge(builds: &Builds, row: &Row, clean: &mut BTreeMap<Test, Clean>) -> Result<Line> {
    let name = &row.fault;
    let step = ui::Step::new(format!("planting {name}"));
    let Some(command) = builds.command(&row.test)? else {
        let text = format!("{} does not exist (line {})", row.test, row.line);
        return Ok(Line::failed("NO TEST", name, text));
    };
    let without = match clean.get(&row.test) {
        Some(known) => known.clone(),
        None => trial::clean(command, row.test.patience())?,
    };
    clean.insert(row.test.clone(), without.clone());
    let took = match without {
        Clean::Passed(took) => took,
        Clean::Failed(why) => {
            let text = format!("{} fails without a fault: {why}", row.test);
            return Ok(Line::failed("BROKEN", name, text));
        }
    };
    let Some(command) = builds.command(&row.test)? else {
        return Ok(Line::failed("NO TEST", name, row.test.to_string()));
    };
    let verdict = trial::planted(command, name, limit(took, row.test.patience()))?;
    drop(step);
    Ok(told(row, &verdict))
}

/// How long a test may take with a fault before it counts as hanging.
fn limit(clean: Duration, patience: Duration) -> Duration {
    patience.max(clean * 10)
}

fn told(row: &Row, verdict: &Verdict) -> Line {
    let (name, test) = (&row.fault, &row.test);
    match verdict {
        Verdict::Killed { how, took } => Line {
            killed: true,
            word: "killed",
            name: name.clone(),
            text: format!("by {test}{how} ({:.1} s)", took.as_secs_f32()),
        },
        Verdict::Survived => Line::failed("SURVIVED", name, format!("{test} passes with it")),
    }
}

fn list(workspace: &Workspace, options: &Mutants) -> Result<u8> {
    let table = read(workspace, options)?;
    for complaint in &table.complaints {
        println!("BAD ROW   {complaint}");
    }
    for name in wanted(&options.names)? {
        match table.row(name) {
            Some(row) => println!("{name:<27} {}", row.test),
            None => println!("{name:<27} -"),
        }
    }
    Ok(u8::from(!table.complaints.is_empty()))
}

fn read(workspace: &Workspace, options: &Mutants) -> Result<Table> {
    let given = options.table.clone();
    let path = given.unwrap_or_else(|| workspace.root().join(PathBuf::from(TABLE)));
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Table::parse(&text, &|name| Fault::named(name).is_some()))
}

/// The faults named, or all.
fn wanted(names: &[String]) -> Result<Vec<&'static str>> {
    let all = Fault::ALL.iter().map(|&(_, name)| name);
    if let Some(unknown) = names.iter().find(|name| Fault::named(name).is_none()) {
        let message = format!("no fault is called {unknown}; --list shows all");
        return Err(failure(status::USAGE, message));
    }
    Ok(all
        .filter(|name| names.is_empty() || names.iter().any(|wanted| wanted == name))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let table = Table::parse("SkipFlush host model storm a::b\n", &|_| true);
        table.row("SkipFlush").unwrap().clone()
    }

    #[test]
    fn only_a_killed_fault_has_passed() {
        let took = Duration::from_millis(840);
        let how = "";
        let killed = told(&row(), &Verdict::Killed { how, took });
        assert_eq!(
            killed.to_string(),
            "killed    SkipFlush                   by model storm::a::b (0.8 s)"
        );
        let survived = told(&row(), &Verdict::Survived);
        assert!(survived.to_string().starts_with("SURVIVED  SkipFlush "));
        let mut total = killed.tally();
        total.add(survived.tally());
        assert_eq!(
            (total.line().as_str(), total.status()),
            ("1 passed, 1 failed", 1)
        );
    }

    #[test]
    fn a_hang_is_told_from_a_slow_test() {
        let patience = Duration::from_secs(20);
        assert_eq!(limit(Duration::from_millis(3), patience), patience);
        assert_eq!(
            limit(Duration::from_secs(9), patience),
            Duration::from_secs(90)
        );
    }

    #[test]
    fn names_are_checked_and_keep_the_order_of_the_list() {
        assert_eq!(wanted(&[]).unwrap().len(), Fault::ALL.len());
        let two = ["NarrowFlush".to_owned(), "SkipFlush".to_owned()];
        assert_eq!(wanted(&two).unwrap(), ["SkipFlush", "NarrowFlush"]);
        let error = wanted(&["Skipflush".to_owned()]).unwrap_err();
        assert_eq!(crate::failure::status_of(&error), status::USAGE);
    }
}
