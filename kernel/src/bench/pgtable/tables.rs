//! Table pages, the window through which they are written, and whole spaces.

use pgtable::{Graveyard, Machine};

use super::super::{Cost, Failure, measure, row};
use super::{ENTRIES, Table, VA, end, table, zap};
use crate::arch::mmu::hw;
use crate::memory::frames;

/// Runs of each operation.
const ROUNDS: u64 = 64;
/// What one leaf table translates.
const TABLE: u64 = ENTRIES * 4096;

pub(super) fn run() -> Result<(), Failure> {
    zeroing()?;
    constructor()?;
    window();
    growth()?;
    spaces()
}

/// Clearing a page: what a table costs at the least.
fn zeroing() -> Result<(), Failure> {
    let mut fresh = frames().alloc_fresh(0, false).map_err(|_| "no frame")?;
    let ((), cost) = measure(|| (0..ROUNDS).for_each(|_| fresh.zero_page(0)));
    row("zero_page", "page", ROUNDS, cost);
    Ok(())
}

/// Leaf tables side by side: a frame, the constructor and its hook, the link; less what it costs to
/// lock the table once it is there.
fn constructor() -> Result<(), Failure> {
    let mut table = table()?;
    let (mut made, mut found) = (Cost::default(), Cost::default());
    // The first brings the table above.
    lock(&table, VA)?;
    for i in 1..=ROUNDS {
        let va = VA + i * TABLE;
        made.add(lock(&table, va)?);
        found.add(lock(&table, va)?);
    }
    made.instructions -= found.instructions.min(made.instructions);
    row("table_made", "table", ROUNDS, made);
    let graves = Graveyard::new();
    zap(&table, (ROUNDS + 1) * ENTRIES, &graves)?;
    end(&mut table, &graves)
}

fn lock(table: &Table, va: u64) -> Result<Cost, Failure> {
    let stay = ();
    let section = hw().read_side(&stay);
    let (locked, cost) = measure(|| table.lock_leaf(va, &section, || true).map(drop));
    locked.map_err(|_| "no table")?;
    Ok(cost)
}

/// Opening and closing the right to write tables.
fn window() {
    let ((), cost) = measure(|| {
        for _ in 0..ROUNDS {
            core::hint::black_box(hw().open_tables());
            hw().close_tables();
        }
    });
    row("write_window", "batch", ROUNDS, cost);
}

/// One more level above an empty space of three.
fn growth() -> Result<(), Failure> {
    let mut cost = Cost::default();
    for _ in 0..ROUNDS {
        let mut table = table()?;
        let (grown, once) = measure(|| table.grow().map(drop));
        grown.map_err(|_| "a space did not grow")?;
        cost.add(once);
        end(&mut table, &Graveyard::new())?;
    }
    row("grow", "level", ROUNDS, cost);
    Ok(())
}

/// An empty space, from nothing to nothing, its grace period included.
fn spaces() -> Result<(), Failure> {
    let (done, cost) = measure(|| {
        for _ in 0..ROUNDS {
            end(&mut table()?, &Graveyard::new())?;
        }
        Ok(())
    });
    row("space_create_destroy", "space", ROUNDS, cost);
    done
}
