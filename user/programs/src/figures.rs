//! What the kernel has counted for this program, where the kernel is Tessera. Elsewhere nothing is
//! known, and what a program does is done without being compared with a count.

use crate::require;
use crate::sys::{Info, info, info_into, map, nr, syscall};
use std::ops::RangeInclusive;
use std::sync::Mutex;

/// The text is made in one place, so that asking takes no memory the second time.
static TEXT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// The first figure of this name; its own counters stand before those of all programs.
pub fn figure(name: &str) -> Option<u64> {
    let mut text = TEXT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    info_into(Info::Stats, &mut text).ok()?;
    let text = std::str::from_utf8(&text).ok()?;
    let at = text
        .match_indices(name)
        .find(|&(at, _)| text[..at].ends_with('"') && text[at + name.len()..].starts_with("\":"))?;
    let rest = &text[at.0 + name.len() + 2..];
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    let figure = rest[..digits].parse().ok();
    require!(figure.is_some(), "{name} is no number in {text}");
    figure
}

/// Has the program's own code and constants mapped, and asks once, so that neither happens while
/// something is counted.
pub fn settle() {
    let Ok(maps) = info(Info::Maps) else { return };
    let fixed = |line: &&str| line.contains(" r-xp ") || line.contains(" r--p ");
    for line in maps.lines().filter(fixed) {
        let range = line.split(' ').next().and_then(|word| word.split_once('-'));
        let number = |hex| usize::from_str_radix(hex, 16).unwrap_or(0);
        if let Some((start, end)) = range {
            let (start, len) = (number(start), number(end) - number(start));
            let advice = map::MADV_POPULATE_READ;
            // SAFETY: contents stay as they are. The kernel's own page may refuse.
            let _ = unsafe { syscall(nr::MADVISE, [start, len, advice, 0, 0, 0]) };
        }
    }
    let _ = figure("now");
}

/// Frames that nobody uses.
pub fn free_frames() -> Option<u64> {
    figure("now")
}

/// Does something and checks how often `name` was counted meanwhile.
pub fn counts<T>(name: &str, expected: RangeInclusive<u64>, deed: impl FnOnce() -> T) -> T {
    all_counts(&[(name, expected)], deed)
}

/// Does something and checks how often each of the names was counted meanwhile.
pub fn all_counts<T>(expected: &[(&str, RangeInclusive<u64>)], deed: impl FnOnce() -> T) -> T {
    let look = || -> Vec<_> { expected.iter().map(|(name, _)| figure(name)).collect() };
    let before = look();
    let result = deed();
    let after = look();
    for (((name, expected), before), after) in expected.iter().zip(before).zip(after) {
        require!(
            before.is_some() == after.is_some(),
            "{name} is there only sometimes"
        );
        let counted = after.zip(before).map(|(after, before)| after - before);
        require!(
            counted.is_none_or(|counted| expected.contains(&counted)),
            "{name} was counted {counted:?} times, not {expected:?}"
        );
    }
    result
}
