//! A file that a command was told to write: refused before the work begins, not after it.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::Result;
use xtask::ending::status;

use crate::failure::failure;

/// A file that can be written.
#[derive(Debug)]
pub struct Output(PathBuf);

impl Output {
    /// Makes sure that `path` can be written: an empty file is made if there is none.
    ///
    /// # Errors
    /// It cannot: wrong use.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = OpenOptions::new().create(true).append(true).open(path);
        match opened {
            Ok(_) => Ok(Self(path.to_owned())),
            Err(error) => Err(refusal(path, &error)),
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// It cannot be written any more.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        fs::write(&self.0, bytes).map_err(|error| refusal(&self.0, &error))
    }
}

fn refusal(path: &Path, error: &std::io::Error) -> anyhow::Error {
    let text = format!("cannot write {}: {error}", path.display());
    failure(status::USAGE, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_refused_at_once_and_what_can_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let error = Output::open(folder.path()).unwrap_err();
        assert_eq!(crate::failure::status_of(&error), status::USAGE);
        assert!(Output::open(&folder.path().join("no/such/folder")).is_err());
        let file = folder.path().join("file");
        fs::write(&file, "something longer").unwrap();
        let output = Output::open(&file).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"something longer");
        output.write(b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }
}
