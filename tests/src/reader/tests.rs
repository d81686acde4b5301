//! Each check of the reader against a machine in which exactly that is broken.

use super::fake::*;
use super::memory::PAGE;
use super::meta::{KIND_KERNEL, KIND_SPECIAL, KIND_USER};
use super::{Rule, inspect};

/// Breaks a good machine and expects the reader to find `rule`, and nothing else.
#[track_caller]
fn finds(rule: Rule, plant: impl FnOnce(&mut Fake)) {
    let mut fake = Fake::new();
    plant(&mut fake);
    let found = inspect(&fake, &fake.snapshot);
    assert!(!found.violations.is_empty(), "{rule:?} was not noticed");
    assert!(
        found
            .violations
            .iter()
            .all(|violation| violation.rule == rule),
        "{found}"
    );
    assert!(!found.violations[0].what.is_empty());
}

fn table_of(fake: &mut Fake, space: u32, va: u64) -> u64 {
    fake.slot(space, va, 3) & !(PAGE - 1)
}

#[test]
fn a_machine_in_order_has_no_violation_and_is_counted_right() {
    for lpa2 in [false, true] {
        let mut fake = Fake::new();
        fake.snapshot.lpa2 = lpa2;
        let found = inspect(&fake, &fake.snapshot);
        assert!(found.violations.is_empty(), "{found}");
        assert_eq!(found.tables, found.constructed);
        // 3 roots; kernel 3 + 2 + 3 and one more for data; idmap 3; program 1 + 3.
        assert_eq!(found.tables, 3 + 3 + 2 + 3 + 1 + 3 + 4);
        assert_eq!((found.user_mappings, found.contiguous), (18, 16));
        assert_eq!(found.kernel_mappings, 32 + 4 + 2 + 1);
        assert_eq!(found.unlinked, 0);
        // The text page has a writable name in the direct map, seen from image and identity map.
        assert_eq!(found.writable_text_aliases, 2 * PAGE);
    }
}

#[test]
fn five_levels_are_walked_and_the_root_ends_after_sixteen_entries() {
    let five = |fake: &mut Fake, index: u64| {
        let root = fake.root(30, KIND_USER, 5);
        let frame = fake.frame(5);
        fake.map(30, index << 48 | 0x1000, 3, frame | USER_DATA);
        root
    };
    let mut fake = Fake::new();
    fake.snapshot.lpa2 = true;
    five(&mut fake, 15);
    let found = inspect(&fake, &fake.snapshot);
    assert!(found.violations.is_empty(), "{found}");
    assert_eq!(found.user_mappings, 19);
    finds(Rule::Corrupt, |fake| {
        let root = five(fake, 0);
        fake.set(root + 16 * 8, 0xdead_0000);
    });
}

/// Makes the direct map read-only and says that tables are protected.
fn protect(fake: &mut Fake) {
    fake.snapshot.protected = true;
    for block in (0..LEN).step_by(2 << 20) {
        let slot = fake.slot(KERNEL, DIRECT + BASE + block, 2);
        let raw = fake.get(slot);
        fake.set(slot, raw | READ_ONLY);
    }
}

#[test]
fn a_table_that_can_be_written_is_found_if_tables_are_protected() {
    let mut fake = Fake::new();
    protect(&mut fake);
    let found = inspect(&fake, &fake.snapshot);
    assert!(found.violations.is_empty(), "{found}");
    finds(Rule::TableWritable, |fake| {
        protect(fake);
        let table = table_of(fake, PROGRAM, CODE);
        let slot = fake.slot(KERNEL, DIRECT + table, 2);
        let raw = fake.get(slot);
        fake.set(slot, raw & !READ_ONLY);
    });
    finds(Rule::TableWritable, |fake| {
        protect(fake);
        let table = table_of(fake, PROGRAM, CODE);
        fake.map(KERNEL, KIMAGE + 0x20_1000, 3, table | KERNEL_DATA);
    });
}

#[test]
fn a_table_that_is_not_constructed_is_found() {
    for state in [0, 1, 3] {
        finds(Rule::TableState, |fake| {
            let table = table_of(fake, PROGRAM, CODE);
            fake.record(table)[7] = state;
        });
    }
}

#[test]
fn a_table_in_a_frame_of_another_class_is_found() {
    finds(Rule::TableClass, |fake| {
        let table = table_of(fake, KERNEL, KIMAGE);
        fake.record(table)[4] = 6;
    });
}

#[test]
fn a_table_with_the_wrong_level_owner_or_kind_is_found() {
    finds(Rule::TableLevel, |fake| {
        let table = table_of(fake, PROGRAM, DATA);
        fake.record(table)[6] = 4;
    });
    finds(Rule::TableOwner, |fake| {
        let table = table_of(fake, PROGRAM, DATA);
        fake.record(table)[8] = 10;
    });
    finds(Rule::TableKind, |fake| {
        let table = table_of(fake, PROGRAM, DATA);
        fake.record(table)[12] = KIND_SPECIAL;
    });
}

#[test]
fn a_constructed_table_that_no_root_reaches_is_found() {
    finds(Rule::TableUnreachable, |fake| {
        fake.table(PROGRAM, KIND_USER, 3);
    });
    finds(Rule::TableUnreachable, |fake| {
        let slot = fake.slot(PROGRAM, CODE, 2);
        fake.set(slot, 0);
    });
}

#[test]
fn a_table_made_but_not_linked_is_counted_and_no_violation() {
    let mut fake = Fake::new();
    let table = fake.table(PROGRAM, KIND_USER, 3);
    fake.record(table)[7] = 1;
    let found = inspect(&fake, &fake.snapshot);
    assert!(found.violations.is_empty(), "{found}");
    assert_eq!(found.unlinked, 1);
}

#[test]
fn a_table_reached_twice_is_found() {
    finds(Rule::TableShared, |fake| {
        let slot = fake.slot(PROGRAM, CODE, 2);
        let raw = fake.get(slot);
        fake.map(PROGRAM, 0x4000_0000, 2, raw);
    });
}

#[test]
fn a_table_outside_ram_or_without_a_record_is_found() {
    finds(Rule::TableOutsideRam, |fake| {
        fake.map(PROGRAM, 0x4000_0000, 2, 0x9000_0003)
    });
    finds(Rule::TableUnrecorded, |fake| {
        // Frames from here on have no record: the vmemmap page that covers them is unmapped.
        let table = BASE + LEN - PAGE;
        fake.map(PROGRAM, 0x4000_0000, 2, table | 3);
        fake.map(KERNEL, (VMEMMAP + table / 64) & !(PAGE - 1), 3, 0);
    });
}

#[test]
fn hierarchical_attributes_are_found() {
    for bit in 59..=63 {
        finds(Rule::TableAttributes, |fake| {
            let slot = fake.slot(KERNEL, KIMAGE, 1);
            let raw = fake.get(slot);
            fake.set(slot, raw | 1 << bit);
        });
    }
}

#[test]
fn a_kernel_root_that_was_not_announced_is_found() {
    let mut fake = Fake::new();
    fake.snapshot.roots.retain(|root| root.space != KERNEL);
    let found = inspect(&fake, &fake.snapshot);
    assert!(
        found
            .violations
            .iter()
            .any(|violation| violation.rule == Rule::KernelRoot)
    );
    finds(Rule::KernelRoot, |fake| {
        fake.root(40, KIND_KERNEL, 4);
    });
}

#[test]
fn a_descriptor_without_meaning_is_found() {
    finds(Rule::Corrupt, |fake| {
        fake.map(PROGRAM, DATA + PAGE, 3, 0x4000_0401)
    });
    finds(Rule::Corrupt, |fake| {
        fake.map(KERNEL, KIMAGE + (1 << 39), 0, 0x4000_0401)
    });
    finds(Rule::Corrupt, |fake| {
        fake.map(KERNEL, KIMAGE + (1 << 30), 2, 0x4000_1401)
    });
}

#[test]
fn writable_and_executable_is_found_in_every_space() {
    finds(Rule::WriteExecute, |fake| {
        fake.change(KERNEL, KIMAGE, |raw| raw & !READ_ONLY)
    });
    finds(Rule::WriteExecute, |fake| {
        fake.change(KERNEL, KIMAGE, |raw| raw | DBM)
    });
    finds(Rule::WriteExecute, |fake| {
        fake.change(KERNEL, KIMAGE + 0x20_0000, |raw| raw & !PXN)
    });
    finds(Rule::WriteExecute, |fake| {
        fake.change(PROGRAM, CODE, |raw| raw & !READ_ONLY)
    });
    finds(Rule::WriteExecute, |fake| {
        fake.change(PROGRAM, DATA, |raw| raw & !UXN)
    });
    finds(Rule::WriteExecute, |fake| {
        let text = fake.text_frame;
        fake.change(IDMAP, text, |raw| raw & !READ_ONLY);
    });
}

#[test]
fn an_executable_direct_map_is_found() {
    finds(Rule::DirectMapExecute, |fake| {
        fake.map(KERNEL, DIRECT + BASE, 2, (BASE | KERNEL_TEXT) & !0b10);
    });
}

#[test]
fn executable_device_memory_is_found() {
    finds(Rule::DeviceExecute, |fake| {
        fake.map(
            KERNEL,
            KIMAGE + (1 << 30),
            3,
            (0x0900_0000 | KERNEL_TEXT) & !(7 << 2),
        );
    });
}

#[test]
fn kernel_memory_open_to_el0_is_found() {
    finds(Rule::KernelOpenToUser, |fake| {
        fake.change(KERNEL, KIMAGE, |raw| raw | AP_EL0)
    });
    finds(Rule::KernelOpenToUser, |fake| {
        fake.change(KERNEL, KIMAGE, |raw| raw & !UXN)
    });
    finds(Rule::KernelOpenToUser, |fake| {
        let text = fake.text_frame;
        fake.change(IDMAP, text, |raw| raw | AP_EL0);
    });
}

#[test]
fn user_mappings_that_are_global_or_the_kernels_are_found() {
    finds(Rule::UserGlobal, |fake| {
        fake.change(PROGRAM, DATA, |raw| raw & !NOT_GLOBAL)
    });
    finds(Rule::UserPrivileged, |fake| {
        fake.change(PROGRAM, DATA, |raw| raw & !AP_EL0)
    });
    finds(Rule::UserPrivileged, |fake| {
        fake.change(PROGRAM, CODE, |raw| raw & !PXN)
    });
}

#[test]
fn a_user_mapping_of_any_other_class_is_found() {
    for class in (0..20).filter(|class| ![5, 12].contains(class)) {
        finds(Rule::UserFrameClass, |fake| {
            let frame = fake.user_frame;
            fake.record(frame)[4] = class;
        });
    }
    finds(Rule::UserFrameClass, |fake| {
        fake.map(PROGRAM, DATA, 3, 0x0900_0000 | USER_DATA)
    });
}

#[test]
fn tags_without_storage_are_found() {
    const NORMAL: u64 = 1 << 2;
    const TAGGED: u64 = 2 << 2;
    let tagged = |raw: u64| raw & !NORMAL | TAGGED;
    finds(Rule::TagsWithoutStorage, |fake| {
        fake.change(PROGRAM, DATA, tagged)
    });
    finds(Rule::TagsWithoutStorage, |fake| {
        let frame = fake.user_frame;
        fake.record(frame)[4] = 12;
        fake.record(frame)[12] = 0x40;
        fake.change(PROGRAM, DATA, tagged);
    });
}

#[test]
fn tags_in_the_direct_map_are_found() {
    finds(Rule::TagsInSight, |fake| {
        let frame = BASE + (7 << 20);
        fake.map(KERNEL, DIRECT + (1 << 40), 3, frame | KERNEL_DATA);
        fake.record(frame)[4] = 16;
    });
}

#[test]
fn a_block_with_one_frame_of_another_class_is_found() {
    finds(Rule::UserFrameClass, |fake| {
        let block = BASE + (6 << 20);
        for page in 0..512 {
            fake.record(block + page * PAGE)[4] = if page == 300 { 6 } else { 5 };
            fake.record(block + page * PAGE)[0] = 1;
        }
        fake.map(PROGRAM, 0x80_0000, 2, (block | USER_DATA) & !0b10);
    });
}

#[test]
fn fewer_references_than_mappings_is_found() {
    finds(Rule::References, |fake| {
        let frame = fake.user_frame;
        fake.map(PROGRAM, DATA + PAGE, 3, frame | USER_DATA);
    });
    finds(Rule::References, |fake| {
        let frame = fake.user_frame;
        fake.root(30, KIND_USER, 3);
        fake.map(30, DATA, 3, frame | USER_DATA);
    });
    finds(Rule::References, |fake| {
        let frame = fake.user_frame;
        fake.record(frame)[0] = 0;
    });
}

#[test]
fn a_folio_with_fewer_references_than_pages_mapped_is_found() {
    finds(Rule::References, |fake| {
        let slot = fake_slot(fake);
        let head = fake.get(slot) & 0xffff_f000;
        fake.record(head)[0] = 15;
    });
    finds(Rule::References, |fake| {
        // A page of it is mapped once more.
        let slot = fake_slot(fake);
        let head = fake.get(slot) & 0xffff_f000;
        fake.map(PROGRAM, DATA + PAGE, 3, (head + 7 * PAGE) | USER_DATA);
    });
    finds(Rule::References, |fake| {
        // A block of 2 MiB takes as many references as it has pages.
        let block = BASE + (6 << 20);
        for page in 0..512 {
            let record = fake.record(block + page * PAGE);
            record[4] = 5;
            record[14..16].copy_from_slice(&(page as u16).to_le_bytes());
        }
        fake.record(block)[..4].copy_from_slice(&511_u32.to_le_bytes());
        fake.map(PROGRAM, 0x80_0000, 2, (block | USER_DATA) & !0b10);
    });
}

/// Where the entry of the contiguous block's first page is.
fn fake_slot(fake: &mut Fake) -> u64 {
    fake.slot(PROGRAM, BLOCK, 3)
}

#[test]
fn roots_of_two_to_five_levels_are_walked_and_a_wrong_number_is_found() {
    for levels in 2..=5 {
        let mut fake = Fake::new();
        fake.snapshot.lpa2 = levels == 5;
        fake.root(30, KIND_USER, levels);
        let frame = fake.frame(5);
        fake.map(30, 0x3000_1000, 3, frame | USER_DATA);
        let found = inspect(&fake, &fake.snapshot);
        assert!(found.violations.is_empty(), "{levels} levels: {found}");
        assert_eq!(found.user_mappings, 19);
        // The root word says one level more, or less, than the tables have.
        let root = fake.snapshot.roots.last_mut().unwrap();
        root.levels = if levels == 2 { 3 } else { levels - 1 };
        let found = inspect(&fake, &fake.snapshot);
        assert!(
            !found.violations.is_empty(),
            "{levels} levels were not told apart"
        );
    }
}

#[test]
fn a_root_that_grew_is_walked_from_its_new_root() {
    let mut fake = Fake::new();
    let place = fake
        .snapshot
        .roots
        .iter()
        .position(|root| root.space == PROGRAM);
    let old = fake.snapshot.roots[place.unwrap()];
    let above = fake.table(PROGRAM, KIND_USER, 0);
    fake.set(above, old.table | 0b11);
    let grown = &mut fake.snapshot.roots[place.unwrap()];
    (grown.table, grown.levels) = (above, 4);
    let found = inspect(&fake, &fake.snapshot);
    assert!(found.violations.is_empty(), "{found}");
    assert_eq!((found.user_mappings, found.contiguous), (18, 16));
    // The old root is announced although it is not the root any more.
    fake.snapshot.roots.push(old);
    assert!(!inspect(&fake, &fake.snapshot).violations.is_empty());
}

#[test]
fn shared_frames_with_enough_references_are_in_order() {
    let mut fake = Fake::new();
    let frame = fake.user_frame;
    fake.record(frame)[0] = 2;
    fake.map(PROGRAM, DATA + PAGE, 3, frame | USER_DATA);
    let found = inspect(&fake, &fake.snapshot);
    assert!(found.violations.is_empty(), "{found}");
}

#[test]
fn the_contiguous_hint_in_a_kernel_space_is_found() {
    finds(Rule::ContiguousInKernel, |fake| {
        fake.change(KERNEL, KIMAGE, |raw| raw | CONT)
    });
    finds(Rule::ContiguousInKernel, |fake| {
        fake.map(
            KERNEL,
            DIRECT + BASE,
            2,
            (BASE | KERNEL_DATA | CONT) & !0b10,
        );
    });
}

#[test]
fn a_contiguous_block_with_a_hole_is_found() {
    finds(Rule::ContiguousHole, |fake| {
        fake.change(PROGRAM, BLOCK + 5 * PAGE, |_| 0)
    });
    finds(Rule::ContiguousHole, |fake| {
        fake.change(PROGRAM, BLOCK, |_| 0)
    });
    finds(Rule::ContiguousHole, |fake| {
        fake.change(PROGRAM, BLOCK + 15 * PAGE, |raw| raw & !CONT)
    });
    finds(Rule::ContiguousHole, |fake| {
        fake.change(PROGRAM, BLOCK + 7 * PAGE, |raw| raw & !1)
    });
    finds(Rule::ContiguousHole, |fake| {
        fake.change(PROGRAM, DATA, |raw| raw | CONT)
    });
}

#[test]
fn a_contiguous_block_out_of_order_or_misaligned_is_found() {
    finds(Rule::ContiguousAddress, |fake| {
        let frame = fake.user_frame;
        fake.change(PROGRAM, DATA, |_| 0);
        fake.change(PROGRAM, BLOCK + 9 * PAGE, |raw| raw & !0xffff_f000 | frame);
    });
    finds(Rule::ContiguousAddress, |fake| {
        // Consecutive, but shifted by one page against the block.
        let first = fake.slot(PROGRAM, BLOCK, 3);
        let spare = fake.frame(5);
        assert_eq!(spare, (fake.get(first) & 0xffff_f000) + 16 * PAGE);
        for page in 0..16 {
            fake.change(PROGRAM, BLOCK + page * PAGE, |raw| raw + PAGE);
        }
    });
}

#[test]
fn a_contiguous_block_of_unequal_attributes_is_found() {
    finds(Rule::ContiguousAttributes, |fake| {
        fake.change(PROGRAM, BLOCK + 3 * PAGE, |raw| raw & !DBM | READ_ONLY);
    });
    finds(Rule::ContiguousAttributes, |fake| {
        fake.change(PROGRAM, BLOCK + 3 * PAGE, |raw| raw | 1 << 57);
    });
    finds(Rule::ContiguousAttributes, |fake| {
        fake.change(PROGRAM, BLOCK + 3 * PAGE, |raw| raw & !(7 << 2) | 3 << 2);
    });
}

#[test]
fn a_kernel_root_of_garbage_is_reported_and_ends() {
    let mut fake = Fake::new();
    let root = fake.snapshot.ttbr1;
    for index in 0..512 {
        fake.set(
            root + index * 8,
            0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(index + 1),
        );
    }
    assert!(!inspect(&fake, &fake.snapshot).violations.is_empty());
}

#[test]
fn memory_mapped_as_registers_is_found() {
    finds(Rule::DeviceOverRam, |fake| {
        fake.map(
            KERNEL,
            KIMAGE + (1 << 30),
            3,
            (BASE | KERNEL_DATA) & !(7 << 2),
        );
    });
}

#[test]
fn registers_mapped_as_memory_are_found() {
    finds(Rule::NormalOutsideRam, |fake| {
        fake.map(KERNEL, KIMAGE + (1 << 30), 3, 0x0900_0000 | KERNEL_DATA);
    });
}
