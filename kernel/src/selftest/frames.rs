//! The allocator over real memory.

use frame::slab::Cache;
use frame::{Class, MAX_ORDER};

use super::{Outcome, check};
use crate::memory::frames;

pub(super) fn blocks_of_every_order_come_and_go_without_loss() -> Outcome {
    let before = frames().stats().free;
    for order in 0..=MAX_ORDER {
        let block = frames().alloc_kernel(order, Class::Kernel);
        let Ok(block) = block else {
            return check(false, "no block of order", order.into());
        };
        let pfn = block.pfn();
        check(
            pfn.is_aligned(1 << order),
            "a block is not aligned",
            pfn.raw(),
        )?;
        check(
            frames().stats().free == before - (1 << order),
            "accounting",
            order.into(),
        )?;
        drop(block);
        check(
            frames().stats().free == before,
            "a block was lost, order",
            order.into(),
        )?;
    }
    Ok(())
}

pub(super) fn fresh_frames_are_zero_even_after_use() -> Outcome {
    for round in 0..64u64 {
        let Ok(mut fresh) = frames().alloc_fresh(0, true) else {
            return check(false, "no frame", round);
        };
        let pfn = fresh.pfn().raw();
        let bytes = fresh.bytes_mut();
        check(
            bytes.iter().all(|&byte| byte == 0),
            "a fresh frame is not zero",
            pfn,
        )?;
        bytes.fill(0xa5);
    }
    Ok(())
}

pub(super) fn slab_pages_go_back_when_their_last_object_does() -> Outcome {
    static CACHE: Cache<[u64; 40]> = Cache::new("selftest");
    CACHE.init(frames());
    let before = frames().stats().free;
    {
        let mut objects = [const { None }; 64];
        for (n, place) in objects.iter_mut().enumerate() {
            let Ok(object) = CACHE.alloc([n as u64; 40]) else {
                return check(false, "no object", n as u64);
            };
            *place = Some(object);
        }
        let intact = |(n, object): (usize, &Option<_>)| {
            object
                .as_ref()
                .is_some_and(|o: &frame::slab::SlabBox<[u64; 40]>| o[39] == n as u64)
        };
        check(objects.iter().enumerate().all(intact), "objects overlap", 0)?;
        check(frames().stats().free < before, "objects need pages", 0)?;
    }
    check(
        frames().stats().free == before,
        "slab pages were kept",
        before,
    )
}

/// `memcpy` is ours, and chooses its way by the length.
pub(super) fn copies_of_every_length_and_alignment_are_exact() -> Outcome {
    const LONGEST: usize = 300;
    const ROOM: usize = LONGEST + 32;
    let from: [u8; ROOM] = core::array::from_fn(|at| (at * 7 + 1) as u8);
    for len in 0..=LONGEST {
        for (skip, shift) in [(0, 0), (1, 0), (0, 1), (3, 5), (8, 8), (13, 2)] {
            let mut to = [0xee_u8; ROOM];
            // The compiler must not know the length, else it copies by itself.
            let len = core::hint::black_box(len);
            to[8 + shift..8 + shift + len].copy_from_slice(&from[skip..skip + len]);
            let is_right = to.iter().enumerate().all(|(at, &byte)| {
                let inside = (8 + shift..8 + shift + len).contains(&at);
                let expected = match inside {
                    true => ((at - 8 - shift + skip) * 7 + 1) as u8,
                    false => 0xee,
                };
                byte == expected
            });
            check(is_right, "a copy of this length is wrong", len as u64)?;
        }
    }
    Ok(())
}
