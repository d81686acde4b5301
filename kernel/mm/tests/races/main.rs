//! Races as schedules: what another CPU does when this one comes to a place is written down, so that
//! each of the checks of D5, and each of the orders that D5 and D14 ask for, is what decides the end.

#[path = "../common/mod.rs"]
mod common;

mod changes;
mod checks;
mod marks;
mod moves;
mod objects;
mod pager;
mod shortage;
mod stage;
