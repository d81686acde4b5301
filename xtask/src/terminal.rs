//! The terminal while the machine's own prompt is in charge of editing and echo.

use std::process::{Command, Stdio};

/// A terminal that passes every key on at once and shows none of them itself; Ctrl-C still
/// interrupts. As it was before when dropped.
pub struct Unbuffered {
    saved: String,
}

impl Unbuffered {
    /// Changes the terminal on standard input. `None` if there is none, or no `stty`: then lines
    /// are sent whole, and shown twice.
    pub fn new() -> Option<Self> {
        let saved = stty(&["-g"])?;
        let terminal = Self {
            saved: saved.trim().to_owned(),
        };
        stty(&["-icanon", "-echo", "min", "1", "time", "0"])?;
        Some(terminal)
    }
}

impl Drop for Unbuffered {
    fn drop(&mut self) {
        // Nothing can be done for a terminal that has gone.
        let _ = stty(&[&self.saved]);
    }
}

fn stty(args: &[&str]) -> Option<String> {
    let output = Command::new("stty")
        .args(args)
        .stdin(Stdio::inherit())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
