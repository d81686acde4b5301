//! Machines for the host: what the page-table engine and the memory policy run on in tests.
//!
//! [`HostMachine`] gives them an arena of memory, grace periods that the test drives, hooks that
//! count and can refuse, and a record of every invalidation.

pub mod host;

pub use host::HostMachine;
