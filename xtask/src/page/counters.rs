//! Counters as tables.

use std::collections::BTreeMap;

use serde_json::Value;

use super::html::Html;
use crate::trace::Trace;

/// A value of the figures as text; `-` for what is not there.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Faults by kind: what the kernel counted beside what the trace has.
pub fn faults(html: &mut Html, stats: &Value, trace: &Trace) {
    let traced = trace.faults();
    let rows = mm::trace::Kind::ALL.iter().filter_map(|kind| {
        let kind = kind.word().strip_prefix("fault_")?;
        let counted = &stats["memory"][format!("faults_{kind}")];
        let traced = traced.get(kind).copied().unwrap_or(0);
        let nothing = traced == 0 && counted.as_u64().unwrap_or(0) == 0;
        (!nothing).then(|| (kind, shown(counted), traced))
    });
    html.table(&["kind of fault", "counted", "traced"], |html| {
        rows.for_each(|(kind, counted, traced)| html.row(&[&kind, &counted, &traced]));
    });
}

/// Tables by level: made, freed, alive when the machine ended, and the most at any one time as far
/// as the trace tells.
pub fn tables(html: &mut Html, stats: &Value, trace: &Trace) {
    let most = most_tables(trace);
    let headings = ["tables", "made", "freed", "left", "most at a time"];
    html.table(&headings, |html| {
        for (level, counts) in stats["tables"].as_object().into_iter().flatten() {
            let number = level
                .strip_prefix("level_")
                .and_then(|text| text.parse().ok());
            let most = number.and_then(|number: i64| most.get(&number));
            let most = most.map_or("-".to_owned(), i64::to_string);
            let cell = |key: &str| shown(&counts[key]);
            html.row(&[
                &level.replace('_', " "),
                &cell("made"),
                &cell("freed"),
                &cell("live"),
                &most,
            ]);
        }
    });
}

/// The most tables of each level that were alive at a time, counted from the trace's beginning.
fn most_tables(trace: &Trace) -> BTreeMap<i64, i64> {
    let (mut live, mut most) = (BTreeMap::new(), BTreeMap::new());
    for event in &trace.events {
        let change = match event.kind.as_str() {
            "table_made" => 1,
            "table_freed" => -1,
            _ => continue,
        };
        let level = event.arg as i64;
        let live = live.entry(level).or_insert(0i64);
        *live += change;
        let most = most.entry(level).or_insert(0);
        *most = (*most).max(*live);
    }
    most
}

/// How many events of each kind there are, with what they cost.
pub fn kinds(html: &mut Html, trace: &Trace) {
    let mut all: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for event in &trace.events {
        let (count, cost) = all.entry(&event.kind).or_default();
        *count += 1;
        *cost += event.cost;
    }
    html.table(&["event", "times", "instructions in all"], |html| {
        for (kind, (count, cost)) in all {
            let cost = match cost {
                0 => "-".to_owned(),
                cost => cost.to_string(),
            };
            html.row(&[&kind, &count, &cost]);
        }
    });
    if trace.lost > 0 {
        let text = format!("{} older events were overwritten.", trace.lost);
        html.leaf("p", &[("class", &"note")], text);
    }
}

/// A table for each group of counters.
pub fn all(html: &mut Html, stats: &Value) {
    let Some(groups) = stats.as_object() else {
        let text = "The kernel gave no figures: the program did not come to its end.";
        return html.leaf("p", &[], text);
    };
    html.element("div", &[("class", &"columns")], |html| {
        let single = groups.iter().filter(|(_, value)| !value.is_object());
        group(html, "run", single);
        for (name, value) in groups {
            if let Some(values) = value.as_object() {
                let flat = values.iter().filter(|(_, value)| !value.is_object());
                group(html, &name.replace('_', " "), flat);
            }
        }
    });
}

fn group<'a>(html: &mut Html, name: &str, rows: impl Iterator<Item = (&'a String, &'a Value)>) {
    let mut rows = rows.peekable();
    if rows.peek().is_some() {
        html.table(&[name, ""], |html| {
            rows.for_each(|(key, value)| html.row(&[key, &shown(value)]));
        });
    }
}
