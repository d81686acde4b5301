//! What the scenario programs share: raw system calls, checks with exit statuses, mappings at
//! private addresses, the cycle counter and a small random-number generator.
//!
//! The programs under `src/bin` are ordinary Rust programs for `aarch64-unknown-linux-musl`. Each
//! checks its own results and ends with status 0, or with the status of the section that failed
//! (10 to 99) and one line that says what was expected. They run unchanged on Linux: a program that
//! fails there is wrong itself. `README.md` lists arguments and expected statuses.
//!
//! The system-call numbers and constants are written out here, and not taken from the crate the
//! kernel uses, so that a wrong number on one side cannot hide on the other.

pub mod check;
#[cfg(target_arch = "aarch64")]
pub mod code;
pub mod figures;
pub mod measure;
pub mod memfile;
pub mod memory;
pub mod model;
pub mod native;
pub mod pmu;
pub mod random;
pub mod regs;
pub mod sys;
