//! An event as the words that a ring keeps.

use core::fmt;

use mm::trace::{Event, Kind};

/// Words of a record.
pub const WORDS: usize = 5;

/// An event with when it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Ticks of the counter that all CPUs share.
    pub at: u64,
    /// What happened.
    pub event: Event,
}

impl Record {
    /// As words.
    pub fn words(&self) -> [u64; WORDS] {
        let event = &self.event;
        let head = event.kind as u64 | u64::from(event.detail) << 16 | u64::from(event.space) << 32;
        [self.at, head, event.va, event.arg, event.cost]
    }

    /// From words; `None` if they name no kind.
    pub fn from_words([at, head, va, arg, cost]: [u64; WORDS]) -> Option<Self> {
        let kind = *Kind::ALL.get(usize::from(head as u16))?;
        let event = Event {
            kind,
            detail: (head >> 16) as u16,
            space: (head >> 32) as u32,
            va,
            arg,
            cost,
        };
        Some(Self { at, event })
    }
}

/// An event as control lines have it: `NS,KIND,SPACE,VA,ARG,DETAIL,COST`, the numbers hexadecimal,
/// the time in nanoseconds.
pub struct Wire(pub u64, pub Event);

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event {
            kind,
            detail,
            space,
            va,
            arg,
            cost,
        } = self.1;
        let (ns, kind) = (self.0, kind.word());
        write!(
            f,
            "{ns:x},{kind},{space:x},{va:x},{arg:x},{detail:x},{cost:x}"
        )
    }
}

/// An event as people read it, on one line.
pub struct Readable(pub u64, pub usize, pub Event);

impl fmt::Display for Readable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(ns, cpu, event) = self;
        let (us, rest, kind) = (ns / 1000, ns % 1000, event.kind.word());
        write!(
            f,
            "{us:>9}.{rest:03} us  cpu {cpu:<2} space {:<4}",
            event.space
        )?;
        write!(f, " {kind:<15} va {:#x}  arg {:#x}", event.va, event.arg)?;
        match event.cost {
            0 => Ok(()),
            cost => write!(f, "  cost {cost}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_being_words() {
        for &kind in Kind::ALL {
            let event = Event {
                kind,
                detail: u16::MAX,
                space: u32::MAX,
                va: u64::MAX,
                arg: 1 << 63,
                cost: 77,
            };
            let record = Record { at: 5, event };
            assert_eq!(Record::from_words(record.words()), Some(record));
        }
        assert_eq!(
            Record::from_words([0, Kind::ALL.len() as u64, 0, 0, 0]),
            None
        );
    }

    #[test]
    fn both_ways_to_write_it_say_everything_that_they_promise() {
        let mut event = Event::new(Kind::FaultCow, 0x12, 0x7f_0000_1000, 4096);
        event.detail = 1;
        assert_eq!(
            Wire(255, event).to_string(),
            "ff,fault_cow,12,7f00001000,1000,1,0"
        );
        event.cost = 300;
        let text = Readable(1_234_567, 3, event).to_string();
        for part in [
            "1234.567 us",
            "cpu 3",
            "space 18",
            "fault_cow",
            "0x7f00001000",
            "cost 300",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
