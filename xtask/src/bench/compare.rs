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
    /// It was measured and is not in the file.
    Unlisted,
}

impl Verdict {
    /// Whether the run fails for it.
    pub fn fails(&self) -> bool {
        *self != Self::Fine
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
            None => Verdict::NotMeasured,
            Some(now) => compare(now, row),
        };
        let name = row.title();
        Judged { name, now, verdict }
    });
    let is_listed = |name: &str| {
        let mut rows = group.rows.iter();
        rows.any(|row| row.measured == name || row.relative_to.as_deref() == Some(name))
    };
    let names = measured.values().flatten().map(|row| row.name.as_str());
    // Every boot measures the same rows.
    let unlisted: BTreeSet<&str> = names.filter(|name| !is_listed(name)).collect();
    let unlisted = unlisted.into_iter().map(|name| Judged {
        name: name.to_owned(),
        now: None,
        verdict: Verdict::Unlisted,
    });
    listed.chain(unlisted).collect()
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

/// The table of a group.
pub fn table(group: &Group, judged: &[Judged]) -> String {
    let names = group.rows.iter().map(|row| row.title().len());
    let width = names.max().unwrap_or(0).max(group.name.len());
    let mut out = format!(
        "{:<width$}  {:>9} {:<14} {:>9}  {:>7} {:<7} {:>6} {:>6} {:>6}\n",
        group.name, "figure", "", "committed", "goal", "", "TLBI", "DSB", "ISB"
    );
    for (row, judged) in group.rows.iter().zip(judged) {
        out.push_str(&line(row, judged.now.as_ref(), width));
    }
    out
}

fn line(row: &Row, now: Option<&Now>, width: usize) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let met = match (now, row.goal) {
        (Some(now), Some(goal)) if now.figure <= goal => "met",
        (Some(_), Some(_)) => "NOT MET",
        _ => "",
    };
    let [tlbi, dsb, isb] = now.map_or([0; 3], |now| now.events);
    format!(
        "{:<width$}  {:>9} {:<14} {:>9}  {:>7} {met:<7} {tlbi:>6} {dsb:>6} {isb:>6}  {}\n",
        row.title(),
        number(now.map(|now| now.figure)),
        now.map_or("", |now| now.unit.as_str()),
        number(row.figure),
        number(row.goal),
        row.note,
    )
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
