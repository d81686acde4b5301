//! Events over time, one on top of the other by kind.

use std::fmt::Display;

use super::html::{Html, Px};
use crate::trace::{Event, Trace};

/// Columns of the picture.
const COLUMNS: usize = 120;
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 180.0;
/// Room for the words at the axes.
const LEFT: f64 = 60.0;
const BELOW: f64 = 22.0;

/// What a picture shows of an event, by the name of its colour; `None`: it is not shown.
pub type Choice = fn(&Event) -> Option<&str>;

/// How many events of each kind fell into each part of the time.
#[derive(Debug, PartialEq, Eq)]
pub struct Timeline<'a> {
    /// First and last moment, in nanoseconds.
    from: u64,
    to: u64,
    /// Kinds, in the order of their first event.
    kinds: Vec<&'a str>,
    columns: Vec<Vec<u64>>,
}

impl<'a> Timeline<'a> {
    /// None without events that are chosen.
    fn of(trace: &'a Trace, choice: Choice) -> Option<Self> {
        let chosen = || {
            let events = trace.events.iter();
            events.filter_map(|event| Some((event.ns, choice(event)?)))
        };
        let (from, to) = (chosen().next()?.0, chosen().next_back()?.0);
        let mut kinds: Vec<&str> = Vec::new();
        let mut columns = vec![Vec::new(); COLUMNS];
        for (ns, kind) in chosen() {
            let index = kinds.iter().position(|known| *known == kind);
            let index = index.unwrap_or_else(|| {
                kinds.push(kind);
                kinds.len() - 1
            });
            let column: &mut Vec<u64> = &mut columns[column(ns - from, to - from)];
            column.resize(column.len().max(index + 1), 0);
            column[index] += 1;
        }
        Some(Self {
            from,
            to,
            kinds,
            columns,
        })
    }

    fn total(&self, kind: usize) -> u64 {
        self.columns
            .iter()
            .filter_map(|column| column.get(kind))
            .sum()
    }

    fn highest(&self) -> u64 {
        let sums = self.columns.iter().map(|column| column.iter().sum());
        sums.max().unwrap_or(0)
    }

    /// When a column begins, in microseconds.
    fn begins(&self, column: usize) -> f64 {
        let span = (self.to - self.from) as f64;
        (self.from as f64 + span * column as f64 / COLUMNS as f64) / 1000.0
    }
}

fn column(ns: u64, span: u64) -> usize {
    let at = u128::from(ns) * COLUMNS as u128 / u128::from(span.max(1));
    (at as usize).min(COLUMNS - 1)
}

/// Draws the picture of the chosen events and its legend; what they are is said by `name`.
pub fn draw(html: &mut Html, trace: &Trace, name: &str, choice: Choice) {
    let Some(timeline) = Timeline::of(trace, choice) else {
        return html.leaf("p", &[], format!("Nothing was traced of {name}."));
    };
    html.element("p", &[], |html| {
        html.text(format!("Over time, {name}:"));
        for (index, kind) in timeline.kinds.iter().enumerate() {
            let class = format!("key {kind}");
            html.element("span", &[("class", &class)], |_| {});
            html.text(format!("{kind} {}", timeline.total(index)));
        }
    });
    html.element("figure", &[], |html| {
        let view = format!("0 0 {} {}", LEFT + WIDTH, HEIGHT + BELOW);
        let (width, height) = (LEFT + WIDTH, HEIGHT + BELOW);
        let size: [(&str, &dyn Display); 3] =
            [("viewBox", &view), ("width", &width), ("height", &height)];
        html.element("svg", &size, |html| picture(html, &timeline));
        let words = match trace.lost {
            0 => "All of the run.".to_owned(),
            lost => format!("The newest events only: {lost} older ones were overwritten."),
        };
        html.leaf("figcaption", &[], words);
    });
}

fn picture(html: &mut Html, timeline: &Timeline<'_>) {
    let highest = timeline.highest();
    let scale = (HEIGHT - 12.0) / highest.max(1) as f64;
    let width = WIDTH / COLUMNS as f64;
    for (index, column) in timeline.columns.iter().enumerate() {
        let mut top = HEIGHT;
        let (from, to) = (timeline.begins(index), timeline.begins(index + 1));
        for (kind, count) in timeline.kinds.iter().zip(column) {
            let height = *count as f64 * scale;
            top -= height;
            if *count > 0 {
                let (x, y) = (Px(LEFT + index as f64 * width), Px(top));
                let (width, height) = (Px(width - 0.5), Px(height));
                let place: [(&str, &dyn Display); 5] = [
                    ("class", kind),
                    ("x", &x),
                    ("y", &y),
                    ("width", &width),
                    ("height", &height),
                ];
                let title = format!("{count} × {kind}, {from:.0} to {to:.0} us");
                html.element("rect", &place, |html| html.leaf("title", &[], title));
            }
        }
    }
    axes(html, timeline, highest);
}

fn axes(html: &mut Html, timeline: &Timeline<'_>, highest: u64) {
    let path = format!("M{LEFT} 0V{HEIGHT}H{}", LEFT + WIDTH);
    html.empty("path", &[("class", &"axis"), ("d", &path)]);
    let mut words = |x: f64, y: f64, anchor: &str, text: String| {
        let place: [(&str, &dyn Display); 3] = [("x", &x), ("y", &y), ("text-anchor", &anchor)];
        html.leaf("text", &place, text);
    };
    words(LEFT - 6.0, 14.0, "end", highest.to_string());
    words(LEFT - 6.0, HEIGHT, "end", "0".into());
    for (part, anchor) in [(0, "start"), (1, "middle"), (2, "end")] {
        let x = LEFT + WIDTH * f64::from(part) / 2.0;
        let us = timeline.begins(COLUMNS * part as usize / 2);
        words(x, HEIGHT + 16.0, anchor, format!("{us:.0} us"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::html::tests::assert_well_formed;
    use super::*;

    fn event(ns: u64, kind: &str) -> Event {
        Event {
            ns,
            cpu: 0,
            kind: kind.into(),
            space: 17,
            va: 0,
            arg: 0,
            detail: 0,
            cost: 1,
        }
    }

    fn drawn(trace: &Trace) -> String {
        let mut html = Html::new();
        draw(&mut html, trace, "faults", Event::fault);
        let text = html.finish();
        assert_well_formed(&text);
        text
    }

    #[test]
    fn every_fault_is_in_one_column() {
        let kinds = ["fault_anon", "fault_image", "zap"];
        let events = (0..3000).map(|n| event(1000 + n * n, kinds[n as usize % 3]));
        let trace = Trace {
            events: events.collect(),
            lost: 0,
        };
        let timeline = Timeline::of(&trace, Event::fault).unwrap();
        assert_eq!(timeline.kinds, ["anon", "image"]);
        assert_eq!([0, 1].map(|kind| timeline.total(kind)), [1000, 1000]);
        assert!(timeline.highest() > 2000 / COLUMNS as u64);
        assert!((timeline.begins(0) - 1.0).abs() < 1e-9);
        assert!(drawn(&trace).contains("All of the run."));
    }

    #[test]
    fn one_fault_and_none_can_be_drawn() {
        let one = Trace {
            events: vec![event(u64::MAX, "fault_oom")],
            lost: 9,
        };
        let text = drawn(&one);
        assert!(
            text.contains("oom 1") && text.contains("9 older ones"),
            "{text}"
        );
        assert!(drawn(&Trace::default()).contains("Nothing was traced of faults."));
    }

    #[test]
    fn every_kind_of_fault_has_a_colour() {
        for kind in mm::trace::Kind::ALL {
            if let Some(fault) = kind.word().strip_prefix("fault_") {
                let rule = format!(".{fault} {{ fill:");
                assert!(super::super::STYLE.contains(&rule), "{fault}");
            }
        }
    }
}
