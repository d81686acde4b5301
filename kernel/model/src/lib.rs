//! Machines for the host: what the page-table engine and the memory policy run on in tests.
//!
//! [`HostMachine`] gives them an arena of memory, grace periods that the test drives, hooks that
//! count and can refuse, a script of what other CPUs do at pause points, and a record of every
//! change, invalidation and write window.

pub mod host;

pub use host::HostMachine;
