//! The trace: what happened to memory, kept in a ring for each CPU and told at a program's end.
//!
//! Categories are chosen by `tessera.trace`. A CPU writes its own ring and nothing else, so that
//! telling an event takes no lock and may be done under any.

pub mod record;

#[cfg(target_os = "none")]
mod rings;
#[cfg(target_os = "none")]
mod watch;

#[cfg(target_os = "none")]
pub use rings::{begin, choose, dump, dump_in_bug, init, keep, tell, wants, write_newest};
#[cfg(target_os = "none")]
pub use watch::Watch;
