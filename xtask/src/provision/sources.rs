//! The package sources that this machine already uses, read from apt's two formats.

/// One source: some suites of one or more mirrors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The mirrors.
    pub uris: Vec<String>,
    /// Releases, as named below `dists/` on the mirror.
    pub suites: Vec<String>,
    /// `main` and the like.
    pub components: Vec<String>,
    /// The keys that must have signed it; empty: any key that apt trusts.
    pub signed_by: String,
}

impl Entry {
    /// The entry as a stanza of a `.sources` file. Options that weaken the check of signatures are
    /// not among the fields.
    pub fn stanza(&self) -> String {
        let list = |words: &[String]| words.join(" ");
        let mut out = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\n",
            list(&self.uris),
            list(&self.suites),
            list(&self.components)
        );
        if !self.signed_by.is_empty() {
            out.push_str(&format!("Signed-By: {}\n", self.signed_by));
        }
        out
    }
}

/// Entries of a one-line-style file (`sources.list`, `*.list`).
pub fn parse_list(text: &str) -> Vec<Entry> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Entry> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    let mut rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
    let mut signed_by = String::new();
    if let Some(inner) = rest.strip_prefix('[') {
        let (options, behind) = inner.split_once(']')?;
        let keys = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="));
        signed_by = keys.unwrap_or_default().replace(',', " ");
        rest = behind;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    let entry = Entry {
        uris: vec![uri],
        suites: vec![suite],
        components: words.collect(),
        signed_by,
    };
    is_usable(&entry).then_some(entry)
}

/// Entries of a deb822-style file (`*.sources`).
pub fn parse_deb822(text: &str) -> Vec<Entry> {
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    let stanzas = text.split("\n\n").map(fields);
    stanzas.filter_map(|fields| parse_stanza(&fields)).collect()
}

fn parse_stanza(fields: &[(String, String)]) -> Option<Entry> {
    let field = |name: &str| {
        let found = fields
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    };
    let words = |name: &str| {
        field(name)
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let off = ["no", "false", "0", "off"];
    if off.contains(&field("Enabled")) || !words("Types").contains(&"deb".to_owned()) {
        return None;
    }
    let entry = Entry {
        uris: words("URIs"),
        suites: words("Suites"),
        components: words("Components"),
        signed_by: field("Signed-By").to_owned(),
    };
    is_usable(&entry).then_some(entry)
}

/// Fields of a stanza; a value keeps its continuation lines (a key block may follow `Signed-By`).
fn fields(stanza: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in stanza.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((key, value)) = line.split_once(':') {
            fields.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    fields
}

/// Not a medium that somebody would have to insert, and not a flat repository (suite ending in a
/// slash, no components).
fn is_usable(entry: &Entry) -> bool {
    let insertable = entry.uris.iter().any(|uri| uri.starts_with("cdrom:"));
    let whole = !entry.uris.is_empty() && !entry.suites.is_empty() && !entry.components.is_empty();
    whole && !insertable
}

/// The entries of the distribution's own release, with only the suites of that release.
pub fn of_release(entries: &[Entry], codename: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    for entry in entries {
        let mut entry = entry.clone();
        entry
            .suites
            .retain(|suite| base(suite, codename).is_some() && !suite.ends_with("-backports"));
        if !entry.suites.is_empty() {
            found.push(entry);
        }
    }
    found
}

/// The backports suite on the mirror that has the release itself.
pub fn backports(entries: &[Entry], codename: &str) -> Option<Entry> {
    let mut entry = entries
        .iter()
        .find(|entry| entry.suites.iter().any(|s| base(s, codename) == Some(s)))?
        .clone();
    entry.suites = vec![format!("{codename}-backports")];
    Some(entry)
}

/// The release that a suite belongs to, if it is ours: `bookworm` for `bookworm-security`. Mirrors
/// are also asked for by alias.
fn base<'a>(suite: &'a str, codename: &str) -> Option<&'a str> {
    let aliases = [
        "oldoldstable",
        "oldstable",
        "stable",
        "testing",
        "unstable",
        "sid",
    ];
    let name = suite.split(['-', '/']).next()?;
    (name == codename || aliases.contains(&name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
Types: deb deb-src
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/archive.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://off.example/x
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example/x
Suites: bookworm
Components: main
";

    #[test]
    fn both_formats_say_the_same() {
        let list = "\
deb-src http://source.example/x bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/archive.gpg] http://mirror.example/debian bookworm main contrib # x
#deb http://off.example/x bookworm main
deb cdrom:[Debian]/ bookworm main
deb http://flat.example ./
";
        let from_list = parse_list(list);
        let from_deb822 = parse_deb822(DEB822);
        assert_eq!((from_list.len(), from_deb822.len()), (1, 2));
        let mut expected = from_deb822[0].clone();
        expected.suites.truncate(1);
        assert_eq!(from_list[0], expected);
    }

    #[test]
    fn a_stanza_keeps_the_keys_and_can_be_read_back() {
        let entries = parse_deb822(DEB822);
        assert!(entries[1].signed_by.contains("BEGIN PGP"), "{entries:?}");
        let text: String = entries.iter().map(|entry| entry.stanza() + "\n").collect();
        assert_eq!(parse_deb822(&text), entries);
    }

    #[test]
    fn only_this_release_is_used_and_backports_come_from_its_mirror() {
        let mut entries = parse_deb822(DEB822);
        entries.extend(parse_list("deb http://tool.example/apt tool main\n"));
        entries.extend(parse_list(
            "deb http://other.example/d bookworm-backports main\n",
        ));
        let ours = of_release(&entries, "bookworm");
        assert_eq!(ours.len(), 2);
        let found = backports(&ours, "bookworm").unwrap();
        assert_eq!(found.suites, ["bookworm-backports"]);
        assert_eq!(found.uris, ["http://mirror.example/debian"]);
        assert_eq!(found.signed_by, "/usr/share/keyrings/archive.gpg");
        let alias = parse_list("deb http://mirror.example/debian stable main\n");
        assert_eq!(of_release(&alias, "trixie").len(), 1);
        assert!(backports(&alias, "trixie").is_some());
        assert!(backports(&parse_list("deb http://t.example/apt tool main"), "trixie").is_none());
    }
}
