//! What a benchmark program says of its rows: lines on its standard output.

use anyhow::{Context, Result, bail};
use xtask::guest::{Guest, Limits, Piece};

use super::rows::Measured;

/// A line of a benchmark program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// `row NAME UNIT COUNT INSTRUCTIONS FAULTS`
    Row(Measured),
    /// `skip NAME ERRNO WHERE`: the kernel refuses something.
    Skip {
        /// The row.
        name: String,
        /// The error number.
        errno: u32,
        /// The call.
        at: String,
    },
    /// `undone NAME WHAT`: the work was not done as the name says.
    Undone {
        /// The row.
        name: String,
        /// What was wrong.
        what: String,
    },
}

impl Said {
    /// The row's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Row(measured) => &measured.name,
            Self::Skip { name, .. } | Self::Undone { name, .. } => name,
        }
    }

    /// Why there is no figure; `None` if there is one.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Row(_) => None,
            Self::Skip { errno, at, .. } => Some(format!("SKIP: errno {errno} at {at}")),
            Self::Undone { what, .. } => Some(format!("NOT DONE: {what}")),
        }
    }

    /// Reads a line; `None` for lines of another kind.
    ///
    /// # Errors
    /// A line of one of these kinds that lacks something.
    fn read(line: &str) -> Result<Option<Self>> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let said = match kind {
            "row" => row(rest).map(Self::Row),
            "skip" => skip(rest),
            "undone" => rest.split_once(' ').map(|(name, what)| Self::Undone {
                name: name.to_owned(),
                what: what.to_owned(),
            }),
            _ => return Ok(None),
        };
        said.with_context(|| format!("not understood: {line}"))
            .map(Some)
    }
}

fn row(rest: &str) -> Option<Measured> {
    let mut words = rest.split(' ');
    Some(Measured {
        name: words.next()?.to_owned(),
        unit: words.next()?.to_owned(),
        count: words.next()?.parse::<u64>().ok()?.max(1),
        instructions: words.next()?.parse().ok()?,
        events: [0; 3],
    })
}

fn skip(rest: &str) -> Option<Said> {
    let mut words = rest.split(' ');
    Some(Said::Skip {
        name: words.next()?.to_owned(),
        errno: words.next()?.parse().ok()?,
        at: words.next()?.to_owned(),
    })
}

/// Follows the program to its end.
///
/// # Errors
/// It did not end with status 0, or a line of its makes no sense.
pub fn follow(guest: Guest, limits: &Limits) -> Result<Vec<Said>> {
    let mut output = Vec::new();
    let run = guest.run(limits, |_, piece| {
        if let Piece::Output(bytes) = piece {
            output.extend_from_slice(bytes);
        }
        Ok(())
    })?;
    let output = String::from_utf8_lossy(&output);
    if run.ending.status() != 0 {
        let last: Vec<&str> = output.lines().rev().take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!("{}; last on the console:\n{}", run.ending, last.join("\n"));
    }
    let said = output.lines().map(Said::read);
    let said: Vec<Option<Said>> = said.collect::<Result<_>>()?;
    Ok(said.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whole_or_not_at_all() {
        let read = |line: &str| Said::read(line).unwrap().unwrap();
        let Said::Row(row) = read("row munmap_4k page 16384 491520 -") else {
            panic!()
        };
        assert_eq!((row.name.as_str(), row.cost()), ("munmap_4k", 30.0));
        let skip = read("skip munmap_4k 22 prctl").reason();
        assert_eq!(skip.as_deref(), Some("SKIP: errno 22 at prctl"));
        let undone = read("undone munmap_4k 7 faults");
        assert_eq!(undone.reason().as_deref(), Some("NOT DONE: 7 faults"));
        assert_eq!(undone.name(), "munmap_4k");
        assert_eq!(Said::read("mmcosts: done").unwrap(), None);
        for short in [
            "row",
            "row a page 1",
            "row a page x 1",
            "skip a",
            "skip a b c",
            "undone a",
        ] {
            assert!(Said::read(short).is_err(), "{short}");
        }
    }
}
