//! T5: unmodified programs at EL0, judged from the console, the exit status, the exit report and
//! the independent reader.

use anyhow::{Context, Result};
use libtest_mimic::Trial;

use crate::matrix::{ALL, Cell, FOUR, ONE, SINGLE};
use crate::outcome::Ending;
use crate::runner::Booted;
use crate::stage::Stage;
use crate::{report, trial};

use Ending::{Exit, Killed};
use Stdout::{Any, Bytes, Has, Is, Passes};

/// What must stand on the console.
#[derive(Clone, Copy)]
enum Stdout {
    /// Anything.
    Any,
    /// Exactly this text.
    Is(&'static str),
    /// Exactly these bytes.
    Bytes(fn() -> Vec<u8>),
    /// Each of these.
    Has(&'static [&'static str]),
    /// Last of all `NAME: pass (N checks)`, N not 0.
    Passes,
}

/// A program, how it must end and what must be true then.
#[derive(Clone, Copy)]
struct Scenario {
    /// Name of the program and its arguments.
    args: &'static [&'static str],
    ending: Ending,
    stdout: Stdout,
    cells: &'static [Cell],
    /// Also with CPUs that really run in parallel, under the limits of stress tests.
    stress: bool,
}

const fn scenario(
    args: &'static [&'static str],
    ending: Ending,
    stdout: Stdout,
    cells: &'static [Cell],
) -> Scenario {
    Scenario {
        args,
        ending,
        stdout,
        cells,
        stress: false,
    }
}

const fn stressed(scenario: Scenario) -> Scenario {
    Scenario {
        stress: true,
        ..scenario
    }
}

const HELLO: &str =
    "Hello from EL0.\narg 0: hello\narg 1: two words\narg 2: \nenv LANG=C\nenv TESSERA=yes\n";

const SCENARIOS: &[Scenario] = &[
    stressed(scenario(
        &["hello", "two words", ""],
        Exit(0),
        Is(HELLO),
        ALL,
    )),
    scenario(&["exitcode", "0"], Exit(0), Is(""), ONE),
    scenario(&["exitcode", "3"], Exit(3), Is(""), ALL),
    scenario(&["exitcode", "255"], Exit(255), Is(""), ONE),
    scenario(&["bigout"], Exit(0), Bytes(big_output), FOUR),
    stressed(scenario(&["alloc"], Exit(0), Passes, ALL)),
    stressed(scenario(&["threads"], Exit(0), Passes, ALL)),
    stressed(scenario(&["thousand"], Exit(0), Passes, FOUR)),
    stressed(scenario(&["futexes"], Exit(0), Passes, ALL)),
    scenario(&["fp"], Exit(0), Passes, ALL),
    scenario(&["mmaps"], Exit(0), Passes, ALL),
    scenario(&["mmaps", "77", "20000"], Exit(0), Passes, SINGLE),
    stressed(scenario(&["mapstorm"], Exit(0), Passes, FOUR)),
    // These two also write to the console what no newline ends.
    scenario(&["efault"], Exit(0), Has(&["efault: pass ("]), ALL),
    scenario(&["fuzz", "1"], Exit(0), Has(&["fuzz: pass ("]), SINGLE),
    scenario(&["fuzz", "2"], Exit(0), Has(&["fuzz: pass ("]), FOUR),
    scenario(&["timeprog"], Exit(0), Passes, ALL),
    scenario(&["unknown"], Exit(0), Passes, ONE),
    scenario(
        &["liar", "deadbeef"],
        Exit(7),
        Has(&["half @T halt status=0\n", "@token halt status=0"]),
        ONE,
    ),
    scenario(&["panics", "caught"], Exit(0), Passes, ALL),
    scenario(
        &["panics", "uncaught"],
        Exit(101),
        Has(&["this panic is meant"]),
        SINGLE,
    ),
    scenario(&["panics", "thread"], Exit(0), Any, FOUR),
    scenario(&["panics", "poison"], Exit(0), Any, FOUR),
    scenario(&["panics", "abort"], Killed(6), Any, ALL),
    scenario(&["panics", "nested"], Killed(6), Any, SINGLE),
    scenario(&["panics", "exit-from-thread"], Exit(33), Any, FOUR),
    stressed(scenario(&["panics", "group-spinning"], Exit(34), Any, FOUR)),
    stressed(scenario(&["panics", "group-sleeping"], Exit(35), Any, FOUR)),
    stressed(scenario(&["panics", "group-waiting"], Exit(36), Any, FOUR)),
    stressed(scenario(&["panics", "group-mapping"], Exit(37), Any, FOUR)),
    scenario(&["panics", "main-returns"], Exit(0), Any, FOUR),
    scenario(&["panics", "main-first"], Exit(39), Any, FOUR),
];

/// The tests of this tier.
pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for scenario in SCENARIOS {
        for &cell in scenario.cells {
            trials.push(scenario.trial(cell, false));
            if scenario.stress && cell.cpus > 1 {
                trials.push(scenario.trial(cell, true));
            }
        }
    }
    for &cell in SINGLE {
        let name = format!("t5::faults[{}]", cell.name());
        trials.push(trial(name.clone(), move || faults(&name, cell)));
    }
    trials.push(trial(
        "t5::unknown_calls_are_counted_and_named".into(),
        unknown_calls,
    ));
    trials.push(trial("t5::figures".into(), figures));
    trials
}

impl Scenario {
    fn trial(self, cell: Cell, parallel: bool) -> Trial {
        let tier = if parallel { "stress" } else { "t5" };
        let name = format!("{tier}::{}[{}]", self.args.join("_"), cell.name());
        trial(name.clone(), move || self.run(&name, cell, parallel))
    }

    fn run(self, name: &str, cell: Cell, parallel: bool) -> Result<()> {
        let stage = Stage::program(name, cell, self.args)?.witnessed();
        let stage = if parallel { stage.parallel() } else { stage };
        stage.run()?.expect(self.ending, |booted| {
            self.stdout.check(self.args[0], &booted.ended.output)?;
            report::check(&booted.ended, cell, parallel)
        })
    }
}

impl Stdout {
    fn check(self, program: &str, output: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(output);
        match self {
            Any => Ok(()),
            Is(expected) => same(output, expected.as_bytes()),
            Bytes(expected) => same(output, &expected()),
            Has(parts) => match parts.iter().find(|part| !text.contains(**part)) {
                Some(missing) => Err(format!("the output lacks {missing:?}")),
                None => Ok(()),
            },
            Passes => passes(program, &text),
        }
    }
}

fn passes(program: &str, text: &str) -> Result<(), String> {
    let last = text.lines().last().unwrap_or_default();
    let checks = last
        .strip_prefix(program)
        .and_then(|rest| rest.strip_prefix(": pass ("))
        .and_then(|rest| rest.strip_suffix(" checks)"))
        .and_then(|number| number.parse::<u64>().ok());
    match checks {
        Some(1..) => Ok(()),
        _ => Err(format!(
            "the last line is `{last}`, not `{program}: pass (N checks)`"
        )),
    }
}

fn same(output: &[u8], expected: &[u8]) -> Result<(), String> {
    if output == expected {
        return Ok(());
    }
    let at = output
        .iter()
        .zip(expected)
        .take_while(|(a, b)| a == b)
        .count();
    let show =
        |bytes: &[u8]| String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 60)]).into_owned();
    Err(format!(
        "output of {} bytes, expected {}, differs from byte {at}: {:?} instead of {:?}",
        output.len(),
        expected.len(),
        show(output),
        show(expected)
    ))
}

/// What `bigout` prints.
pub(crate) fn big_output() -> Vec<u8> {
    let line = |number: u64| {
        let letters = (0..54).map(move |letter| char::from(b'A' + ((number + letter) % 26) as u8));
        format!("{number:08x} {}\n", letters.collect::<String>())
    };
    (0..16384)
        .flat_map(|number| line(number).into_bytes())
        .collect()
}

/// Every wrong thing a program can do ends it by the signal, the code and the address it lists.
fn faults(name: &str, cell: Cell) -> Result<()> {
    let played = Stage::program(&format!("{name}_list"), cell, &["faults", "list"])?.run()?;
    played.expect(Exit(0), |_| Ok(()))?;
    let listed = String::from_utf8_lossy(&played.booted.ended.output).into_owned();
    let cases: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split(' ').collect())
        .collect();
    anyhow::ensure!(cases.len() >= 30, "only {} cases are listed", cases.len());
    for case in &cases {
        let [wrong, signal, code, address] = case[..] else {
            anyhow::bail!("`faults list` printed {case:?}")
        };
        let number = signal_number(signal).with_context(|| format!("unknown signal {signal}"))?;
        let name = format!("{name}_{wrong}");
        let played = Stage::program(&name, cell, &["faults", wrong])?
            .witnessed()
            .run()?;
        played.expect(Killed(number), |booted| {
            killed_by(booted, code, address)?;
            report::check(&booted.ended, cell, false)
        })?;
    }
    Ok(())
}

fn signal_number(name: &str) -> Option<u8> {
    let names = [
        ("SIGILL", 4),
        ("SIGTRAP", 5),
        ("SIGABRT", 6),
        ("SIGBUS", 7),
        ("SIGSEGV", 11),
    ];
    names
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
}

fn killed_by(booted: &Booted, code: &str, address: &str) -> Result<(), String> {
    let line = booted.ended.last("killed").ok_or("no `killed` line")?;
    if line.get("code") != Some(code) {
        return Err(format!("expected code {code}, got `{}`", line.rest()));
    }
    let expected = xtask::control::parse_number(address);
    if expected.is_some() && line.number("addr") != expected {
        return Err(format!("expected address {address}, got `{}`", line.rest()));
    }
    Ok(())
}

/// The exit report counts each call that does not exist.
fn unknown_calls() -> Result<()> {
    let name = "t5::unknown_calls_are_counted_and_named";
    Stage::program(name, ONE[0], &["unknown"])?
        .run()?
        .expect(Exit(0), |booted| {
            for (number, count) in [(1023, 3), (4000, 1), (600, 2), (9999, 1)] {
                let counted = |line: &&xtask::control::Line| line.number("number") == Some(number);
                let line = booted.ended.all("unknown").find(counted);
                if line.and_then(|line| line.number("count")) != Some(count) {
                    return Err(format!(
                        "call {number} was made {count} times; the report says {line:?}"
                    ));
                }
            }
            Ok(())
        })
}

/// The figures that must not be exceeded, in instructions on one neoverse-n2.
fn figures() -> Result<()> {
    let cell = Cell {
        cpu: "neoverse-n2",
        cpus: 1,
    };
    let frames = (512 << 20) / 4096;
    Stage::program("t5::figures", cell, &["bench"])?
        .run()?
        .expect(Exit(0), |booted| {
            let output = String::from_utf8_lossy(&booted.ended.output).into_owned();
            let figure = |name: &str| {
                let line = output
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
                line.and_then(|value| value.parse::<u64>().ok())
                    .ok_or(format!("no figure {name}"))
            };
            let boot = booted
                .ended
                .last("el0")
                .and_then(|line| line.number("instructions"));
            let boot = boot.ok_or("no el0 line")?;
            let limits = [
                (
                    "reset to the first EL0 instruction",
                    boot,
                    8_000_000 + 6 * frames,
                ),
                ("null system call", figure("null_syscall")?, 120),
                ("anonymous write fault", figure("anon_write_fault")?, 900),
            ];
            for (what, measured, limit) in limits {
                eprintln!("  figure: {what}: {measured} instructions (limit {limit})");
            }
            match limits.iter().find(|(_, measured, limit)| measured > limit) {
                Some((what, measured, limit)) => Err(format!(
                    "{what} took {measured} instructions, limit {limit}"
                )),
                None => Ok(()),
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_is_needed_whole_and_last() {
        assert!(passes("alloc", "x\nalloc: pass (12 checks)\n").is_ok());
        for text in [
            "",
            "alloc: pass (0 checks)",
            "alloc: pass (1 checks)\nx",
            "alloc: pass",
        ] {
            assert!(passes("alloc", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_difference_in_output_is_found_at_its_byte() {
        assert!(same(b"abc", b"abc").is_ok());
        assert!(same(b"abc", b"abcd").unwrap_err().contains("from byte 3"));
        assert!(same(b"aXc", b"abc").unwrap_err().contains("from byte 1"));
    }

    #[test]
    fn the_big_output_is_a_mebibyte_of_lines_of_64() {
        let output = big_output();
        assert_eq!(output.len(), 1 << 20);
        assert!(
            output
                .starts_with(b"00000000 ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQRSTUVWXYZAB\n")
        );
        assert_eq!(&output[64..74], b"00000001 B");
    }
}
