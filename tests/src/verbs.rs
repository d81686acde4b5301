//! T5: the program `verbs` says on Tessera, line by line, what it said on Linux.
//!
//! `tests/data/verbs/SEED.txt` is what `cargo xtask record-linux SEED` wrote: its first line names
//! the kernel, the rest is the program's output. Both sides run the same program from the same
//! seed, so a difference is a difference of the kernels.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context, Result};
use libtest_mimic::Trial;

use crate::matrix::{Cell, SINGLE, WIDE};
use crate::outcome::Ending::Exit;
use crate::stage::Stage;
use crate::trial;

/// Seeds that are run one after another in one boot.
const GROUPS: [RangeInclusive<u64>; 4] = [1..=5, 6..=10, 11..=15, 16..=20];
/// Calls in each recorded sequence.
const COUNT: u64 = 160;
/// Lines shown before one that differs.
const CONTEXT: usize = 12;

/// Where Tessera deliberately shows other areas than Linux, though the same memory: from a call on,
/// what is compared are the areas after those have been joined that look alike.
struct Difference {
    seed: u64,
    /// The first call after which the areas differ.
    call: u64,
    /// Why that is right.
    reason: &'static str,
}

const DIFFERENCES: &[Difference] = &[Difference {
    seed: 7,
    call: 120,
    reason: "Linux 6.12 does not merge a written area whose rights change with a neighbour that was \
             never written, though it does so the other way round; later versions merge both",
}];

/// The tests of this kind.
pub fn trials() -> Vec<Trial> {
    let cells = SINGLE
        .iter()
        .chain(WIDE.iter().filter(|cell| cell.cpus > 1));
    let all = cells.flat_map(|cell| GROUPS.iter().map(move |group| (*cell, group.clone())));
    all.map(|(cell, seeds)| {
        let name = format!(
            "t5::verbs_{}-{}[{}]",
            seeds.start(),
            seeds.end(),
            cell.name()
        );
        trial(name.clone(), move || run(&name, cell, seeds))
    })
    .collect()
}

fn run(name: &str, cell: Cell, seeds: RangeInclusive<u64>) -> Result<()> {
    let records: Vec<String> = seeds.clone().map(record).collect::<Result<_>>()?;
    let numbers = [COUNT].into_iter().chain(seeds.clone());
    let words: Vec<String> = numbers.map(|number| number.to_string()).collect();
    let words = words.iter().map(String::as_str);
    let args: Vec<&str> = ["verbs"].into_iter().chain(words).collect();
    let played = Stage::program(name, cell, &args)?.witnessed().run()?;
    played.expect(Exit(0), |booted| {
        let output = String::from_utf8_lossy(&booted.ended.output);
        let mut rest: &str = &output;
        for (seed, record) in seeds.zip(&records) {
            let end = rest.find(LAST).map_or(rest.len(), |at| at + LAST.len());
            let (tessera, behind) = rest.split_at(end);
            rest = behind;
            agree(seed, record, tessera).map_err(|why| format!("seed {seed}: {why}"))?;
        }
        match rest {
            "" => Ok(()),
            _ => Err(format!("the program went on: {rest:?}")),
        }
    })
}

/// The last line of a sequence.
const LAST: &str = "end of seed\n";

/// Compares one sequence, allowing for what is listed.
fn agree(seed: u64, linux: &str, tessera: &str) -> Result<(), String> {
    let listed = DIFFERENCES.iter().find(|listed| listed.seed == seed);
    let Some(Difference { call, reason, .. }) = listed else {
        return compare(linux, tessera);
    };
    let [linux, tessera] = [linux, tessera].map(|text| text.split_at(call_at(text, *call)));
    compare(linux.0, tessera.0)?;
    if linux.1 == tessera.1 {
        return Err(format!(
            "there is no difference any more from call {call} on: {reason}"
        ));
    }
    compare(&joined(linux.1), &joined(tessera.1))
}

/// Where the line of a call begins.
fn call_at(text: &str, call: u64) -> usize {
    let line = text.find(&format!("\n{call} "));
    line.map_or(text.len(), |at| at + 1)
}

/// The text with areas joined that look alike: those in a list that have a star, and what the square
/// brackets behind a call say about all areas.
fn joined(text: &str) -> String {
    let mut out = String::new();
    let mut open: Option<Vec<&str>> = None;
    for line in text.lines() {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if !line.starts_with("  ") {
            let hashes = line.rfind(" [").map(|at| line.split_at(at));
            let (call, hashes) = hashes.unwrap_or((line, ""));
            let last: Vec<&str> = hashes.split(' ').rev().take(2).collect();
            out.push_str(&format!("{call} {}\n", last.join(" ")));
            continue;
        }
        let star = words.pop_if(|word| *word == "*").is_some();
        if let Some(first) = open.take() {
            words = first
                .iter()
                .enumerate()
                .map(|(at, word)| if at == 1 { words[1] } else { word })
                .collect();
        }
        match star {
            true => open = Some(words),
            false => out.push_str(&format!("  {}\n", words.join(" "))),
        }
    }
    out
}

/// What the program printed on Linux for a seed.
fn record(seed: u64) -> Result<String> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/verbs");
    let file = data.join(format!("{seed}.txt"));
    let text = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
    let (_, output) = text.split_once('\n').context("an empty record")?;
    Ok(output.to_owned())
}

/// The first line that differs, with those before it.
fn compare(linux: &str, tessera: &str) -> Result<(), String> {
    let (linux, tessera): (Vec<_>, Vec<_>) = (linux.lines().collect(), tessera.lines().collect());
    let most = linux.len().max(tessera.len());
    let at =
        |lines: &[&str], line: usize| lines.get(line).copied().unwrap_or("(nothing)").to_owned();
    let differs = (0..most).find(|&line| at(&linux, line) != at(&tessera, line));
    let Some(line) = differs else {
        return Ok(());
    };
    let before = linux[line.saturating_sub(CONTEXT)..line.min(linux.len())].join("\n    ");
    let (linux, tessera) = (at(&linux, line), at(&tessera, line));
    Err(format!(
        "line {} differs; after\n    {before}\n  Linux:   {linux}\n  Tessera: {tessera}",
        line + 1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_of_every_group_is_recorded_with_its_kernel() {
        for seed in GROUPS.into_iter().flatten() {
            let record = record(seed).unwrap();
            assert!(
                record.starts_with(&format!("seed {seed}, {COUNT} calls\n")),
                "{seed}"
            );
            assert!(record.ends_with("end of seed\n"), "{seed}");
        }
    }

    #[test]
    fn areas_are_joined_only_where_a_star_says_so() {
        let text = "7 mprotect = 0 [4 aa 2 bb]\n  a+1 a+2 rw-p 3 *\n  a+2 a+4 rw-p 4 *\n  a+4 a+5 rw-p 6\n  \
                    a+5 a+6 rw-p 9\ncontents a+1:2\n";
        let expected =
            "7 mprotect = 0 bb] 2\n  a+1 a+5 rw-p 3\n  a+5 a+6 rw-p 9\ncontents a+1:2 \n";
        assert_eq!(joined(text), expected);
    }

    #[test]
    fn a_listed_difference_covers_the_borders_of_areas_and_nothing_else() {
        let Difference { seed, call, .. } = DIFFERENCES[0];
        let text = |hash: &str, list: &str, answer: &str| {
            format!("seed\n1 a = 0 [1 22 1 22]\n{call} b = {answer} [{hash} 1 33]\n{list}{LAST}")
        };
        let linux = text("2 44", "  a+1 a+2 rw-p *\n  a+2 a+3 rw-p\n", "0");
        let one = text("1 33", "  a+1 a+3 rw-p\n", "0");
        assert!(agree(seed, &linux, &one).is_ok());
        assert!(agree(seed + 1, &linux, &one).is_err());
        assert!(
            agree(seed, &linux, &linux)
                .unwrap_err()
                .contains("no difference any more")
        );
        let wrong = text("1 33", "  a+1 a+3 rw-p\n", "EINVAL");
        assert!(agree(seed, &linux, &wrong).is_err());
        let wrong = text("1 33", "  a+1 a+4 rw-p\n", "0");
        assert!(agree(seed, &linux, &wrong).is_err());
        assert!(agree(seed, &linux, &one.replace("1 a = 0", "1 a = 1")).is_err());
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        assert!(compare("a\nb\n", "a\nb\n").is_ok());
        let text = compare("a\nb\nc\n", "a\nX\nc\n").unwrap_err();
        assert!(
            text.contains("line 2") && text.contains("Linux:   b") && text.contains("Tessera: X")
        );
        assert!(compare("a\nb\n", "a\n").unwrap_err().contains("(nothing)"));
        assert!(compare("a\n", "a\nb\n").unwrap_err().contains("(nothing)"));
    }
}
