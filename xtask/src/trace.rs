//! What the kernel traced, read back from its control lines.

use std::collections::BTreeMap;
use std::fmt;

use mm::trace::{Categories, Category};

use crate::control::Line;

/// Reads the categories of a command line.
///
/// # Errors
/// What is wrong, with the words that there are.
pub fn categories(text: &str) -> Result<Categories, String> {
    let known = || {
        let words: Vec<_> = Category::ALL.iter().map(|(_, word)| *word).collect();
        format!("known are {}, and all", words.join(", "))
    };
    match Categories::parse(text) {
        Err(word) => Err(format!("there is no category `{word}`; {}", known())),
        Ok(none) if none.is_empty() => Err(format!("no category is named; {}", known())),
        Ok(categories) => Ok(categories),
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since the start of the machine.
    pub ns: u64,
    /// The CPU.
    pub cpu: u64,
    /// What happened, by its word.
    pub kind: String,
    /// The number of the space, or 0.
    pub space: u64,
    /// An address.
    pub va: u64,
    /// A number, as the kind says.
    pub arg: u64,
    /// A detail, as the kind says.
    pub detail: u64,
    /// Instructions that it took, or 0.
    pub cost: u64,
}

impl Event {
    fn parse(cpu: u64, text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let ns = hex(parts.next()?)?;
        let kind = parts.next()?.to_owned();
        let mut next = || hex(parts.next()?);
        let (space, va, arg, detail, cost) = (next()?, next()?, next()?, next()?, next()?);
        parts.next().is_none().then_some(Self {
            ns,
            cpu,
            kind,
            space,
            va,
            arg,
            detail,
            cost,
        })
    }

    /// Which kind of fault it is, if it is a fault: the end of the name of its counter.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        self.kind.strip_prefix("fault_")
    }

    /// What the detail means.
    fn detail(&self) -> String {
        if self.fault().is_some() {
            let access = ["read", "write", "fetch", "?"][(self.detail & 3) as usize];
            let who = ["", " by the kernel"][usize::from(self.detail & 4 != 0)];
            return format!("{access}{who}");
        }
        match (self.kind.as_str(), self.detail) {
            ("flush_range" | "flush_space", asid) => format!("identifier {asid}"),
            (_, 0) => String::new(),
            (_, 1) => "more to do".to_owned(),
            (_, other) => other.to_string(),
        }
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// As people read it, on one line.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (us, ns) = (self.ns / 1000, self.ns % 1000);
        write!(f, "{us:>9}.{ns:03} us  cpu {:<2}", self.cpu)?;
        write!(f, "  space {:<4} {:<15}", self.space, self.kind)?;
        write!(f, " {:#14x} {:#10x}", self.va, self.arg)?;
        match self.cost {
            0 => write!(f, " {:>9}", "")?,
            cost => write!(f, " {cost:>9}")?,
        }
        match self.detail() {
            detail if detail.is_empty() => Ok(()),
            detail => write!(f, "  {detail}"),
        }
    }
}

/// All events of a run, in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The events.
    pub events: Vec<Event>,
    /// How many more there were, whose places newer ones took.
    pub lost: u64,
}

impl Trace {
    /// Takes the trace out of the control lines of a run.
    ///
    /// # Errors
    /// A line that does not say what it should, or events that are missing.
    pub fn of(lines: &[Line]) -> Result<Self, String> {
        let mut trace = Self::default();
        let mut kept = 0;
        for line in lines {
            let number = |key| {
                let value = line.number(key);
                value.ok_or(format!("a line `{}` without {key}", line.event()))
            };
            match line.event() {
                "trace" => trace.add(number("cpu")?, line.get("text").unwrap_or_default())?,
                "traced" => {
                    kept += number("kept")?;
                    trace.lost += number("lost")?;
                }
                _ => {}
            }
        }
        // Within a CPU the order is that of the lines: the sort is stable.
        trace.events.sort_by_key(|event| event.ns);
        match trace.events.len() as u64 {
            all if all == kept => Ok(trace),
            all => Err(format!("the kernel kept {kept} events, {all} arrived")),
        }
    }

    fn add(&mut self, cpu: u64, text: &str) -> Result<(), String> {
        for word in text.split_ascii_whitespace() {
            let event = Event::parse(cpu, word).ok_or(format!("`{word}` is no event"))?;
            self.events.push(event);
        }
        Ok(())
    }

    /// How many faults of each kind there were.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for kind in self.events.iter().filter_map(Event::fault) {
            *counts.entry(kind).or_default() += 1;
        }
        counts
    }

    /// A heading, a line for each event, and what was lost.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:>13} us  cpu     space      {:<15} {:>14} {:>10} {:>9}\n",
            "time", "what", "va", "arg", "cost"
        );
        self.events
            .iter()
            .for_each(|event| text.push_str(&format!("{event}\n")));
        let count = self.events.len();
        text.push_str(&format!("{count} events"));
        if self.lost > 0 {
            text.push_str(&format!(
                "; {} older ones were lost (--bootarg tessera.trace_events=N keeps more)",
                self.lost
            ));
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mm::trace::Kind;

    fn lines(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|text| Line::parse(text)).collect()
    }

    #[test]
    fn a_wrong_category_is_named_with_those_that_there_are() {
        let error = categories("fault,folt").unwrap_err();
        assert!(error.contains("`folt`"), "{error}");
        for (_, word) in Category::ALL {
            assert!(error.contains(word), "{word} in {error}");
        }
        assert!(categories(",").unwrap_err().contains("no category"));
        assert_eq!(categories("all"), Ok(Categories::ALL));
    }

    #[test]
    fn events_of_several_cpus_are_put_in_the_order_of_time() {
        let trace = Trace::of(&lines(&[
            "trace cpu=0 text=10,fault_anon,11,7f000,1000,1,a 30,zap,11,0,2,0,0",
            "traced cpu=0 kept=2 lost=7",
            "stats json={}",
            "trace cpu=1 text=20,fault_cow,11,8000,1000,5,ff",
            "traced cpu=1 kept=1 lost=1",
        ]))
        .unwrap();
        let order: Vec<_> = trace.events.iter().map(|e| (e.ns, e.cpu)).collect();
        assert_eq!((order, trace.lost), (vec![(16, 0), (32, 1), (48, 0)], 8));
        assert_eq!(trace.faults(), BTreeMap::from([("anon", 1), ("cow", 1)]));
        let table = trace.table();
        assert_eq!(table.lines().count(), 5);
        assert!(table.contains("write by the kernel"), "{table}");
        assert!(table.contains("8 older ones were lost"), "{table}");
    }

    #[test]
    fn a_run_without_a_trace_has_an_empty_one() {
        assert_eq!(Trace::of(&lines(&["exit status=0"])), Ok(Trace::default()));
    }

    #[test]
    fn what_is_cut_off_or_missing_is_an_error() {
        for texts in [
            &["trace cpu=0 text=10,fault_anon,11,7f000,1000,1"][..],
            &["trace cpu=0 text=10,fault_anon,11,7f000,1000,1,a,b"],
            &["trace text=10,zap,11,0,2,0,0"],
            &[
                "trace cpu=0 text=10,zap,11,0,2,0,0",
                "traced cpu=0 kept=2 lost=0",
            ],
        ] {
            assert!(Trace::of(&lines(texts)).is_err(), "{texts:?}");
        }
    }

    const DOCUMENT: &str = include_str!("../../docs/counters.md");

    /// The words in the first cell of a row.
    fn first_cells() -> impl Iterator<Item = &'static str> {
        let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `"));
        rows.filter_map(|row| row.split_once('`').map(|(cell, _)| cell))
    }

    #[test]
    fn the_document_and_the_code_name_the_same_counters() {
        let mut counters = vec!["faults_4k"];
        mm::Counters::default().each(|name, _| counters.push(name));
        pgtable::TableStats::new()
            .events()
            .each(|name, _| counters.push(name));
        let documented = first_cells().filter_map(|cell| cell.strip_prefix("memory."));
        let mut documented: Vec<_> = documented.collect();
        counters.sort_unstable();
        documented.sort_unstable();
        assert_eq!(documented, counters);
    }

    #[test]
    fn the_document_and_the_code_name_the_same_events() {
        for (category, word) in Category::ALL {
            let row = DOCUMENT
                .lines()
                .find(|line| line.starts_with(&format!("| `{word}` |")));
            let events = row.expect(word).split('|').nth(2).unwrap();
            let mut named: Vec<_> = events.split('`').skip(1).step_by(2).collect();
            named.retain(|name| *name != "faults_…");
            let kinds = Kind::ALL.iter();
            let kinds = kinds.filter(|kind| kind.categories().meets(Categories::of(*category)));
            assert_eq!(
                named,
                kinds.map(|kind| kind.word()).collect::<Vec<_>>(),
                "{word}"
            );
        }
    }

    #[test]
    fn every_kind_can_be_shown() {
        for kind in Kind::ALL {
            let word = format!("1,{},0,0,0,1,0", kind.word());
            let event = Event::parse(0, &word).unwrap();
            assert!(event.to_string().contains(kind.word()));
        }
    }
}
