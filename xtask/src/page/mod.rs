//! The report of a run as one page of HTML that needs nothing else: no network, no script.

mod costs;
mod costs_view;
mod counters;
mod html;
mod space;
mod space_view;
mod timeline;

use serde_json::Value;

use crate::control::Line;
use crate::trace::{Event, Trace};
use html::Html;
use space::{Area, Size};

const STYLE: &str = include_str!("style.css");

/// What is known about a run.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The program and its arguments.
    pub command: &'a str,
    /// The machine, in words.
    pub machine: &'a str,
    /// How the run ended, in words.
    pub ending: &'a str,
    /// How long it took the host, in seconds.
    pub seconds: f64,
    /// Everything that the kernel told.
    pub lines: &'a [Line],
}

/// The page.
#[must_use]
pub fn page(facts: &Facts<'_>) -> String {
    // What cannot be read is as good as not there, and said in the summary.
    let (trace, unreadable) = match Trace::of(facts.lines) {
        Ok(trace) => (trace, None),
        Err(why) => (Trace::default(), Some(why)),
    };
    let run = Run {
        facts,
        stats: stats(facts.lines),
        areas: space::of(facts.lines),
        trace,
        unreadable,
    };
    let mut html = Html::new();
    html.raw("<!doctype html>");
    html.element("html", &[("lang", &"en")], |html| {
        html.element("head", &[], |html| {
            html.empty("meta", &[("charset", &"utf-8")]);
            let viewport = "width=device-width, initial-scale=1";
            html.empty("meta", &[("name", &"viewport"), ("content", &viewport)]);
            html.leaf("title", &[], format!("{} on Tessera", facts.command));
            html.element("style", &[], |html| html.raw(STYLE));
        });
        html.element("body", &[], |html| run.body(html));
    });
    html.finish()
}

/// The figures of the last program, if it came to its end.
fn stats(lines: &[Line]) -> Value {
    let line = lines.iter().rev().find(|line| line.event() == "stats");
    let json = line.and_then(|line| line.get("json"));
    json.and_then(|json| serde_json::from_str(json).ok())
        .unwrap_or(Value::Null)
}

/// What became of a block, if the event is about one.
fn block(event: &Event) -> Option<&str> {
    let kind = event.kind.as_str();
    matches!(kind, "fold" | "unfold" | "collapse" | "split").then_some(kind)
}

struct Run<'a> {
    facts: &'a Facts<'a>,
    stats: Value,
    areas: Vec<Area>,
    trace: Trace,
    unreadable: Option<String>,
}

impl Run<'_> {
    fn body(&self, html: &mut Html) {
        html.element("h1", &[], |html| html.leaf("code", &[], self.facts.command));
        self.summary(html);
        html.leaf("h2", &[], "The address space at its end");
        space_view::draw(html, &self.areas);
        html.leaf("h2", &[], "Faults over time");
        timeline::draw(html, &self.trace, "faults", Event::fault);
        counters::faults(html, &self.stats, &self.trace);
        html.leaf("h2", &[], "Contiguous blocks");
        self.blocks(html);
        html.leaf("h2", &[], "What faults cost");
        costs_view::draw(html, &costs::of(&self.trace));
        html.leaf("h2", &[], "Tables");
        counters::tables(html, &self.stats, &self.trace);
        html.leaf("h2", &[], "Everything that was traced");
        counters::kinds(html, &self.trace);
        html.leaf("h2", &[], "All counters");
        counters::all(html, &self.stats);
    }

    fn summary(&self, html: &mut Html) {
        let number = |key: &str| counters::shown(&self.stats[key]);
        let seconds = format!("{:.2}", self.facts.seconds);
        html.element("table", &[("class", &"facts")], |html| {
            html.row(&[&"ended", &self.facts.ending]);
            html.row(&[&"machine", &self.facts.machine]);
            html.row(&[&"instructions of the program", &number("instructions")]);
            html.row(&[&"system calls", &number("system_calls")]);
            html.row(&[&"frames not given back", &number("leaked_frames")]);
            html.row(&[&"seconds on this host", &seconds]);
            if let Some(why) = &self.unreadable {
                html.row(&[&"the trace cannot be read", why]);
            }
        });
    }

    fn blocks(&self, html: &mut Html) {
        let pages = Size::ALL.map(|size| space::pages(&self.areas, size));
        let all: u64 = pages.iter().sum();
        html.table(&["mapped at the end as", "pages", "of all"], |html| {
            for (size, pages) in Size::ALL.iter().zip(pages) {
                let percent = (pages * 100).checked_div(all).unwrap_or(0);
                html.row(&[size, &pages, &format!("{percent} %")]);
            }
        });
        let events = [
            "folds",
            "unfolds",
            "collapses",
            "splits",
            "faults_64k",
            "faults_2m",
        ];
        timeline::draw(html, &self.trace, "blocks", block);
        html.table(&["during the run", "times"], |html| {
            for event in events {
                let count = counters::shown(&self.stats["memory"][event]);
                html.row(&[&event.replace('_', " "), &count]);
            }
        });
    }
}

#[cfg(test)]
mod tests;
