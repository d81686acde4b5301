//! T5: unmodified programs at EL0, judged from the console, the exit status, the exit report and
//! the independent reader.

use anyhow::Result;
use libtest_mimic::Trial;
use xtask::machine::Machine;

use crate::matrix::{ALL, Cell, FOUR, NARROW, ONE, SINGLE, TAGS, WIDE};
use crate::outcome::Ending;
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
    /// What the exit report must have counted under `memory`: how often at least, with one CPU and
    /// with several.
    counts: &'static [(&'static str, u64, u64)],
    /// Threads that there must have been at once, so many that they cost the kernel what a thread may.
    threads: u64,
    /// RAM, where it is not the usual size.
    memory: Option<&'static str>,
    /// Words for the kernel.
    words: &'static [&'static str],
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
        counts: &[],
        threads: 0,
        memory: None,
        words: &[],
    }
}

const fn counting(scenario: Scenario, counts: &'static [(&'static str, u64, u64)]) -> Scenario {
    Scenario { counts, ..scenario }
}

const fn booted(scenario: Scenario, words: &'static [&'static str]) -> Scenario {
    Scenario { words, ..scenario }
}

/// With little RAM.
const fn small(scenario: Scenario) -> Scenario {
    Scenario {
        memory: Some("128M"),
        ..scenario
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
    counting(
        stressed(scenario(
            &["hello", "two words", ""],
            Exit(0),
            Is(HELLO),
            ALL,
        )),
        &[("folds", 1, 1), ("faults_folio", 1, 1)],
    ),
    scenario(&["tour"], Exit(0), Any, ALL),
    scenario(&["exitcode", "0"], Exit(0), Is(""), ONE),
    scenario(&["exitcode", "3"], Exit(3), Is(""), ALL),
    scenario(&["exitcode", "255"], Exit(255), Is(""), ONE),
    scenario(&["bigout"], Exit(0), Bytes(big_output), FOUR),
    counting(
        stressed(scenario(&["alloc"], Exit(0), Passes, ALL)),
        &[("folds", 1, 1), ("faults_folio", 1, 1)],
    ),
    counting(
        stressed(scenario(&["folios"], Exit(0), Passes, ALL)),
        &[
            ("folds", 1, 1),
            ("unfolds", 1, 1),
            ("faults_folio", 1, 1),
            ("pages_moved", 1, 1),
            ("reclaimed", 1, 1),
        ],
    ),
    counting(
        scenario(&["objects"], Exit(0), Passes, ALL),
        &[
            ("faults_shared", 200, 200),
            ("faults_cow", 60, 60),
            ("faults_bus", 12, 12),
            ("pages_around", 100, 100),
        ],
    ),
    counting(
        scenario(&["cow"], Exit(0), Passes, ALL),
        &[
            ("faults_zero", 2000, 2000),
            ("faults_cow", 100, 100),
            ("faults_reuse", 4, 4),
        ],
    ),
    counting(
        scenario(&["sizes"], Exit(0), Passes, ALL),
        &[
            ("faults_64k", 24, 24),
            ("faults_2m", 4, 4),
            ("splits", 10, 10),
            ("unfolds", 10, 10),
            ("collapses", 2, 2),
            ("pages_collapsed", 1024, 1024),
        ],
    ),
    // Little RAM is taken to pieces of single pages. On several CPUs, where stays are not measured:
    // unmapping what is left of them takes up to 66 thousand instructions.
    counting(
        small(scenario(&["sizes", "default"], Exit(0), Passes, FOUR)),
        &[("folios_missed", 30, 30)],
    ),
    booted(
        scenario(&["sizes", "pages"], Exit(0), Passes, FOUR),
        &["tessera.thp_anon=64K:never;2M:never"],
    ),
    counting(
        booted(
            scenario(&["sizes", "blocks"], Exit(0), Passes, SINGLE),
            &["tessera.thp_anon=2M:always"],
        ),
        &[("faults_2m", 4, 4)],
    ),
    counting(
        scenario(&["around"], Exit(0), Passes, ALL),
        &[
            ("faults_around", 50, 50),
            ("pages_around", 1000, 1000),
            ("faults_asked", 40, 40),
            ("marks_kept", 4, 4),
        ],
    ),
    booted(
        scenario(&["around", "4096"], Exit(0), Passes, ONE),
        &["tessera.fault_around_bytes=4K"],
    ),
    booted(
        scenario(&["around", "0x200000"], Exit(0), Passes, ONE),
        &["tessera.fault_around_bytes=2M"],
    ),
    booted(
        scenario(&["around", "never"], Exit(0), Passes, SINGLE),
        &["tessera.uffd_fault_around=never"],
    ),
    counting(
        scenario(&["pressure"], Exit(0), Passes, ALL),
        &[
            ("faults_shared", 500, 500),
            ("faults_cow", 200, 200),
            ("faults_kernel", 100, 100),
            ("faults_bus", 10, 10),
        ],
    ),
    stressed(scenario(&["pressure", "3000", "2"], Exit(0), Passes, FOUR)),
    small(scenario(&["oom", "zeros"], Killed(9), Any, SINGLE)),
    small(scenario(&["oom", "shared"], Killed(9), Any, SINGLE)),
    small(scenario(&["oom", "blocks"], Killed(9), Any, SINGLE)),
    small(scenario(&["oom", "copies"], Killed(9), Any, SINGLE)),
    small(scenario(&["oom", "populate"], Exit(0), Passes, SINGLE)),
    stressed(scenario(&["threads"], Exit(0), Passes, ALL)),
    stressed(Scenario {
        threads: 501,
        ..scenario(&["thousand"], Exit(0), Passes, FOUR)
    }),
    stressed(scenario(&["futexes"], Exit(0), Passes, ALL)),
    stressed(scenario(&["sched"], Exit(0), Passes, ALL)),
    stressed(scenario(&["sched", "end"], Exit(7), Any, ALL)),
    counting(
        scenario(&["mte"], Exit(0), Passes, TAGS),
        &[("faults_tag", 1000, 1000), ("pages_tagged", 1000, 1000)],
    ),
    scenario(&["mte"], Exit(0), Passes, NARROW),
    scenario(&["mte", "sync"], Killed(11), Any, TAGS),
    scenario(&["mte", "write"], Killed(11), Any, TAGS),
    scenario(&["mte", "async"], Killed(11), Any, TAGS),
    booted(
        scenario(&["mte", "asymm"], Killed(11), Any, ONE),
        &["tessera.mte_tcf_preferred=asymm"],
    ),
    counting(
        booted(
            scenario(&["mte"], Exit(0), Passes, ONE),
            &["tessera.tag_storage=migrate"],
        ),
        &[("faults_tag", 1000, 1000)],
    ),
    scenario(&["hostile"], Exit(0), Passes, ALL),
    scenario(&["fp"], Exit(0), Passes, ALL),
    scenario(&["mmaps"], Exit(0), Passes, ALL),
    scenario(&["mmaps", "77", "20000"], Exit(0), Passes, SINGLE),
    scenario(&["memfd"], Exit(0), Passes, ALL),
    stressed(scenario(&["memfd", "7", "4000"], Exit(0), Passes, FOUR)),
    stressed(scenario(&["mapstorm"], Exit(0), Passes, FOUR)),
    // Above 39 bits, and above 48 where the CPU has LPA2: each level that is added reaches the CPU
    // of whoever asked, and with four CPUs at least one that was at EL0 in the space meanwhile.
    counting(
        stressed(scenario(&["levels", "52"], Exit(0), Passes, WIDE)),
        &[("levels_grown", 2, 2), ("root_reloads", 2, 4)],
    ),
    counting(
        stressed(scenario(&["levels", "48"], Exit(0), Passes, NARROW)),
        &[("levels_grown", 1, 1), ("root_reloads", 1, 2)],
    ),
    // These two also write to the console what no newline ends.
    scenario(&["efault"], Exit(0), Has(&["efault: pass ("]), ALL),
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
    let name = "t5::areas_up_to_a_raised_limit";
    trials.push(trial(name.into(), move || many_areas(name)));
    trials
}

/// 10⁵ areas, where the kernel was told that so many are allowed.
fn many_areas(name: &str) -> Result<()> {
    let stage = Stage::program(name, SINGLE[0], &["areas", "100000"])?.witnessed();
    let limit = |machine: Machine| machine.bootarg("tessera.max_map_count=100000");
    stage.machine(limit).run()?.expect(Exit(0), |booted| {
        Passes.check("areas", &booted.ended.output)?;
        report::check(&booted.ended, SINGLE[0], false)
    })
}

impl Scenario {
    fn trial(self, cell: Cell, parallel: bool) -> Trial {
        let tier = if parallel { "stress" } else { "t5" };
        let name = format!("{tier}::{}[{}]", self.args.join("_"), cell.name());
        trial(name.clone(), move || self.run(&name, cell, parallel))
    }

    fn run(self, name: &str, cell: Cell, parallel: bool) -> Result<()> {
        let stage = Stage::program(name, cell, self.args)?.witnessed();
        let stage = stage.machine(|machine| {
            let machine = match self.memory {
                Some(memory) => machine.memory(memory),
                None => machine,
            };
            self.words
                .iter()
                .fold(machine, |machine, &word| machine.bootarg(word))
        });
        let stage = if parallel { stage.parallel() } else { stage };
        stage.run()?.expect(self.ending, |booted| {
            self.stdout.check(self.args[0], &booted.ended.output)?;
            report::check(&booted.ended, cell, parallel)?;
            let least = |&(name, one, more)| (name, if cell.cpus == 1 { one } else { more });
            report::counted(&booted.ended, self.counts.iter().map(least))?;
            match self.threads {
                0 => Ok(()),
                at_once => report::threads(&booted.ended, at_once),
            }
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
