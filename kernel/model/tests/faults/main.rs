//! One small script per way in which the engine could be wrong: each passes, and fails as soon as
//! the fault that it is there for is planted (`tests/mutants.txt` says which).

mod blocks;
mod flushes;
mod hardware;
mod marks;
mod replace;
mod roots;
mod stage;
mod tables;
