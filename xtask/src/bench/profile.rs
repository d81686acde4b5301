//! Where the instructions of one row go: a table by function, and a listing with every
//! instruction that was run.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSymbol};
use xtask::guest::{Guest, Limits};
use xtask::machine::Machine;

use super::program::{self, Said};
use super::trace::Trace;
use crate::symbolize::{Place, Places};
use crate::ui;
use crate::workspace::write_atomically;

/// Seconds; a row takes ten.
const LIMIT: u64 = 600;
/// The kernel's half of the address space, as QEMU writes ranges.
const KERNEL: &str = "0xffff000000000000..0xfffffffffffffffe";
/// A share below this is not worth a line in the table.
const SHARE: f64 = 0.01;
/// Characters of a name in the table.
const NAME: usize = 90;

/// What to profile.
pub struct Subject<'a> {
    /// The machine, with a program that marks the row.
    pub machine: Machine,
    /// The kernel's ELF.
    pub kernel: &'a Path,
    /// The program's ELF.
    pub program: &'a Path,
    /// The row.
    pub row: &'a str,
    /// Where the listing goes.
    pub listing: PathBuf,
}

/// Runs the row under QEMU's trace and prints the table.
///
/// # Errors
/// QEMU cannot be started, an ELF cannot be read, or the row was not measured.
pub fn run(subject: &Subject<'_>, qemu: &Path) -> Result<()> {
    let [begin, end] = marks(subject.program)?;
    let machine = subject
        .machine
        .clone()
        .arg("-d")
        .arg("in_asm,exec,nochain")
        .arg("-dfilter")
        .arg(format!("{KERNEL},{begin:#x}+4,{end:#x}+4"));
    let step = ui::Step::new(format!("tracing {}", subject.row));
    let trace = Arc::new(Mutex::new(Trace::between(begin, end)));
    let listener = Arc::clone(&trace);
    let listener = move |line: &[u8]| {
        let mut trace = listener.lock().unwrap_or_else(PoisonError::into_inner);
        trace.take(line)
    };
    let guest = Guest::spawn_traced(&machine, qemu, Box::new(listener))?;
    let said = program::follow(guest, &Limits::secs(LIMIT))?;
    drop(step);
    let measured = match said.iter().find(|said| said.name() == subject.row) {
        Some(Said::Row(measured)) => measured,
        Some(said) => bail!("{}: {}", subject.row, said.reason().unwrap_or_default()),
        None => bail!("the program says nothing of {}", subject.row),
    };
    let trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
    let places = Places::of(subject.kernel)?;
    let functions = functions(&trace, &places);
    let count = measured.count as f64;
    print!(
        "{}",
        table(&functions, measured.cost(), count, &measured.unit)
    );
    write_atomically(
        &subject.listing,
        listing(&functions, &trace, count).as_bytes(),
    )?;
    ui::say(&format!("every instruction: {}", subject.listing.display()));
    Ok(())
}

/// The addresses of the program's two marks.
fn marks(program: &Path) -> Result<[u64; 2]> {
    let bytes =
        std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let file = object::File::parse(&*bytes).context("the program is no ELF")?;
    let address = |name: &str| -> Result<u64> {
        let mut symbols = file.symbols();
        let symbol = symbols.find(|symbol| symbol.name() == Ok(name));
        let symbol = symbol.with_context(|| format!("the program has no `{name}`"))?;
        Ok(symbol.address())
    };
    Ok([address("profile_begin")?, address("profile_end")?])
}

/// A function with its instructions: address, how often run, where from.
struct Function {
    name: String,
    instructions: Vec<(u64, u64, Place)>,
}

impl Function {
    fn total(&self) -> u64 {
        self.instructions.iter().map(|(_, runs, _)| runs).sum()
    }

    /// What was inlined into it, most expensive first; itself included.
    fn parts(&self) -> Vec<(&str, u64)> {
        let mut parts = BTreeMap::<&str, u64>::new();
        for (_, runs, place) in &self.instructions {
            *parts.entry(&place.innermost).or_default() += runs;
        }
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort_by_key(|&(_, runs)| std::cmp::Reverse(runs));
        parts
    }
}

/// The functions that were run, most expensive first.
fn functions(trace: &Trace, places: &Places) -> Vec<Function> {
    let mut functions = BTreeMap::<String, Vec<_>>::new();
    for (address, runs) in trace.instructions() {
        let place = places.at(address);
        let function = functions.entry(place.function.clone()).or_default();
        function.push((address, runs, place));
    }
    let mut functions: Vec<_> = functions
        .into_iter()
        .map(|(name, instructions)| Function { name, instructions })
        .collect();
    functions.sort_by_key(|function| std::cmp::Reverse(function.total()));
    functions
}

fn table(functions: &[Function], cost: f64, count: f64, unit: &str) -> String {
    let total: u64 = functions.iter().map(Function::total).sum();
    let each = |runs: u64| runs as f64 / count;
    let share = |runs: u64| runs as f64 / total.max(1) as f64;
    let mut out = format!(
        "{cost:.2} instructions per {unit} were measured, {:.2} of them in the kernel:\n\n\
         {:>10}      %  function, and what is inlined into it\n",
        each(total),
        format!("per {unit}"),
    );
    for function in functions {
        let all = function.total();
        if share(all) < SHARE {
            continue;
        }
        let mut line = |depth: &str, name: &str, runs: u64| {
            let percent = share(runs) * 100.0;
            // Writing to a string cannot fail.
            let name = shortened(name);
            let _ = writeln!(out, "{:>10.2}  {percent:>5.1}  {depth}{name}", each(runs));
        };
        line("", &function.name, all);
        let parts = function.parts();
        for (name, runs) in parts.iter().filter(|_| parts.len() > 1) {
            if share(*runs) >= SHARE {
                line("               ", name, *runs);
            }
        }
    }
    out
}

/// Names of generic functions can fill a screen.
fn shortened(name: &str) -> String {
    let mut short: String = name.chars().take(NAME).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    short
}

/// Every instruction that was run, by function.
fn listing(functions: &[Function], trace: &Trace, count: f64) -> String {
    let mut out = String::new();
    for function in functions {
        let total = function.total() as f64 / count;
        // Writing to a string cannot fail.
        let _ = writeln!(out, "\n{total:.3} {}", function.name);
        for (address, runs, place) in &function.instructions {
            let each = *runs as f64 / count;
            let text = trace.text(*address);
            let _ = writeln!(
                out,
                "{each:>9.3}  {address:x}  {text:<40} ; {} {}",
                place.line, place.innermost
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, runs: &[(u64, &str)]) -> Function {
        let instructions = runs.iter().zip(0..).map(|(&(runs, innermost), at)| {
            let place = Place {
                function: name.to_owned(),
                innermost: innermost.to_owned(),
                line: "f.rs:1".to_owned(),
            };
            (0x1000 + 4 * at, runs, place)
        });
        Function {
            name: name.to_owned(),
            instructions: instructions.collect(),
        }
    }

    #[test]
    fn the_table_has_functions_and_what_is_inlined_into_them() {
        let functions = [
            function("outer", &[(600, "outer"), (300, "inner")]),
            function("rare", &[(5, "rare")]),
            function("leaf", &[(100, "leaf")]),
        ];
        let text = table(&functions, 12.0, 100.0, "page");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("12.00 instructions per page were measured, 10.05 of them"));
        assert!(lines[3].starts_with("      9.00   89.6  outer"), "{text}");
        assert!(
            lines[4].starts_with("      6.00   59.7                 outer"),
            "{text}"
        );
        assert!(
            lines[5].starts_with("      3.00   29.9                 inner"),
            "{text}"
        );
        assert!(lines[6].ends_with("leaf"), "{text}");
        assert_eq!(lines.len(), 7, "{text}");
    }

    #[test]
    fn the_listing_has_every_instruction() {
        let functions = [function("outer", &[(600, "outer"), (300, "inner")])];
        let text = listing(&functions, &Trace::default(), 100.0);
        assert!(text.contains("9.000 outer"), "{text}");
        assert!(text.contains("3.000  1004 "), "{text}");
        assert!(text.contains("; f.rs:1 inner"), "{text}");
    }
}
