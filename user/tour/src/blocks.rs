//! Contiguous blocks and levels, as the kernel's counters tell them: what happened to the tables
//! behind a program that only ever changed its own map.

use crate::{ask, report, text};
use programs::memory::Area;
use programs::sys::{Info, PAGE, map};
use std::fmt::Write as _;

/// Pages of a contiguous block.
const BLOCK: usize = 16;
/// An address that takes a fourth level.
const FAR: usize = 1 << 40;

/// The counters shown: the kernel's name, and what it counts.
const COUNTERS: [(&str, &str); 4] = [
    (
        "memory.faults_folio",
        "folios of 16 pages mapped by a fault",
    ),
    ("memory.folds", "blocks folded"),
    ("memory.unfolds", "blocks unfolded"),
    ("memory.levels_grown", "levels added"),
];

fn counters() -> [i128; COUNTERS.len()] {
    let numbers = report::numbers(&ask(Info::Stats));
    COUNTERS.map(|(wanted, _)| {
        let found = numbers.iter().find(|(name, _)| name == wanted);
        found.map_or(0, |(_, value)| *value)
    })
}

/// Runs the steps and tells what each did to the counters.
pub fn story() -> String {
    let mut all = text::paragraph(
        "Sixteen pages that lie together in memory and allow the same can be one translation: a \
         contiguous block. The program does not ask for it. It maps, writes and protects; the \
         tables fold and unfold behind it. And a space begins with three levels of tables and \
         grows when an address needs more.",
    );
    let area = Area::new(2 * BLOCK * PAGE, map::RW);
    let aligned = area.addr(0).next_multiple_of(BLOCK * PAGE) - area.addr(0);
    let mut far = None;
    let steps: [(&str, &mut dyn FnMut()); 4] = [
        ("one byte written, in a fresh area", &mut || {
            area.set(aligned, 1)
        }),
        ("one page of the sixteen made read-only", &mut || {
            area.protect(aligned + 3 * PAGE, PAGE, map::PROT_READ);
        }),
        ("and writable again", &mut || {
            area.protect(aligned, BLOCK * PAGE, map::RW);
        }),
        ("a page mapped and written at 1 TiB", &mut || {
            far = Area::near(FAR, PAGE, map::RW, false).ok();
            if let Some(page) = &far {
                page.set(0, 1);
            }
        }),
    ];
    for (what, act) in steps {
        let before = counters();
        act();
        let after = counters();
        let mut told = false;
        let _ = write!(all, "\n    {what:<42}");
        for ((_, name), (now, then)) in COUNTERS.iter().zip(after.iter().zip(before)) {
            if *now != then {
                let separator = if told { ", " } else { "" };
                let _ = write!(all, "{separator}{name}: {:+}", now - then);
                told = true;
            }
        }
        if !told {
            all.push_str("(nothing counted)");
        }
    }
    all.push('\n');
    all
}
