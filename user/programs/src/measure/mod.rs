//! Rows of a benchmark program, in groups: which are wanted, how often they run, and what is said of them.

pub mod clock;

use crate::check;
pub use clock::{Sample, measure};

/// Why a group or a row has no figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The kernel refuses a call.
    Refused {
        /// The error number, positive.
        errno: isize,
        /// The call.
        at: &'static str,
    },
    /// The work was not done as the row's name says.
    Undone(String),
}

/// The result of a step.
pub type Done<T = ()> = Result<T, Failure>;

/// The value of a call that has to succeed.
pub fn accept(got: isize, at: &'static str) -> Done<usize> {
    match got {
        -4095..0 => Err(Failure::Refused { errno: -got, at }),
        value => Ok(value as usize),
    }
}

/// Whether the work was done.
pub fn confirm(done: bool, what: impl FnOnce() -> String) -> Done {
    if done {
        Ok(())
    } else {
        Err(Failure::Undone(what()))
    }
}

/// What the arguments ask for.
pub struct Choice {
    only: Vec<String>,
    row: Option<String>,
    repetitions: usize,
}

impl Choice {
    /// Reads the program's arguments.
    pub fn from_arguments() -> Self {
        let mut choice = Self {
            only: Vec::new(),
            row: None,
            repetitions: 5,
        };
        for argument in std::env::args().skip(1) {
            match argument.split_once('=') {
                Some(("only", names)) => {
                    choice.only = names.split(',').map(str::to_owned).collect()
                }
                Some(("row", name)) => choice.row = Some(name.to_owned()),
                Some(("reps", number)) if number.parse().is_ok_and(|number: usize| number > 0) => {
                    choice.repetitions = number.parse().unwrap_or(1);
                }
                _ => check::usage("only=GROUP[,GROUP...], row=NAME and reps=N are understood"),
            }
        }
        if choice.row.is_some() {
            choice.repetitions = 1;
        }
        choice
    }

    fn wants(&self, group: &str, rows: &[Row]) -> bool {
        match &self.row {
            Some(name) => rows.iter().any(|row| row.name == *name),
            None => self.only.is_empty() || self.only.iter().any(|only| group.starts_with(only)),
        }
    }
}

/// A row: its name, what is counted, and how many there are of it.
#[derive(Clone, Debug)]
pub struct Row {
    name: String,
    unit: &'static str,
    count: u64,
}

/// A row with a name, its group's suffix, a unit and the number of operations.
pub fn row(name: &str, suffix: &str, unit: &'static str, count: u64) -> Row {
    Row {
        name: format!("{name}{suffix}"),
        unit,
        count,
    }
}

/// The samples of a group while it runs.
pub struct Meter<'a> {
    rows: &'a [Row],
    samples: Vec<Vec<Sample>>,
    failures: Vec<Option<Failure>>,
    marked: Option<usize>,
}

impl Meter<'_> {
    /// Measures `action` for the row at `index`.
    #[inline(always)]
    pub fn time(&mut self, index: usize, action: impl FnOnce()) -> Sample {
        let marked = self.marked == Some(index);
        let sample = measure(marked, action);
        self.samples[index].push(sample);
        sample
    }

    /// Measures a system call that has to succeed.
    #[inline(always)]
    pub fn time_call(
        &mut self,
        index: usize,
        at: &'static str,
        call: impl FnOnce() -> isize,
    ) -> Done<Sample> {
        let mut got = 0;
        let sample = self.time(index, || got = call());
        accept(got, at).map(|_| sample)
    }

    /// Takes the row at `index` out, the others stay; the first reason is kept.
    pub fn spoil(&mut self, index: usize, failure: Failure) {
        self.failures[index].get_or_insert(failure);
    }

    /// Requires the faults of the row at `index` to be as many as the pages of folios make: one for
    /// each, and a few for the program's own. A kernel that counts none cannot be judged by it.
    pub fn claim_faults(&mut self, index: usize, sample: Sample, expected: u64) {
        let slack = expected / 50 + 8;
        if let Some(faults) = sample.faults
            && faults.abs_diff(expected) > slack
        {
            let what = format!("{faults} faults where {expected} are due");
            self.spoil(index, Failure::Undone(what));
        }
    }
}

/// Runs a group's `body` as often as asked for, and prints its rows. The error of one repetition is
/// the end of the whole group.
pub fn run(
    choice: &Choice,
    group: &str,
    rows: &[Row],
    mut body: impl FnMut(&mut Meter<'_>) -> Done,
) {
    if !choice.wants(group, rows) {
        return;
    }
    let is_marked = |row: &Row| choice.row.as_ref() == Some(&row.name);
    let mut meter = Meter {
        rows,
        samples: vec![Vec::with_capacity(choice.repetitions); rows.len()],
        failures: vec![None; rows.len()],
        marked: rows.iter().position(is_marked),
    };
    for _ in 0..choice.repetitions {
        if let Err(failure) = body(&mut meter) {
            for index in 0..rows.len() {
                meter.spoil(index, failure.clone());
            }
            break;
        }
    }
    meter.print();
}

impl Meter<'_> {
    fn print(mut self) {
        for (index, row) in self.rows.iter().enumerate() {
            let Row { name, unit, count } = row;
            match &self.failures[index] {
                Some(Failure::Refused { errno, at }) => println!("skip {name} {errno} {at}"),
                Some(Failure::Undone(what)) => println!("undone {name} {what}"),
                None => {
                    let samples = &mut self.samples[index];
                    samples.sort_unstable();
                    let median = samples[samples.len() / 2];
                    let faults = median
                        .faults
                        .map_or("-".to_owned(), |faults| faults.to_string());
                    println!("row {name} {unit} {count} {} {faults}", median.instructions);
                }
            }
        }
    }
}
