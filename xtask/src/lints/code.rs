//! Rust source without its comments and the contents of its strings, line by line.

/// Replaces comments and the contents of string and character literals by spaces; the lines keep
/// their numbers. Good enough for well-formed source: it does not understand macros' own syntax.
pub fn code_only(text: &str) -> Vec<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = skip_length(rest, &out);
        if skipped == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (blank, behind) = rest.split_at(skipped);
        out.extend(blank.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = behind;
    }
    out.lines().map(str::to_owned).collect()
}

/// The length of the comment or literal that begins here, 0 if none does.
fn skip_length(rest: &str, before: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    let in_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    if rest.starts_with('\'') {
        return character(rest);
    }
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'));
    match raw {
        Some(raw) if !in_word => raw_string(raw).map_or(0, |end| rest.len() - raw.len() + end),
        _ => 0,
    }
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal, or 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut inner = rest[1..].chars();
    match (inner.next(), inner.next()) {
        (Some('\\'), _) => quoted(rest, '\''),
        (Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 0,
    }
}

/// The end of a raw string whose `r` has been read.
fn raw_string(raw: &str) -> Option<usize> {
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let inner = raw[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let at = inner.find(&end).map_or(inner.len(), |at| at + end.len());
    Some(hashes + 1 + at)
}

/// Whether `word` occurs in the line and is not part of a longer word.
pub fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let behind = &line[at + word.len()..];
        !line[..at].ends_with(part) && !behind.starts_with(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_vanish_and_code_stays() {
        let source = "let a = \"unsafe \\\" unsafe\"; // unsafe\n/* unsafe /* x */ unsafe */ keep\n\
                      let r = r#\"unsafe \" \"#; let c = '\"'; let l: &'a str = b'\\'';\nmore";
        let code = code_only(source);
        assert_eq!(code.len(), 4);
        assert!(!code.iter().any(|line| line.contains("unsafe")), "{code:?}");
        assert!(code[1].contains("keep") && code[2].contains("&'a str") && code[3] == "more");
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("an unsafe {", "unsafe") && !has_word("unsafe_code", "unsafe"));
        assert!(has_word("x = 1 << 5;", "1 << 5") && !has_word("1 << 55", "1 << 5"));
    }
}
