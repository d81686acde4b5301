//! Failures with an exit status of their own.

use std::fmt;

use xtask::ending::status;

/// A failure that decides the exit status, as the cause of an [`anyhow::Error`].
#[derive(Debug)]
pub struct Failure {
    status: u8,
    message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A failure with this exit status and message.
pub fn failure(status: u8, message: impl Into<String>) -> anyhow::Error {
    Failure {
        status,
        message: message.into(),
    }
    .into()
}

/// The status to end with: the failure's own, else "something on this machine is missing".
pub fn status_of(error: &anyhow::Error) -> u8 {
    error
        .downcast_ref::<Failure>()
        .map_or(status::USAGE, |failure| failure.status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn context_does_not_hide_the_status() {
        let error = Err::<(), _>(failure(101, "no"))
            .context("while building")
            .unwrap_err();
        assert_eq!(status_of(&error), 101);
        assert_eq!(format!("{error:#}"), "while building: no");
        assert_eq!(status_of(&anyhow::anyhow!("disk full")), 2);
    }
}
