//! Whether a row has become worse, and the table of a group.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::{EVENTS, Group, Now, Row, Rows};

/// How much worse a figure may be: the committed ones are rounded, and a change elsewhere moves
/// code about.
const TOLERANCE: f64 = 1.03;

/// What is to be said of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// It costs more than its committed figure; both numbers in words.
    Worse(String),
    /// No figure is committed.
    NoFigure,
    /// It is in the file and was not measured.
    NotMeasured,
    /// It cannot be measured, and why. A row that never could does not fail the run.
    Missing {
        /// The reason.
        why: String,
        /// Whether a figure is committed.
        committed: bool,
    },
    /// It was measured and is not in the file.
    Unlisted,
}

impl Verdict {
    /// Whether the run fails for it.
    pub fn fails(&self) -> bool {
        !matches!(
            self,
            Self::Fine
                | Self::Missing {
                    committed: false,
                    ..
                }
        )
    }
}

/// A row with what was measured and what is to be said.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The row's name.
    pub name: String,
    /// What this run has measured.
    pub now: Option<Now>,
    /// What is to be said.
    pub verdict: Verdict,
}

/// Judges all rows of a group, then those that it lacks.
pub fn all(group: &Group, measured: &BTreeMap<String, Rows>) -> Vec<Judged> {
    let listed = group.rows.iter().map(|row| {
        let now = row.now(measured);
        let verdict = match &now {
            None => missing(row, measured),
            Some(now) => compare(now, row),
        };
        let name = row.title();
        Judged { name, now, verdict }
    });
    let is_listed = |name: &str| {
        let mut rows = group.rows.iter();
        rows.any(|row| row.measured == name || row.relative_to.as_deref() == Some(name))
    };
    let rows = measured.values().flat_map(|rows| &rows.measured);
    let names = rows.map(|row| row.name.as_str());
    // Every boot measures the same rows.
    let unlisted: BTreeSet<&str> = names.filter(|name| !is_listed(name)).collect();
    let unlisted = unlisted.into_iter().map(|name| Judged {
        name: name.to_owned(),
        now: None,
        verdict: Verdict::Unlisted,
    });
    listed.chain(unlisted).collect()
}

fn missing(row: &Row, measured: &BTreeMap<String, Rows>) -> Verdict {
    let committed = row.figure.is_some();
    match row.missing(measured) {
        Some(why) => Verdict::Missing { why, committed },
        None => Verdict::NotMeasured,
    }
}

fn compare(now: &Now, row: &Row) -> Verdict {
    let Some(figure) = row.figure else {
        return Verdict::NoFigure;
    };
    if now.figure > figure * TOLERANCE {
        let percent = (now.figure / figure - 1.0) * 100.0;
        return Verdict::Worse(format!(
            "{:.2}, committed {figure:.2} (+{percent:.1} %)",
            now.figure
        ));
    }
    let mut events = EVENTS
        .iter()
        .zip(now.events)
        .zip(row.events.unwrap_or_default());
    let more = events.find(|((_, now), committed)| *now as f64 > *committed as f64 * TOLERANCE);
    match more {
        Some(((event, now), committed)) => {
            Verdict::Worse(format!("{now} {event}, committed {committed}"))
        }
        None => Verdict::Fine,
    }
}

/// The table of a group: with Linux's figures where they are known, else with what the kernel
/// counts besides instructions.
pub fn table(group: &Group, judged: &[Judged]) -> String {
    let names = group.rows.iter().map(|row| row.title().len());
    let width = names.max().unwrap_or(0).max(group.name.len());
    let besides = match group.program {
        Some(_) => format!("{:>9} {:>6}", "Linux", "ratio"),
        None => format!("{:>6} {:>6} {:>6}", "TLBI", "DSB", "ISB"),
    };
    let mut out = format!(
        "{:<width$}  {:>9} {:<14} {:>9}  {:>7} {:<7} {besides}\n",
        group.name, "figure", "", "committed", "goal", "",
    );
    for (row, judged) in group.rows.iter().zip(judged) {
        out.push_str(&line(row, judged, width, group.program.is_some()));
    }
    let goals = group.rows.iter().zip(judged);
    let goals = goals.filter_map(|(row, judged)| met(row, judged));
    let (met, missed): (Vec<bool>, Vec<bool>) = goals.partition(|met| *met);
    let all = met.len() + missed.len();
    out.push_str(&format!("{} of {all} goals are met\n", met.len()));
    out
}

/// Whether the row's goal is met, if it has one. What cannot be measured meets none.
fn met(row: &Row, judged: &Judged) -> Option<bool> {
    let figure = judged.now.as_ref().map_or(f64::INFINITY, |now| now.figure);
    // As it is shown: the loop around a thousand operations is no part of one.
    Some((figure * 100.0).round() / 100.0 <= row.goal?)
}

fn line(row: &Row, judged: &Judged, width: usize, with_linux: bool) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let met = match met(row, judged) {
        Some(true) => "met",
        Some(false) => "NOT MET",
        None => "",
    };
    let now = judged.now.as_ref();
    let besides = if with_linux {
        let ratio = now.zip(row.linux).map(|(now, linux)| now.figure / linux);
        format!("{:>9} {:>6}", number(row.linux), number(ratio))
    } else {
        let [tlbi, dsb, isb] = now.map_or([0; 3], |now| now.events);
        format!("{tlbi:>6} {dsb:>6} {isb:>6}")
    };
    let note = match &judged.verdict {
        Verdict::Missing { why, .. } => why,
        _ => &row.note,
    };
    let text = format!(
        "{:<width$}  {:>9} {:<14} {:>9}  {:>7} {met:<7} {besides}  {note}",
        row.title(),
        number(now.map(|now| now.figure)),
        now.map_or("", |now| now.unit.as_str()),
        number(row.figure),
        number(row.goal),
    );
    format!("{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::{TEXT, boots, measured};
    use super::*;

    fn judge(instructions: u64, events: [u64; 3]) -> Verdict {
        let group = Group::parse(TEXT).unwrap();
        let usual = vec![measured("plain", 100, instructions, events)];
        all(&group, &boots(usual, Vec::new()))[0].verdict.clone()
    }

    #[test]
    fn three_percent_is_fine_and_more_is_worse() {
        assert_eq!(judge(1000, [8; 3]), Verdict::Fine);
        assert_eq!(judge(500, [0; 3]), Verdict::Fine);
        assert_eq!(judge(1030, [8; 3]), Verdict::Fine);
        let worse = judge(1031, [8; 3]);
        let said = "10.31, committed 10.00 (+3.1 %)".to_owned();
        assert_eq!(worse, Verdict::Worse(said));
        assert!(worse.fails() && !Verdict::Fine.fails());
    }

    #[test]
    fn one_invalidation_more_is_worse() {
        assert_eq!(
            judge(1000, [9, 8, 8]),
            Verdict::Worse("9 tlbi, committed 8".to_owned())
        );
        assert_eq!(
            judge(1000, [8, 8, 9]),
            Verdict::Worse("9 isb, committed 8".to_owned())
        );
    }

    #[test]
    fn rows_missing_on_either_side_fail() {
        let group = Group::parse(TEXT).unwrap();
        let usual = vec![
            measured("plain", 100, 1000, [8; 3]),
            measured("other", 1, 1, [0; 3]),
        ];
        let off = vec![
            measured("alloc", 1, 4, [0; 3]),
            measured("zero", 1, 2, [0; 3]),
        ];
        let verdicts = |usual, off| {
            let judged = all(&group, &boots(usual, off));
            let pairs = judged
                .into_iter()
                .map(|judged| (judged.name, judged.verdict));
            pairs.collect::<Vec<_>>()
        };
        let named = |name: &str, verdict| (name.to_owned(), verdict);
        assert_eq!(
            verdicts(usual, off),
            [
                named("plain", Verdict::Fine),
                named("ratio (off)", Verdict::NoFigure),
                named("other", Verdict::Unlisted),
            ]
        );
        assert_eq!(
            verdicts(Vec::new(), Vec::new()),
            [
                named("plain", Verdict::NotMeasured),
                named("ratio (off)", Verdict::NotMeasured),
            ]
        );
    }

    #[test]
    fn what_never_could_be_measured_is_told_and_what_once_could_fails() {
        let mut group = Group::parse(TEXT).unwrap();
        group.program = Some("costs".to_owned());
        let mut run = boots(Vec::new(), Vec::new());
        let usual = run.get_mut("usual").unwrap();
        let why = "SKIP: errno 38 at fork".to_owned();
        usual.missing.insert("plain".to_owned(), why.clone());
        let judged = all(&group, &run);
        assert!(judged[0].verdict.fails(), "a figure is committed");
        let shown = table(&group, &judged);
        assert!(shown.lines().nth(1).unwrap().ends_with(&why), "{shown}");
        assert!(shown.ends_with("\n0 of 1 goals are met\n"), "{shown}");
        group.rows[0].figure = None;
        assert!(!all(&group, &run)[0].verdict.fails());
    }

    #[test]
    fn linux_stands_beside_what_a_program_measures() {
        let mut group = Group::parse(TEXT).unwrap();
        group.program = Some("costs".to_owned());
        group.rows[0].linux = Some(46.0);
        let run = boots(vec![measured("plain", 100, 1150, [0; 3])], Vec::new());
        let shown = table(&group, &all(&group, &run));
        assert!(
            shown.lines().nth(1).unwrap().contains(" 46.00   0.25"),
            "{shown}"
        );
        assert!(shown.ends_with("\n1 of 1 goals are met\n"), "{shown}");
    }

    #[test]
    fn the_table_tells_whether_goals_are_met() {
        let mut group = Group::parse(TEXT).unwrap();
        let run = boots(vec![measured("plain", 100, 1150, [1, 2, 3])], Vec::new());
        let shown = |group: &Group| table(group, &all(group, &run));
        let line = shown(&group).lines().nth(1).unwrap().to_owned();
        assert!(
            line.starts_with("plain") && line.contains(" 11.50 "),
            "{line}"
        );
        assert!(line.contains(" met "), "{line}");
        assert!(shown(&group).lines().nth(2).unwrap().contains(" - "));
        group.rows[0].goal = Some(11.0);
        assert!(shown(&group).contains("NOT MET"));
    }
}
