//! What the example servers share. Each is a native program under `src/bin`, in a file or two that
//! can be read in one sitting; the library that they use is the crate `tessera`.

pub mod child;
pub mod cost;

use std::error::Error;
use std::process::ExitCode;

/// The result of a server's main function: its exit status, or what to complain about.
pub type Outcome = Result<u8, Box<dyn Error>>;

/// The status of a server that could not do what it was asked.
pub const FAILED: u8 = 1;
/// The status of a server that was not asked properly.
pub const USAGE: u8 = 2;

/// Ends a server: with its status, or with its complaint on standard error and [`FAILED`].
pub fn finish(name: &str, outcome: Outcome) -> ExitCode {
    ExitCode::from(outcome.unwrap_or_else(|error| {
        eprintln!("{name}: {error}");
        FAILED
    }))
}

/// The arguments after the program's name.
pub fn arguments() -> Vec<String> {
    let arguments = std::env::args_os().skip(1);
    arguments
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect()
}

/// Tells how to use a server.
pub fn usage(text: &str) -> Outcome {
    eprintln!("usage: {text}");
    Ok(USAGE)
}
