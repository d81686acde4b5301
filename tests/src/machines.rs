//! Machines at the edge: little RAM, many CPUs, CPU models that lack something, older boards. The
//! program runs, or the kernel says what is missing.

use anyhow::Result;
use libtest_mimic::Trial;
use xtask::machine::Machine;

use crate::matrix::Cell;
use crate::outcome::{self, Ending, Outcome};
use crate::stage::Stage;
use crate::trial;

/// A change of the usual machine.
type Change = fn(Machine) -> Machine;

/// Machines on which the program must run.
const RUNS: &[(&str, Change)] = &[
    ("128_mib_of_ram", |machine| machine.memory("128M")),
    ("2_gib_of_ram", |machine| machine.memory("2G")),
    ("8_gib_of_ram", |machine| machine.memory("8G")),
    ("an_odd_size_of_ram", |machine| machine.memory("300M")),
    ("8_cpus", |machine| machine.smp(8)),
    ("16_cpus", |machine| machine.smp(16)),
    ("without_mte", |machine| machine.mte(false)),
    ("without_lpa2", |machine| machine.cpu("max,lpa2=off")),
    ("without_pan_or_lse", |machine| machine.cpu("cortex-a57")),
    ("cortex_a53", |machine| machine.cpu("cortex-a53").smp(4)),
    ("neoverse_n1", |machine| machine.cpu("neoverse-n1")),
    ("neoverse_n2", |machine| machine.cpu("neoverse-n2").smp(2)),
    ("with_el2", |machine| {
        machine.arg("-M").arg("virtualization=on")
    }),
    ("with_el2_and_4_cpus", |machine| {
        machine.arg("-M").arg("virtualization=on").smp(4)
    }),
    ("software_access_flag", |machine| {
        machine.bootarg("tessera.af=0")
    }),
    ("memory_held_back", |machine| {
        machine.bootarg("tessera.hold=64M")
    }),
    ("words_of_others_on_the_command_line", |machine| {
        machine
            .bootarg("console=ttyAMA0")
            .bootarg("root=/dev/vda")
            .bootarg("quiet")
    }),
    ("a_random_seed_in_the_device_tree", |machine| {
        machine.icount(false)
    }),
];

/// Machines that are used in part or refused, but never hang.
const EDGES: &[(&str, Change)] = &[
    ("more_cpus_than_supported", |machine| machine.smp(20)),
    ("64_mib_of_ram", |machine| machine.memory("64M")),
    ("32_mib_of_ram", |machine| machine.memory("32M")),
    ("gic_v2", |machine| machine.arg("-M").arg("gic-version=2")),
    ("gic_v4", |machine| {
        machine.arg("-M").arg("gic-version=4,virtualization=on")
    }),
    ("everything_held_back", |machine| {
        machine.bootarg("tessera.hold=512M")
    }),
    ("more_than_everything_held_back", |machine| {
        machine.bootarg("tessera.hold=100G")
    }),
];

/// The tests of this kind.
pub fn trials() -> Vec<Trial> {
    let runs = RUNS.iter().map(|&(name, change)| {
        let name = format!("machines::{name}");
        trial(name.clone(), move || runs(&name, change))
    });
    let edges = EDGES.iter().map(|&(name, change)| {
        let name = format!("machines::{name}");
        trial(name.clone(), move || edge(&name, change))
    });
    runs.chain(edges)
        .chain([trial("machines::refuses_gic_v2_in_words".into(), gic_v2)])
        .collect()
}

const USUAL: Cell = Cell {
    cpu: "max",
    cpus: 1,
};

fn runs(name: &str, change: Change) -> Result<()> {
    let stage = Stage::program(name, USUAL, &["hello"])?.machine(change);
    // RAM of many gibibytes is not kept in a file.
    let small = !name.contains("gib");
    stage
        .witnessed_if(small)
        .run()?
        .expect(Ending::Exit(0), |booted| {
            let text = String::from_utf8_lossy(&booted.ended.output).into_owned();
            if text.contains("Hello from EL0.\n") {
                Ok(())
            } else {
                Err("no greeting".into())
            }
        })
}

fn edge(name: &str, change: Change) -> Result<()> {
    let played = Stage::program(name, USUAL, &["hello"])?
        .machine(change)
        .run()?;
    let ended = &played.booted.ended;
    let outcome = match outcome::program(ended, Ending::Exit(0)) {
        Outcome::Pass => Outcome::Pass,
        _ if outcome::program(ended, Ending::ExecFail("")) == Outcome::Pass => Outcome::Pass,
        other => match ended.status.and_then(|status| status.code()) {
            Some(78) if ended.last("bug").is_none() => Outcome::Pass,
            _ => other,
        },
    };
    played.verdict(outcome)
}

fn gic_v2() -> Result<()> {
    let change: Change = |machine| machine.arg("-M").arg("gic-version=2");
    let name = "machines::refuses_gic_v2_in_words";
    let played = Stage::program(name, USUAL, &["hello"])?
        .machine(change)
        .run()?;
    let ended = &played.booted.ended;
    let told = ended.last("refused").map_or_else(
        || String::from_utf8_lossy(&ended.output).into_owned(),
        |line| line.rest().to_owned(),
    );
    let refused = ended.status.and_then(|status| status.code()) == Some(78);
    played.verdict(if refused && told.contains("GIC") {
        Outcome::Pass
    } else {
        Outcome::Fail(format!("not refused for its GIC: `{told}`"))
    })
}
