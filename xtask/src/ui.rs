//! What is said to the person at the terminal. In a pipe, only what matters.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Says something on standard error, marked as ours. Further lines stay unmarked, so that commands
/// among them can be pasted.
pub fn say(message: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(stderr(), "tessera: {message}");
}

/// Passes text of another program on to standard error as it is.
pub fn pass_on(text: &[u8]) {
    // As above.
    let _ = stderr().write_all(text);
}

/// A step that takes time: a spinner on a terminal, nothing in a pipe. It vanishes when dropped.
pub struct Step(ProgressBar);

impl Step {
    /// Starts a step.
    pub fn new(message: impl Into<String>) -> Self {
        if !stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner().with_message(message.into());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
