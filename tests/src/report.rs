//! What must hold in every exit report, whatever the program.

use serde_json::Value;
use xtask::control::Line;

use crate::matrix::Cell;
use crate::outcome::Ended;

/// Checks the report of a run on this machine.
///
/// # Errors
/// What does not hold.
pub fn check(ended: &Ended, cell: Cell, parallel: bool) -> Result<(), String> {
    let boot = ended.last("boot").ok_or("no `boot` line")?;
    if boot.number("cpus") != Some(cell.cpus.into()) {
        return Err(format!(
            "{} CPUs expected, `boot {}`",
            cell.cpus,
            boot.rest()
        ));
    }
    let stats = stats(ended)?;
    no_leak(&stats)?;
    balanced(&stats)?;
    // Only instructions can be counted, and only one CPU's stays are its own.
    if !parallel && cell.cpus == 1 {
        short_stays(&stats)?;
    }
    Ok(())
}

/// All frames came back after the program.
///
/// # Errors
/// Some did not, or nothing is said about them.
pub fn no_leak(stats: &Value) -> Result<(), String> {
    match stats["leaked_frames"].as_i64() {
        Some(0) => Ok(()),
        leaked => Err(format!("leaked_frames is {leaked:?}")),
    }
}

/// A program that ran has faulted, and has tables; all of them were freed again by the time it is reported.
fn balanced(stats: &Value) -> Result<(), String> {
    let tables = stats["tables"]
        .as_object()
        .ok_or("no tables in the report")?;
    if tables.len() < 3 {
        return Err(format!("a program with tables of {} levels", tables.len()));
    }
    for (level, counts) in tables {
        let (made, freed) = (counts["made"].as_u64(), counts["freed"].as_u64());
        if made.is_none() || freed != made {
            return Err(format!("{level}: {made:?} tables made, {freed:?} freed"));
        }
    }
    let faults = ["faults_anon", "faults_image"].map(|name| stats["memory"][name].as_u64());
    match faults {
        [Some(1..), Some(1..)] => Ok(()),
        _ => Err(format!(
            "the program has run with {faults:?} anonymous and image faults"
        )),
    }
}

/// What the program must have made the kernel count under `memory`, and how often at least.
///
/// # Errors
/// A count is lower, or missing.
pub fn counted<'a>(
    ended: &Ended,
    least: impl Iterator<Item = (&'a str, u64)>,
) -> Result<(), String> {
    let stats = stats(ended)?;
    let mut least = least;
    least.try_for_each(|(name, least)| happened(&stats, name, least))
}

/// So many switches, at least, went past the scheduler.
///
/// # Errors
/// They did not, or nothing is said about them.
pub fn direct_switches(ended: &Ended, least: u64) -> Result<(), String> {
    match stats(ended)?["direct_switches"].as_u64() {
        Some(count) if count >= least => Ok(()),
        count => Err(format!(
            "{count:?} direct switches, at least {least} expected"
        )),
    }
}

fn happened(stats: &Value, name: &str, least: u64) -> Result<(), String> {
    match stats["memory"][name].as_u64() {
        Some(count) if count >= least => Ok(()),
        count => Err(format!("{name} is {count:?}, at least {least} expected")),
    }
}

/// Bytes of kernel memory that a thread may cost.
const THREAD: u64 = 1536;

/// That there were `at_once` threads, and what each cost the kernel then.
///
/// # Errors
/// There were fewer, or each cost too much.
pub fn threads(ended: &Ended, at_once: u64) -> Result<(), String> {
    let stats = stats(ended)?;
    let threads = &stats["threads"];
    let of = |key: &str| threads[key].as_u64().unwrap_or(0);
    match (of("peak"), of("kernel_bytes_each")) {
        (peak, 1..=THREAD) if peak >= at_once => Ok(()),
        _ => Err(format!(
            "threads were {threads}, at least {at_once} of at most {THREAD} bytes expected"
        )),
    }
}

/// The longest time in the kernel, in instructions (law 16).
const LONGEST_STAY: u64 = 50_000;

fn short_stays(stats: &Value) -> Result<(), String> {
    let longest = &stats["longest_stay"];
    match longest["instructions"].as_u64() {
        Some(1..=LONGEST_STAY) => Ok(()),
        _ => Err(format!(
            "the longest stay in the kernel is {longest}, limit {LONGEST_STAY}"
        )),
    }
}

/// The one `stats` line of a run.
///
/// # Errors
/// There is none, more than one, or what it says is not JSON.
pub fn stats(ended: &Ended) -> Result<Value, String> {
    let lines: Vec<_> = ended.all("stats").collect();
    let [line] = lines[..] else {
        return Err(format!("{} `stats` lines", lines.len()));
    };
    stats_of(line)
}

/// What a `stats` line says.
///
/// # Errors
/// It is not JSON.
pub fn stats_of(line: &Line) -> Result<Value, String> {
    let text = line.get("json").ok_or("`stats` without json")?;
    serde_json::from_str(text).map_err(|error| format!("stats are not JSON: {error}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_leak_or_no_word_about_it_is_found() {
        assert!(no_leak(&json!({"leaked_frames": 0})).is_ok());
        for wrong in [
            json!({"leaked_frames": 1}),
            json!({"leaked_frames": -1}),
            json!({}),
        ] {
            assert!(no_leak(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_did_not_happen_or_is_not_counted_is_found() {
        let stats = json!({"memory": {"folds": 3, "unfolds": 0}});
        assert!(happened(&stats, "folds", 3).is_ok());
        assert!(happened(&stats, "folds", 4).is_err());
        assert!(happened(&stats, "unfolds", 1).is_err());
        assert!(happened(&stats, "flods", 0).is_err());
    }

    #[test]
    fn impossible_figures_are_found() {
        let good = json!({
            "tables": {
                "level_1": {"made": 1, "freed": 1},
                "level_2": {"made": 2, "freed": 2},
                "level_3": {"made": 3, "freed": 3},
            },
            "memory": {"faults_anon": 7, "faults_image": 2},
            "longest_stay": {"instructions": 50_000, "in": "munmap"},
        });
        assert_eq!((balanced(&good), short_stays(&good)), (Ok(()), Ok(())));
        let mut wrong = good.clone();
        wrong["tables"]["level_2"]["freed"] = json!(1);
        assert!(balanced(&wrong).is_err());
        wrong = good.clone();
        wrong["memory"]["faults_anon"] = json!(0);
        assert!(balanced(&wrong).is_err());
        wrong = good.clone();
        wrong["longest_stay"]["instructions"] = json!(50_001);
        assert!(short_stays(&wrong).is_err());
        wrong["longest_stay"] = Value::Null;
        assert!(short_stays(&wrong).is_err());
    }
}
