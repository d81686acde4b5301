//! T5 beyond the table of [`scenarios`](crate::scenarios): tests that look closer at what the
//! kernel reports.

use anyhow::{Context, Result};
use libtest_mimic::Trial;
use mm::trace::Kind;
use serde_json::Value;
use xtask::trace::Trace;

use crate::make::elf::{Elf, SVC, movk16, movz};
use crate::matrix::{Cell, FOUR, ONE, SINGLE};
use crate::outcome::Ending::{Exit, Killed};
use crate::runner::Booted;
use crate::stage::Stage;
use crate::{report, trial};

/// The tests of this kind.
pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial(
            "t5::unknown_calls_are_counted_and_named".into(),
            unknown_calls,
        ),
        trial("t5::figures".into(), figures),
    ];
    for &cell in [ONE, FOUR].into_iter().flatten() {
        let name = format!("t5::a_trace_has_what_was_counted[{}]", cell.name());
        trials.push(trial(name.clone(), move || traced(&name, cell)));
    }
    for &cell in SINGLE {
        let name = format!("t5::faults[{}]", cell.name());
        trials.push(trial(name.clone(), move || faults(&name, cell)));
        let name = format!("t5::more_memory_than_there_is[{}]", cell.name());
        trials.push(trial(name.clone(), move || hunger(&name, cell)));
    }
    trials
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

/// A program that touches a gibibyte of 128 MiB is killed, and all memory comes back.
fn hunger(name: &str, cell: Cell) -> Result<()> {
    let code = [
        movz(0, 0),
        movz(1, 0),
        movk16(1, 0x4000),
        movz(2, 3),
        movz(3, 0x4022),
        0x9280_0004, // movn x4, #0
        movz(5, 0),
        movz(8, 222),
        SVC,
        0xf900_0000, // str x0, [x0]
        0x9140_0400, // add x0, x0, #1, lsl #12
        0x17ff_fffe, // b two instructions back
    ];
    let stage = Stage::new(name, cell, &["./hungry"], &Elf::runs(&code).bytes())?;
    let stage = stage.machine(|machine| machine.memory("128M")).witnessed();
    stage.run()?.expect(Killed(9), |booted| {
        report::no_leak(&report::stats(&booted.ended)?)
    })
}

/// The trace of a program has every fault that its counters claim, each kind as often, and every
/// page that was unmapped; and a ring that is too short says how much it lost.
fn traced(name: &str, cell: Cell) -> Result<()> {
    let objects: &[&str] = &["object_fill", "object_punch", "object_resize"];
    for (program, events, kinds) in [
        ("folios", 1 << 16, &["fold", "unfold"][..]),
        ("memfd", 1 << 16, objects),
        ("folios", 16, &[]),
    ] {
        let name = format!("{name}_{program}_{events}");
        let stage = Stage::program(&name, cell, &[program])?.machine(|machine| {
            machine
                .bootarg("tessera.trace=fault,fold,object,zap")
                .bootarg(format!("tessera.trace_events={events}"))
        });
        stage.run()?.expect(Exit(0), |booted| {
            let stats = report::stats(&booted.ended)?;
            let trace = Trace::of(&booted.ended.lines)?;
            let has = |kind: &&str| trace.events.iter().any(|event| event.kind == *kind);
            if let Some(missing) = kinds.iter().find(|kind| !has(kind)) {
                return Err(format!("no `{missing}` was traced"));
            }
            if events > 16 {
                return agrees(&trace, &stats["memory"]);
            }
            let most = 16 * cell.cpus as usize;
            match (trace.events.len(), trace.lost) {
                (kept, 1..) if kept <= most => Ok(()),
                (kept, lost) => Err(format!("{kept} events kept, {lost} lost, of {most} places")),
            }
        })?;
    }
    Ok(())
}

/// What is traced is what was counted.
fn agrees(trace: &Trace, memory: &Value) -> Result<(), String> {
    if trace.lost != 0 {
        return Err(format!("{} events were lost", trace.lost));
    }
    let traced = trace.faults();
    let counted = |name: &str| memory[name].as_u64().unwrap_or(u64::MAX);
    for kind in Kind::ALL {
        let Some(kind) = kind.word().strip_prefix("fault_") else {
            continue;
        };
        let (traced, counted) = (
            traced.get(kind).copied().unwrap_or(0),
            counted(&format!("faults_{kind}")),
        );
        if traced != counted {
            return Err(format!(
                "{counted} faults `{kind}` were counted, {traced} traced"
            ));
        }
    }
    for (kind, counter) in [
        ("fold", "folds"),
        ("unfold", "unfolds"),
        ("split", "splits"),
    ] {
        let traced = trace
            .events
            .iter()
            .filter(|event| event.kind == kind)
            .count() as u64;
        if traced != counted(counter) {
            return Err(format!(
                "{} {counter} were counted, {traced} traced",
                counted(counter)
            ));
        }
    }
    let of = |kind: &'static str| trace.events.iter().filter(move |event| event.kind == kind);
    let zapped: u64 = of("zap").map(|event| event.arg).sum();
    let unmapped = counted("pages_unmapped");
    // A copy may replace a page that was mapped: it is unmapped without a zap.
    let most = zapped + counted("faults_cow");
    if !(zapped..=most).contains(&unmapped) || zapped == 0 {
        return Err(format!("{unmapped} pages were unmapped, {zapped} traced"));
    }
    Ok(())
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
