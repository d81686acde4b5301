//! `tests/mutants.txt`: which test kills which fault.
//!
//! One row per line, words separated by white space; `#` begins a comment. A row is the fault's
//! name, then one of
//!
//! - `host PACKAGE BINARY TEST`: a test of `cargo test`; the binary is `lib` for unit tests, else
//!   the name of a file in the package's `tests`;
//! - `loom PACKAGE BINARY TEST`: the same, built with `--cfg loom`;
//! - `boot TRIAL`: a trial of the harness that boots the kernel, with the fault as a boot argument.

use std::fmt;
use std::time::Duration;

/// How a test is built and run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// A host test.
    Host,
    /// A host test on loom's atomics.
    Loom,
    /// A trial in QEMU.
    Boot,
}

/// A test that a row names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// How it is run.
    pub tier: Tier,
    /// The package.
    pub package: String,
    /// The test binary: `lib`, or the name of an integration test.
    pub binary: String,
    /// The test in it.
    pub name: String,
}

impl Test {
    /// How long a quick test may take before it hangs. A boot has a watchdog of its own, which must
    /// be the first to bite: it is what stops QEMU.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(match self.tier {
            Tier::Host => 60,
            Tier::Loom => 120,
            Tier::Boot => 1000,
        })
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            package,
            binary,
            name,
            ..
        } = self;
        match (self.tier, binary.as_str()) {
            (Tier::Boot, _) => f.write_str(name),
            (_, "lib") => write!(f, "{package} {name}"),
            _ => write!(f, "{package} {binary}::{name}"),
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The fault's name.
    pub fault: String,
    /// The test that kills it.
    pub test: Test,
    /// Where the row stands, from 1.
    pub line: usize,
}

/// The rows that mean something, and what is wrong with the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    rows: Vec<Row>,
    /// One sentence for each row that is wrong.
    pub complaints: Vec<String>,
}

impl Table {
    /// Reads a table; `is_fault` knows the names of faults.
    pub fn parse(text: &str, is_fault: &dyn Fn(&str) -> bool) -> Self {
        let mut table = Self::default();
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.split('#').next().unwrap_or_default();
            let words: Vec<&str> = content.split_ascii_whitespace().collect();
            if words.is_empty() {
                continue;
            }
            match row(&words, line).and_then(|row| table.fits(row, is_fault)) {
                Ok(row) => table.rows.push(row),
                Err(why) => table.complaints.push(format!("line {line}: {why}")),
            }
        }
        table
    }

    fn fits(&self, row: Row, is_fault: &dyn Fn(&str) -> bool) -> Result<Row, String> {
        if !is_fault(&row.fault) {
            return Err(format!("no fault is called {}", row.fault));
        }
        match self.row(&row.fault) {
            Some(first) => Err(format!(
                "{} has a row already, line {}",
                row.fault, first.line
            )),
            None => Ok(row),
        }
    }

    /// The row of a fault.
    pub fn row(&self, fault: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.fault == fault)
    }
}

fn row(words: &[&str], line: usize) -> Result<Row, String> {
    let (tier, package, binary, name) = match words[1..] {
        ["host", package, binary, name] => (Tier::Host, package, binary, name),
        ["loom", package, binary, name] => (Tier::Loom, package, binary, name),
        ["boot", trial] => (Tier::Boot, "tests", "qemu", trial),
        _ => {
            return Err(
                "expected FAULT host|loom PACKAGE BINARY TEST, or FAULT boot TRIAL".to_owned(),
            );
        }
    };
    Ok(Row {
        fault: words[0].to_owned(),
        test: Test {
            tier,
            package: package.to_owned(),
            binary: binary.to_owned(),
            name: name.to_owned(),
        },
        line,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Table {
        Table::parse(text, &|name| name.starts_with("Skip"))
    }

    #[test]
    fn rows_name_a_test_of_each_tier() {
        let table = parse(
            "# what kills what\n\nSkipA host mm lib a::b # reason\nSkipB loom sync loom c\n\
             SkipC   boot\tt4::selftest::max-1\n",
        );
        assert_eq!(table.complaints, [""; 0]);
        let test = |name: &str| table.row(name).unwrap().test.clone();
        assert_eq!(test("SkipA").to_string(), "mm a::b");
        assert_eq!(test("SkipB").to_string(), "sync loom::c");
        assert_eq!(test("SkipC").to_string(), "t4::selftest::max-1");
        let tiers = ["SkipA", "SkipB", "SkipC"].map(|name| test(name).tier);
        assert_eq!(tiers, [Tier::Host, Tier::Loom, Tier::Boot]);
        assert_eq!(table.row("SkipC").unwrap().line, 5);
        assert!(table.row("SkipD").is_none());
    }

    #[test]
    fn every_wrong_row_is_told_with_its_line() {
        let table = parse(
            "SkipA host mm lib a\nSkipA host mm lib b\nOther boot x\nSkipB\nSkipC host mm a\n\
             SkipD qemu x\nSkipE boot x y\n",
        );
        let lines: Vec<_> = table
            .complaints
            .iter()
            .map(|complaint| complaint.split(':').next().unwrap())
            .collect();
        assert_eq!(
            lines,
            ["line 2", "line 3", "line 4", "line 5", "line 6", "line 7"]
        );
        assert!(table.complaints[0].contains("line 1"), "{table:?}");
        assert!(table.complaints[1].contains("no fault is called Other"));
        assert_eq!(table.row("SkipA").unwrap().test.name, "a");
    }
}
