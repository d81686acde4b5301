//! Commands as text that can be pasted into a shell.

use std::ffi::OsStr;
use std::process::Command;

/// Quotes one word for a POSIX shell; words of harmless characters stay as they are.
#[must_use]
pub fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(harmless) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The command on one line, environment changes and working directory not included.
#[must_use]
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_the_same_words() {
        let words = [
            "plain",
            "two words",
            "it's",
            "",
            "$HOME;`id`",
            "a\nb",
            "*",
            "\\",
        ];
        let text = words
            .iter()
            .map(|w| quote(OsStr::new(w)))
            .collect::<Vec<_>>()
            .join(" ");
        let script = format!("for word in {text}; do printf '%s|' \"$word\"; done");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            words.map(|w| format!("{w}|")).concat()
        );
    }
}
