//! What of the machine itself programs are given: interrupts.

pub mod interrupt;
