//! Copies in and out of user frames.

use crate::{Bytes, UserFrame, arena};
use std::vec;
use std::vec::Vec;

const PAGE: usize = 4096;

fn page() -> UserFrame {
    arena::frames(2).alloc_fresh(0, true).unwrap().into_user()
}

fn contents(frame: &UserFrame) -> Vec<u8> {
    let mut all = vec![0; PAGE];
    frame.read(0, &mut all);
    all
}

#[test]
fn copies_of_every_alignment_and_length_change_exactly_their_range() {
    let pattern: Vec<u8> = (0..PAGE).map(|i| (i * 7 + i / 256) as u8).collect();
    let lengths: &[usize] = if cfg!(miri) {
        &[0, 1, 17, 100]
    } else {
        &[0, 1, 2, 7, 8, 9, 63, 64, 65, 200, 1000]
    };
    let frame = page();
    let mut model = vec![0; PAGE];
    for offset in 0..9 {
        for skew in 0..9 {
            for &len in lengths {
                frame.write(offset, &pattern[skew..skew + len]);
                model[offset..offset + len].copy_from_slice(&pattern[skew..skew + len]);
                let mut back = vec![0xee; len + skew + 1];
                frame.read(offset, &mut back[skew..skew + len]);
                assert_eq!(back[skew..skew + len], model[offset..offset + len]);
                assert!(
                    back[..skew]
                        .iter()
                        .chain(&back[skew + len..])
                        .all(|&b| b == 0xee)
                );
            }
        }
        assert_eq!(contents(&frame), model, "offset {offset}");
    }
}

#[test]
fn pages_are_copied_to_pages_whole_or_in_part() {
    let from = page();
    let pattern: Vec<u8> = (0..PAGE).map(|i| (i * 7 + i / 256) as u8).collect();
    from.write(0, &pattern);
    let bytes = |start, len| Bytes {
        page: &from,
        start,
        len,
    };
    let to = page();
    to.copy_from(0, bytes(0, PAGE));
    assert_eq!(contents(&to), pattern);
    let lengths = [0, 1, 7, 8, 9, 15, 16, 17, 40];
    let near = |base: usize| (base..base + 9).flat_map(move |at| (0..9).map(move |to| (to, at)));
    let places = near(0).chain(near(PAGE - 49)).flat_map(|(offset, start)| {
        let each = lengths.map(|len| (offset, start, len));
        each.into_iter()
    });
    let ends = [
        (0, 8, 600),
        (1, 0, 255),
        (PAGE - 41, PAGE - 41, 41),
        (PAGE, PAGE, 0),
    ];
    for (offset, start, len) in places.chain(ends) {
        let mut model = contents(&to);
        to.copy_from(offset, bytes(start, len));
        model[offset..offset + len].copy_from_slice(&pattern[start..start + len]);
        assert_eq!(contents(&to), model, "{len} bytes from {start} to {offset}");
    }
    from.copy_from(0, bytes(0, PAGE));
    assert_eq!(contents(&from), pattern, "a page is what it was");
    let mut fresh = arena::frames(2).alloc_fresh(0, true).unwrap();
    fresh.copy_from(9, bytes(100, 30));
    assert_eq!(fresh.bytes_mut()[9..39], pattern[100..130]);
    assert!(fresh.bytes_mut()[39..].iter().all(|&byte| byte == 0));
}

#[test]
fn whole_pages_and_the_ends_of_a_page_are_copied() {
    let frame = page();
    let pattern: Vec<u64> = (0..512).map(|i| i * 0x0101_0101_0101).collect();
    let bytes: Vec<u8> = pattern.iter().flat_map(|word| word.to_le_bytes()).collect();
    frame.write(0, &bytes);
    assert_eq!(contents(&frame), bytes);
    frame.write(PAGE - 3, &[1, 2, 3]);
    assert_eq!(contents(&frame)[PAGE - 3..], [1, 2, 3]);
    frame.clear(5, 1000);
    assert!(contents(&frame)[5..1005].iter().all(|&byte| byte == 0));
    assert_eq!(contents(&frame)[..5], bytes[..5]);
    assert_eq!(contents(&frame)[1005..PAGE - 3], bytes[1005..PAGE - 3]);
}

#[test]
#[should_panic(expected = "leave the page")]
fn a_copy_past_the_end_of_the_page_is_caught() {
    page().write(PAGE - 3, &[0; 4]);
}

#[test]
#[should_panic(expected = "leave the page")]
fn an_offset_that_wraps_is_caught() {
    page().read(usize::MAX, &mut [0; 2]);
}

#[test]
fn a_fresh_frame_takes_a_copy_of_a_user_page() {
    let frames = arena::frames(8);
    let from = frames.alloc_fresh(0, true).unwrap().into_user();
    from.write(8, b"copied");
    let mut to = frames.alloc_fresh(1, true).unwrap();
    to.copy_page(1, &from);
    assert!(to.bytes_mut()[..PAGE].iter().all(|&byte| byte == 0));
    assert_eq!(&to.bytes_mut()[PAGE + 8..PAGE + 14], b"copied");
    assert_eq!(to.bytes_mut()[PAGE + 14..].iter().max(), Some(&0));
}

#[test]
fn words_are_exchanged_only_if_they_are_as_expected() {
    let frame = page();
    frame.write(4, &7u32.to_le_bytes());
    assert_eq!(frame.load_u32(4), 7);
    assert_eq!(frame.cas_u32(4, 8, 9), Err(7));
    assert_eq!(frame.cas_u32(4, 7, 9), Ok(7));
    assert_eq!(frame.load_u32(4), 9);
    assert_eq!((frame.load_u32(0), frame.load_u32(8)), (0, 0));
}

#[test]
#[should_panic(expected = "word at odd offset")]
fn an_unaligned_word_is_caught() {
    page().load_u32(2);
}

#[test]
fn copies_race_without_tearing_aligned_words() {
    let frame = page();
    let rounds = if cfg!(miri) { 5 } else { 2_000 };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..rounds {
                let byte = i as u8;
                frame.write(0, &[byte; 64]);
            }
        });
        for _ in 0..rounds {
            let mut line = [0u8; 64];
            frame.read(0, &mut line);
            for word in line.chunks_exact(8) {
                assert!(word.iter().all(|byte| *byte == word[0]), "torn: {word:?}");
            }
        }
    });
}
