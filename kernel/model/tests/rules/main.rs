//! Every rule of the model, shown right (no report) and wrong (that report) by a handful of events.

mod bench;
mod blocks;
mod entries;
mod roots;
mod tables;
