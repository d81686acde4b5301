//! The rows of a group: what the repository says of them, and what the kernel has measured.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use xtask::control::Line;

/// What an operation cost, over all its runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The row's name.
    pub name: String,
    /// What is counted: entries, pages, operations.
    pub unit: String,
    /// How many.
    pub count: u64,
    /// Instructions.
    pub instructions: u64,
    /// TLB invalidations, data barriers and instruction barriers.
    pub events: [u64; 3],
}

/// The names of [`Measured::events`].
pub const EVENTS: [&str; 3] = ["tlbi", "dsb", "isb"];

impl Measured {
    /// Reads a `bench-row` line.
    ///
    /// # Errors
    /// Something is missing in it.
    pub fn read(line: &Line) -> Result<Self> {
        let number = |key: &str| {
            let found = line.number(key);
            found.with_context(|| format!("no number `{key}` in `bench-row {}`", line.rest()))
        };
        let word = |key: &str| {
            let found = line.get(key).map(str::to_owned);
            found.with_context(|| format!("no `{key}` in `bench-row {}`", line.rest()))
        };
        Ok(Self {
            name: word("name")?,
            unit: word("unit")?,
            count: number("count")?.max(1),
            instructions: number("instructions")?,
            events: [number("tlbi")?, number("dsb")?, number("isb")?],
        })
    }

    /// Instructions for one.
    pub fn cost(&self) -> f64 {
        self.instructions as f64 / self.count as f64
    }
}

/// The boot whose name goes without saying.
const USUAL: &str = "usual";

/// What one boot has measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Rows with a figure.
    pub measured: Vec<Measured>,
    /// Rows without one, and why.
    pub missing: BTreeMap<String, String>,
}

impl From<Vec<Measured>> for Rows {
    fn from(measured: Vec<Measured>) -> Self {
        let missing = BTreeMap::new();
        Self { measured, missing }
    }
}

/// What was measured for a row of the repository's.
#[derive(Clone, Debug, PartialEq)]
pub struct Now {
    /// Instructions for one, or a ratio.
    pub figure: f64,
    /// Of what.
    pub unit: String,
    /// TLBIs, DSBs and ISBs of all runs.
    pub events: [u64; 3],
}

/// A row as the repository has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name in the table and in the file.
    pub name: String,
    /// The name the kernel gives it.
    pub measured: String,
    /// The boot whose measurement counts.
    pub boot: String,
    /// The figure is a ratio to the cost of this row of the same boot.
    pub relative_to: Option<String>,
    /// Instructions for one, or the ratio, when it was written; none before the first time.
    pub figure: Option<f64>,
    /// TLBIs, DSBs and ISBs of all runs then.
    pub events: Option<[u64; 3]>,
    /// What is aimed at.
    pub goal: Option<f64>,
    /// What Linux takes for the same.
    pub linux: Option<f64>,
    /// What is measured, and under which conditions.
    pub note: String,
}

/// A file of `tests/bench`.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What `tessera.bench=` is told, where the kernel measures itself.
    pub name: String,
    /// The program in `user/programs` that measures; without one the kernel does it itself.
    pub program: Option<String>,
    /// RAM, as QEMU writes it, where the usual amount will not do.
    pub memory: Option<String>,
    /// The boots, each with words: those of the kernel's command line begin with `tessera.`, the
    /// others are the program's arguments.
    pub boots: BTreeMap<String, Vec<String>>,
    /// The rows in the order of the table.
    pub rows: Vec<Row>,
}

impl Group {
    /// Reads a file.
    ///
    /// # Errors
    /// It is no JSON, or lacks something.
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let boots = value["boots"].as_object().context("no `boots`")?;
        let words = |list: &Value| -> Option<Vec<String>> {
            let words = list.as_array()?.iter();
            words.map(|word| Some(word.as_str()?.to_owned())).collect()
        };
        let boots = boots.iter().map(|(name, list)| {
            let words = words(list).with_context(|| format!("boot {name} is no list of words"))?;
            Ok((name.clone(), words))
        });
        let rows = value["rows"].as_array().context("no `rows`")?;
        Ok(Self {
            name: value["group"].as_str().context("no `group`")?.to_owned(),
            program: value["program"].as_str().map(str::to_owned),
            memory: value["memory"].as_str().map(str::to_owned),
            boots: boots.collect::<Result<_>>()?,
            rows: rows.iter().map(row).collect::<Result<_>>()?,
        })
    }

    /// The file's text: one line for each row.
    pub fn text(&self) -> String {
        let rows: Vec<String> = self
            .rows
            .iter()
            .map(|row| format!("    {}", json_of(row)))
            .collect();
        let boots: Vec<String> = self
            .boots
            .iter()
            .map(|(name, words)| format!("    {}: {}", json!(name), json!(words)))
            .collect();
        let options = [("program", &self.program), ("memory", &self.memory)];
        let options: String = options
            .iter()
            .filter_map(|(key, value)| Some((key, value.as_ref()?)))
            .map(|(key, value)| format!("  {}: {},\n", json!(key), json!(value)))
            .collect();
        format!(
            "{{\n  \"group\": {},\n{options}  \"boots\": {{\n{}\n  }},\n  \"rows\": [\n{}\n  ]\n}}\n",
            json!(self.name),
            boots.join(",\n"),
            rows.join(",\n"),
        )
    }

    /// Takes over what was measured; everything else stays.
    pub fn update(&mut self, measured: &BTreeMap<String, Rows>) {
        for row in &mut self.rows {
            if let Some(now) = row.now(measured) {
                row.figure = Some((now.figure * 100.0).round() / 100.0);
                row.events = self.program.is_none().then_some(now.events);
            }
        }
    }
}

impl Row {
    /// Why this row has no figure, if the kernel or the program says so.
    pub fn missing(&self, measured: &BTreeMap<String, Rows>) -> Option<String> {
        measured
            .get(&self.boot)?
            .missing
            .get(&self.measured)
            .cloned()
    }

    /// The name for people: rows of one name in several boots are told apart.
    pub fn title(&self) -> String {
        match self.boot.as_str() {
            USUAL => self.name.clone(),
            boot => format!("{} ({boot})", self.name),
        }
    }

    /// What was measured for this row.
    pub fn now(&self, measured: &BTreeMap<String, Rows>) -> Option<Now> {
        let rows = measured.get(&self.boot)?;
        let find = |name: &str| rows.measured.iter().find(|row| row.name == name);
        let found = find(&self.measured)?;
        let (figure, unit) = match &self.relative_to {
            None => (found.cost(), format!("per {}", found.unit)),
            Some(other) => (found.cost() / find(other)?.cost(), format!("of {other}")),
        };
        Some(Now {
            figure,
            unit,
            events: found.events,
        })
    }
}

fn row(value: &Value) -> Result<Row> {
    let name = value["name"].as_str().context("a row without `name`")?;
    let word = |key: &str| value[key].as_str().map(str::to_owned);
    let events = value["events"].as_array().map(|events| {
        let mut numbers = events.iter().map(|event| event.as_u64().unwrap_or(0));
        [(); 3].map(|()| numbers.next().unwrap_or(0))
    });
    Ok(Row {
        name: name.to_owned(),
        measured: word("measured").unwrap_or_else(|| name.to_owned()),
        boot: word("boot").with_context(|| format!("row {name} has no `boot`"))?,
        relative_to: word("relative_to"),
        figure: value["figure"].as_f64(),
        events,
        goal: value["goal"].as_f64(),
        linux: value["linux"].as_f64(),
        note: word("note").unwrap_or_default(),
    })
}

/// On one line, in an order for people.
fn json_of(row: &Row) -> String {
    let mut parts = Vec::new();
    let mut field = |key: &str, value: Value| parts.push(format!("{}: {value}", json!(key)));
    field("name", json!(row.name));
    if row.measured != row.name {
        field("measured", json!(row.measured));
    }
    field("boot", json!(row.boot));
    if let Some(other) = &row.relative_to {
        field("relative_to", json!(other));
    }
    field("figure", json!(row.figure));
    field("goal", json!(row.goal));
    if let Some(linux) = row.linux {
        field("linux", json!(linux));
    }
    if row.events.is_some() || row.linux.is_none() {
        field("events", json!(row.events));
    }
    field("note", json!(row.note));
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Two boots; `plain` is measured in the first, `ratio` in the second.
    pub const TEXT: &str = r#"{
  "group": "pgtable",
  "boots": {
    "off": ["a.b=off"],
    "usual": []
  },
  "rows": [
    {"name": "plain", "boot": "usual", "figure": 10.0, "goal": 12.0, "events": [8,8,8], "note": "x"},
    {"name": "ratio", "measured": "alloc", "boot": "off", "relative_to": "zero", "figure": null, "goal": null, "events": null, "note": ""}
  ]
}
"#;

    pub fn measured(name: &str, count: u64, instructions: u64, events: [u64; 3]) -> Measured {
        let (name, unit) = (name.to_owned(), "entry".to_owned());
        Measured {
            name,
            unit,
            count,
            instructions,
            events,
        }
    }

    pub fn boots(usual: Vec<Measured>, off: Vec<Measured>) -> BTreeMap<String, Rows> {
        [
            ("usual".to_owned(), usual.into()),
            ("off".to_owned(), off.into()),
        ]
        .into()
    }

    #[test]
    fn a_file_is_written_as_it_is_read() {
        let group = Group::parse(TEXT).unwrap();
        assert_eq!(group.boots["off"], ["a.b=off"]);
        assert_eq!(group.rows[1].measured, "alloc");
        assert_eq!(group.text(), TEXT);
        assert_eq!(Group::parse(&group.text()).unwrap(), group);
    }

    #[test]
    fn a_group_that_a_program_measures_keeps_what_is_known_of_linux() {
        let text = TEXT
            .replace(
                "\"boots\"",
                "\"program\": \"mmcosts\",\n  \"memory\": \"2G\",\n  \"boots\"",
            )
            .replace("\"events\": [8,8,8]", "\"linux\": 44.5")
            .replace("\"events\": null", "\"linux\": 1.0");
        let mut group = Group::parse(&text).unwrap();
        assert_eq!(group.program.as_deref(), Some("mmcosts"));
        assert_eq!(group.rows[0].linux, Some(44.5));
        assert_eq!(group.text(), text);
        let usual = vec![measured("plain", 512, 4097, [1, 2, 3])];
        group.update(&boots(usual, Vec::new()));
        assert_eq!(
            (group.rows[0].figure, group.rows[0].events),
            (Some(8.0), None)
        );
    }

    #[test]
    fn an_incomplete_file_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"group":"x","boots":{"a":[1]},"rows":[]}"#,
            r#"{"group":"x","boots":{},"rows":[{}]}"#,
            r#"{"group":"x","boots":{},"rows":[{"name":"n"}]}"#,
        ] {
            assert!(Group::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn updating_changes_figures_and_nothing_else() {
        let mut group = Group::parse(TEXT).unwrap();
        let usual = vec![measured("plain", 512, 4097, [1, 2, 3])];
        let off = vec![
            measured("alloc", 2, 300, [0; 3]),
            measured("zero", 2, 200, [0; 3]),
        ];
        group.update(&boots(usual, off));
        assert_eq!(group.rows[0].figure, Some(8.0));
        assert_eq!(group.rows[0].events, Some([1, 2, 3]));
        assert_eq!(
            (group.rows[0].goal, group.rows[0].note.as_str()),
            (Some(12.0), "x")
        );
        assert_eq!(group.rows[1].figure, Some(1.5));
    }

    #[test]
    fn lines_of_the_kernel_are_read_whole_or_not_at_all() {
        let text = "bench-row name=map unit=entry count=512 instructions=5120 tlbi=1 dsb=2 isb=3";
        let row = Measured::read(&Line::parse(text)).unwrap();
        assert_eq!(row, measured("map", 512, 5120, [1, 2, 3]));
        assert_eq!(row.cost(), 10.0);
        for word in text.split(' ').skip(1) {
            let short = Line::parse(&text.replace(&format!(" {word}"), ""));
            assert!(Measured::read(&short).is_err(), "without {word}");
        }
    }
}
