//! What the kernel announces when it stops for the reader.

use std::fmt;

/// One translation table root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// Identity of the space; 1 is the kernel's own.
    pub space: u32,
    /// Physical address of the root table.
    pub table: u64,
    /// Number of levels, 2 to 5.
    pub levels: u8,
}

impl Root {
    /// The level the root table stands on: -1 for five levels, 0 for four, 1 for three.
    pub fn level(&self) -> i8 {
        4 - self.levels as i8
    }
}

/// The `snapshot` control line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Physical address of the root table in TTBR1_EL1.
    pub ttbr1: u64,
    /// Virtual address of the record of frame 0.
    pub vmemmap: u64,
    /// Whether descriptors have the LPA2 format (TCR_EL1.DS).
    pub lpa2: bool,
    /// Whether the kernel says that it cannot write tables where it reads them.
    pub protected: bool,
    /// Every root there is.
    pub roots: Vec<Root>,
}

/// Why a `snapshot` line cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSnapshot(String);

impl fmt::Display for BadSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unusable snapshot line: {}", self.0)
    }
}

impl Snapshot {
    /// Reads the words after `snapshot`, as `(key, value)` pairs in the order they came.
    ///
    /// # Errors
    /// When a word is missing, unknown in value, or no root is announced.
    pub fn parse<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, BadSnapshot> {
        let (mut ttbr1, mut vmemmap, mut lpa2, mut roots) = (None, None, None, Vec::new());
        let mut protected = false;
        for (key, value) in pairs {
            match key {
                "ttbr1" => ttbr1 = Some(number(value)? & 0x0000_ffff_ffff_f000),
                "vmemmap" => vmemmap = Some(number(value)?),
                "pgfmt" => lpa2 = Some(format(value)?),
                "tables" => protected = value == "protected",
                "root" => roots.push(root(value)?),
                _ => {}
            }
        }
        if roots.is_empty() {
            return Err(BadSnapshot("no root".into()));
        }
        let missing = |name: &str| BadSnapshot(format!("no {name}"));
        Ok(Self {
            ttbr1: ttbr1.ok_or_else(|| missing("ttbr1"))?,
            vmemmap: vmemmap.ok_or_else(|| missing("vmemmap"))?,
            lpa2: lpa2.ok_or_else(|| missing("pgfmt"))?,
            protected,
            roots,
        })
    }
}

fn number(text: &str) -> Result<u64, BadSnapshot> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| BadSnapshot(format!("`{text}` is not a number")))
}

fn format(text: &str) -> Result<bool, BadSnapshot> {
    match text {
        "lpa2" => Ok(true),
        "normal" => Ok(false),
        _ => Err(BadSnapshot(format!("page table format `{text}`"))),
    }
}

fn root(text: &str) -> Result<Root, BadSnapshot> {
    let bad = || BadSnapshot(format!("root `{text}` is not SPACE:0xADDRESS:LEVELS"));
    let mut parts = text.split(':');
    let (Some(space), Some(table), Some(levels), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad());
    };
    let root = Root {
        space: space.parse().map_err(|_| bad())?,
        table: number(table)?,
        levels: levels.parse().map_err(|_| bad())?,
    };
    if !(2..=5).contains(&root.levels) || !root.table.is_multiple_of(4096) {
        return Err(bad());
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Snapshot, BadSnapshot> {
        Snapshot::parse(line.split(' ').filter_map(|word| word.split_once('=')))
    }

    #[test]
    fn a_whole_line_is_understood() {
        let line = "ttbr1=0x40200001 vmemmap=0xffff700000000000 pgfmt=lpa2 root=1:0x40200000:4 root=7:0x41000000:3";
        let snapshot = parse(line).unwrap();
        assert_eq!(
            snapshot.ttbr1, 0x4020_0000,
            "ASID and CnP bits are not address"
        );
        assert!(snapshot.lpa2 && !snapshot.protected);
        assert!(
            parse(&format!("{line} tables=protected"))
                .unwrap()
                .protected
        );
        assert_eq!(
            snapshot.roots[1],
            Root {
                space: 7,
                table: 0x4100_0000,
                levels: 3
            }
        );
        assert_eq!(snapshot.roots[0].level(), 0);
        assert_eq!(snapshot.roots[1].level(), 1);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let whole = "ttbr1=0x1000 vmemmap=0x0 pgfmt=normal root=1:0x1000:4";
        assert!(parse(whole).is_ok());
        for missing in ["ttbr1", "vmemmap", "pgfmt", "root"] {
            let cut: Vec<_> = whole
                .split(' ')
                .filter(|word| !word.starts_with(missing))
                .collect();
            let error = parse(&cut.join(" ")).unwrap_err().to_string();
            assert!(error.contains(missing), "{error}");
        }
        for wrong in [
            "root=1:0x1000",
            "root=1:0x1000:6",
            "root=1:0x1001:4",
            "root=x:0x1000:4",
        ] {
            assert!(parse(&format!("{whole} {wrong}")).is_err(), "{wrong}");
        }
        assert!(parse(&whole.replace("normal", "big")).is_err());
    }
}
