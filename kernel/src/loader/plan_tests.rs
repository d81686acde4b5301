//! Tests of the load plan: each kind of damage gets its own error, and no damage panics.

extern crate std;
use super::*;
use std::{vec, vec::Vec};

#[derive(Clone, Copy)]
struct Ph {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    filesz: u64,
    memsz: u64,
}

const TEXT: Ph = Ph {
    kind: 1,
    flags: 5,
    offset: 0,
    vaddr: 0x20_0000,
    filesz: 0x1800,
    memsz: 0x1800,
};
const DATA: Ph = Ph {
    kind: 1,
    flags: 6,
    offset: 0x1800,
    vaddr: 0x21_1800,
    filesz: 0x400,
    memsz: 0x3000,
};

fn elf(kind: u16, entry: u64, headers: &[Ph]) -> Vec<u8> {
    let mut file = vec![0u8; 0x2000];
    file[..16].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &kind.to_le_bytes());
    put(18, &183u16.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &entry.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &(headers.len() as u16).to_le_bytes());
    for (i, h) in headers.iter().enumerate().take(100) {
        let at = 64 + i * 56;
        put(at, &h.kind.to_le_bytes());
        put(at + 4, &h.flags.to_le_bytes());
        put(at + 8, &h.offset.to_le_bytes());
        put(at + 16, &h.vaddr.to_le_bytes());
        put(at + 32, &h.filesz.to_le_bytes());
        put(at + 40, &h.memsz.to_le_bytes());
        put(at + 48, &0x1_0000u64.to_le_bytes());
    }
    file
}

fn fails(file: &[u8]) -> PlanError {
    Plan::new(file).expect_err("must be refused")
}

#[test]
fn a_static_program_is_planned_as_linked() {
    let plan = Plan::new(&elf(2, 0x20_0100, &[DATA, TEXT])).unwrap();
    assert_eq!(plan.bias, 0);
    assert_eq!(plan.entry, 0x20_0100);
    assert_eq!(plan.headers, 0x20_0040);
    assert_eq!(plan.brk, 0x21_5000);
    let [text, data] = plan.segments() else {
        panic!("two segments")
    };
    assert_eq!(text.file_pages(), Some((0x20_0000, 0x20_2000, 0)));
    assert_eq!((text.zero_pages(), text.partial_zero()), (None, None));
    assert_eq!(data.file_pages(), Some((0x21_1000, 0x21_2000, 0x1000)));
    assert_eq!(data.partial_zero(), Some((0x21_1c00, 0x21_2000)));
    assert_eq!(data.zero_pages(), Some((0x21_2000, 0x21_5000)));
    assert!(data.write && !data.exec && text.exec && !text.write);
}

#[test]
fn a_position_independent_program_gets_the_bias_everywhere() {
    let low = Ph { vaddr: 0, ..TEXT };
    let plan = Plan::new(&elf(3, 0x100, &[low])).unwrap();
    assert_eq!(plan.bias, PIE_BASE);
    assert_eq!(plan.entry, PIE_BASE + 0x100);
    assert_eq!(plan.segments()[0].addr, PIE_BASE);
    assert_eq!(plan.headers, PIE_BASE + 0x40);
}

#[test]
fn a_segment_without_file_bytes_is_all_zero_pages() {
    let bss = Ph {
        kind: 1,
        flags: 6,
        offset: 0x123,
        vaddr: 0x30_0800,
        filesz: 0,
        memsz: 0x1000,
    };
    let plan = Plan::new(&elf(2, 0x20_0100, &[TEXT, bss])).unwrap();
    assert_eq!(plan.segments()[1].file_pages(), None);
    assert_eq!(
        plan.segments()[1].zero_pages(),
        Some((0x30_0000, 0x30_2000))
    );
    assert_eq!(plan.segments()[1].partial_zero(), None);
}

#[test]
fn each_wrong_header_has_its_own_reason() {
    let good = elf(2, 0x20_0100, &[TEXT]);
    assert_eq!(fails(b"#!/bin/sh\n"), PlanError::NotElf);
    assert_eq!(fails(b""), PlanError::NotElf);
    assert_eq!(fails(&good[..40]), PlanError::Truncated);
    let with = |at: usize, value: u8| {
        let mut file = good.clone();
        file[at] = value;
        fails(&file)
    };
    assert_eq!(with(4, 1), PlanError::Class32(183));
    assert_eq!(with(5, 2), PlanError::BigEndian);
    assert_eq!(with(18, 62), PlanError::Machine(62));
    assert_eq!(with(16, 1), PlanError::NotExecutable(1));
    assert_eq!(with(54, 55), PlanError::BadHeader);
    assert_eq!(with(57, 1), PlanError::TooManyHeaders(257));
    assert_eq!(with(56, 0), PlanError::NoSegment);
    assert_eq!(with(38, 1), PlanError::Truncated);
}

#[test]
fn each_wrong_segment_has_its_own_reason() {
    let plan = |h: &[Ph]| fails(&elf(2, 0x20_0100, h));
    let interp = Ph { kind: 3, ..TEXT };
    assert_eq!(plan(&[interp, TEXT]), PlanError::Dynamic);
    assert_eq!(plan(&[interp]), PlanError::Dynamic);
    assert_eq!(plan(&[Ph { kind: 4, ..TEXT }]), PlanError::NoSegment);
    assert_eq!(
        plan(&[Ph {
            filesz: 0x1801,
            ..TEXT
        }]),
        PlanError::SegmentSize(0)
    );
    assert_eq!(
        plan(&[Ph {
            offset: 0x1000,
            memsz: 0x1800,
            ..TEXT
        }]),
        PlanError::Truncated
    );
    assert_eq!(
        plan(&[Ph {
            offset: u64::MAX,
            ..TEXT
        }]),
        PlanError::Truncated
    );
    assert_eq!(plan(&[Ph { vaddr: 0, ..TEXT }]), PlanError::SegmentRange(0));
    assert_eq!(
        plan(&[Ph {
            vaddr: u64::MAX - 0xfff,
            ..TEXT
        }]),
        PlanError::SegmentRange(0)
    );
    assert_eq!(
        plan(&[Ph {
            memsz: 1 << 62,
            ..TEXT
        }]),
        PlanError::SegmentRange(0)
    );
    assert_eq!(
        plan(&[Ph {
            vaddr: 0x20_0010,
            ..TEXT
        }]),
        PlanError::SegmentAlignment(0)
    );
    assert_eq!(plan(&[TEXT, TEXT]), PlanError::Overlap(0, 1));
    assert_eq!(
        plan(&[Ph { flags: 4, ..TEXT }]),
        PlanError::Entry(0x20_0100)
    );
    assert_eq!(
        fails(&elf(2, 0x20_0102, &[TEXT])),
        PlanError::Entry(0x20_0102)
    );
}

#[test]
fn too_many_segments_are_refused() {
    let many: Vec<Ph> = (0..SEGMENTS_MAX as u64 + 1)
        .map(|i| Ph {
            vaddr: 0x20_0000 + i * 0x1_0000,
            ..TEXT
        })
        .collect();
    assert_eq!(
        fails(&elf(2, 0x20_0800, &many)),
        PlanError::TooManyHeaders(33)
    );
}

#[test]
fn no_single_damaged_byte_panics() {
    let good = elf(3, 0x20_0100, &[TEXT, DATA]);
    for at in 0..64 + 2 * 56 {
        for value in [0u8, 1, 0x7f, 0x80, 0xff] {
            let mut file = good.clone();
            file[at] = value;
            if let Ok(plan) = Plan::new(&file) {
                assert!(
                    plan.segments()
                        .iter()
                        .all(|s| s.addr >= IMAGE_MIN && s.end() <= IMAGE_MAX)
                );
            }
        }
    }
}

#[test]
fn errors_say_what_to_do() {
    assert!(std::format!("{}", PlanError::Dynamic).contains("static"));
    assert!(std::format!("{}", PlanError::Machine(62)).contains("x86-64"));
}
