//! Machines for the host: what the page-table engine and the memory policy run on in tests.
//!
//! [`HostMachine`] gives them an arena of memory, grace periods that the test drives, hooks that
//! count and can refuse, a script of what other CPUs do at pause points, and a record of every
//! change, invalidation and write window. [`ModelMachine`] adds an MMU that keeps every translation
//! the architecture lets it keep, on several CPUs, and says which law was broken; [`Ghost`] says what
//! a space should look like, and [`walker`] what it does look like.

pub mod agent;
mod automaton;
mod cpu;
pub mod descriptor;
pub mod ghost;
pub mod host;
mod keep;
mod links;
pub mod machine;
pub mod mmu;
pub mod report;
pub mod tlb;
pub mod walker;

pub use agent::{Records, Touch};
pub use ghost::Ghost;
pub use host::HostMachine;
pub use machine::ModelMachine;
pub use mmu::{Mmu, Setup, Translation};
pub use report::{Rule, Violation};
