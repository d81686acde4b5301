//! Files that are programs, and files that are none.

use super::*;

/// A file header and program headers, each with type, flags, offset, address, file and memory size.
fn file(kind: u16, entry: u64, parts: &[[u64; 6]]) -> Vec<u8> {
    let mut bytes = vec![0; 0x3000];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |at: usize, value: u64, len: usize| {
        bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    };
    put(16, kind.into(), 2);
    put(18, abi::EM_AARCH64.into(), 2);
    put(20, 1, 4);
    put(24, entry, 8);
    put(32, 64, 8);
    put(52, 64, 2);
    put(54, 56, 2);
    put(56, parts.len() as u64, 2);
    for (n, [kind, flags, offset, address, file, memory]) in parts.iter().enumerate() {
        let at = 64 + 56 * n;
        put(at, *kind, 4);
        put(at + 4, *flags, 4);
        for (field, value) in [offset, address, address, file, memory, &4096]
            .into_iter()
            .enumerate()
        {
            put(at + 8 + 8 * field, *value, 8);
        }
    }
    bytes
}

const LOAD: u64 = abi::PT_LOAD as u64;
const CODE: [u64; 6] = [LOAD, 5, 0, 0x20_0000, 0x1100, 0x1100];
const DATA: [u64; 6] = [LOAD, 6, 0x1100, 0x20_2100, 0x200, 0x2000];

#[test]
fn a_program_of_code_and_data_is_laid_out() {
    let program =
        Program::parse(&file(abi::ET_EXEC, 0x20_0200, &[CODE, DATA])).expect("a good file");
    assert_eq!((program.entry, program.headers), (0x20_0200, 0x20_0040));
    assert_eq!(program.heap, 0x20_5000);
    let [code, data] = program.segments[..] else {
        panic!("two segments");
    };
    assert_eq!(code.file_pages(), Some((0x20_0000, 0x2000, 0)));
    assert_eq!((code.zero_pages(), code.rest_of_page()), (None, None));
    assert_eq!(data.file_pages(), Some((0x20_2000, 0x1000, 0x1000)));
    assert_eq!(data.zero_pages(), Some((0x20_3000, 0x2000)));
    assert_eq!(data.rest_of_page(), Some((0x20_2300, 0xd00)));
}

#[test]
fn a_program_that_may_go_anywhere_gets_its_place() {
    let mut code = CODE;
    code[3] = 0;
    let program = Program::parse(&file(abi::ET_DYN, 0x200, &[code])).expect("a good file");
    assert_eq!(program.segments[0].address, PIE_BASE);
    assert_eq!(program.entry, PIE_BASE + 0x200);
}

#[test]
fn what_cannot_be_loaded_is_refused_with_its_reason() {
    let parse = |parts: &[[u64; 6]]| Program::parse(&file(abi::ET_EXEC, 0x20_0200, parts));
    let with = |at: usize, value| {
        let mut code = CODE;
        code[at] = value;
        parse(&[code])
    };
    assert_eq!(Program::parse(b"#!/bin/sh"), Err(BadElf::NotElf));
    assert_eq!(parse(&[]).unwrap_err(), BadElf::Entry(0x20_0200));
    let linker = [u64::from(abi::PT_INTERP), 4, 0x200, 0x20_0200, 8, 8];
    assert_eq!(parse(&[CODE, linker]), Err(BadElf::Dynamic));
    assert_eq!(with(1, 4), Err(BadElf::Entry(0x20_0200)));
    let bad = [
        with(2, 0x10),
        with(3, 0),
        with(3, u64::MAX - 0xff),
        with(4, 0x9_0000),
        with(5, 0x100),
        parse(&[DATA, CODE, CODE]).map_err(|_| BadElf::Segment(0)),
    ];
    for result in bad {
        assert_eq!(result, Err(BadElf::Segment(0)));
    }
    let mut other = file(abi::ET_EXEC, 0x20_0200, &[CODE]);
    other[18] = 62;
    assert_eq!(Program::parse(&other), Err(BadElf::OtherMachine));
}

#[test]
fn no_byte_of_the_headers_can_make_the_reader_panic() {
    let good = file(abi::ET_EXEC, 0x20_0200, &[CODE, DATA]);
    for at in 0..64 + 2 * 56 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut odd = good.clone();
            odd[at] = value;
            if let Ok(program) = Program::parse(&odd) {
                for part in &program.segments {
                    let _ = (part.file_pages(), part.zero_pages(), part.rest_of_page());
                }
            }
        }
    }
}
