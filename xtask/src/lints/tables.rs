//! Who may reach entries of page tables: rules by the signs of their breach.

mod rules;

use super::code::has_word;
use super::{Text, lines_where};

pub use rules::ALL;

/// Where a rule does not hold, and why.
pub struct Exception {
    /// A file, or a folder if it ends with a slash.
    pub path: &'static str,
    /// The signs that may stand there.
    pub signs: &'static [&'static str],
    /// Why it has to be so.
    pub reason: &'static str,
}

/// A rule by the signs of its breach.
pub struct Signs {
    /// The folders in which it holds.
    pub scope: &'static [&'static str],
    /// What must not occur in the code.
    pub signs: &'static [&'static str],
    /// What is wrong then.
    pub complaint: &'static str,
    /// Where it does not hold.
    pub exceptions: &'static [Exception],
}

/// The codec, which these rules are not for.
const CODEC: &str = "kernel/arm64/src/pte/";

/// Whether a sign occurs in a line of code; one that begins or ends with a word's character does not
/// go on there.
fn occurs(line: &str, sign: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    match (sign.starts_with(part), sign.ends_with(part)) {
        (true, true) => has_word(line, sign),
        (true, false) => line
            .match_indices(sign)
            .any(|(at, _)| !line[..at].ends_with(part)),
        _ => line.contains(sign),
    }
}

impl Signs {
    fn is_excepted(&self, path: &str, sign: &str) -> bool {
        let covers = |exception: &&Exception| exception.covers(path, sign);
        self.exceptions.iter().any(|exception| covers(&exception))
    }

    /// The lines that break the rule.
    pub fn check(&self, text: &Text<'_>) -> Vec<(usize, String)> {
        if !text.is_in(self.scope) || text.is_in(&[CODEC]) {
            return Vec::new();
        }
        lines_where(&text.code, |line| {
            let sign = self
                .signs
                .iter()
                .find(|sign| occurs(line, sign) && !self.is_excepted(text.path, sign))?;
            Some(format!("`{sign}`: {}", self.complaint))
        })
    }

    /// Exceptions that are none: without a reason, or for a file that has no need of them.
    pub fn check_exceptions(&self, texts: &[Text<'_>]) -> Vec<String> {
        let mut complaints = Vec::new();
        for Exception {
            path,
            signs,
            reason,
        } in self.exceptions
        {
            if reason.split_whitespace().count() < 2 {
                complaints.push(format!("{path}: excepted from a rule without a reason"));
            }
            if path.ends_with('/') {
                continue;
            }
            let file = texts.iter().find(|text| text.path == *path);
            for sign in *signs {
                let is_there = |text: &Text<'_>| text.code.iter().any(|line| occurs(line, sign));
                if !file.is_some_and(is_there) {
                    complaints.push(format!("{path}: excepted for `{sign}`, which is not there"));
                }
            }
        }
        complaints
    }
}

impl Exception {
    fn covers(&self, path: &str, sign: &str) -> bool {
        let here = match self.path.ends_with('/') {
            true => path.starts_with(self.path),
            false => path == self.path,
        };
        here && self.signs.contains(&sign)
    }
}

#[cfg(test)]
mod tests;
