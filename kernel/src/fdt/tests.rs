//! Device trees made by hand: complete, odd, damaged.

use super::*;

/// Writes a flattened device tree (Devicetree Specification, chapter 5).
#[derive(Default)]
struct Writer {
    reserved: Vec<(u64, u64)>,
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Writer {
    fn word(&mut self, word: u32) {
        self.structure.extend(word.to_be_bytes());
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.structure.extend(bytes);
        self.structure
            .resize(self.structure.len().next_multiple_of(4), 0);
    }

    fn node(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.word(1);
        self.padded(&[name.as_bytes(), &[0]].concat());
        inside(self);
        self.word(4); // FDT_NOP, as QEMU leaves behind
        self.word(2);
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        self.word(3);
        self.word(value.len() as u32);
        self.word(self.strings.len() as u32);
        self.strings.extend([name.as_bytes(), &[0]].concat());
        self.padded(value);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.bytes(name, &[value.as_bytes(), &[0]].concat());
    }

    fn cells(&mut self, name: &str, cells: &[u32]) {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.bytes(name, &bytes);
    }

    /// `reg` with two cells each for address and size.
    fn reg(&mut self, ranges: &[(u64, u64)]) {
        let split = |word: u64| [(word >> 32) as u32, word as u32];
        let cells: Vec<u32> = ranges
            .iter()
            .flat_map(|&(at, len)| [split(at), split(len)].concat())
            .collect();
        self.cells("reg", &cells);
    }

    fn finish(mut self) -> Vec<u8> {
        self.word(9);
        let mut map: Vec<u8> = Vec::new();
        for (at, len) in self.reserved.iter().chain([&(0, 0)]) {
            map.extend([at.to_be_bytes(), len.to_be_bytes()].concat());
        }
        let structure = 40 + map.len();
        let strings = structure + self.structure.len();
        let total = strings + self.strings.len();
        let header = [
            0xd00d_feed,
            total,
            structure,
            strings,
            40,
            17,
            16,
            0,
            self.strings.len(),
            self.structure.len(),
        ];
        let header = header.iter().flat_map(|&word| (word as u32).to_be_bytes());
        header
            .chain(map)
            .chain(self.structure)
            .chain(self.strings)
            .collect()
    }
}

fn tree(inside: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.node("", |root| {
        root.cells("#address-cells", &[2]);
        root.cells("#size-cells", &[2]);
        inside(root);
    });
    writer.finish()
}

fn memory(root: &mut Writer, banks: &[(u64, u64)]) {
    root.node("memory@40000000", |node| {
        node.text("device_type", "memory");
        node.reg(banks);
    });
}

fn cpus(root: &mut Writer, ids: &[u32]) {
    root.node("cpus", |node| {
        node.cells("#address-cells", &[1]);
        node.cells("#size-cells", &[0]);
        for &id in ids {
            node.node(&format!("cpu@{id:x}"), |cpu| {
                cpu.text("device_type", "cpu");
                cpu.cells("reg", &[id]);
            });
        }
    });
}

fn device(root: &mut Writer, name: &str, compatible: &str, at: u64, interrupts: &[u32]) {
    root.node(name, |node| {
        node.text("compatible", compatible);
        if at != 0 {
            node.reg(&[(at, 0x1000), (at + 0xa_0000, 0x10_0000)]);
        }
        node.cells("interrupts", interrupts);
    });
}

/// A machine like QEMU's.
fn complete(root: &mut Writer) {
    memory(
        root,
        &[(0x4000_0000, 0x2000_0000), (0x1_0000_0000, 0x1000_0000)],
    );
    cpus(root, &[0, 1, 0x100]);
    device(root, "intc@8000000", "arm,gic-v3", 0x0800_0000, &[1, 9, 4]);
    device(
        root,
        "pl011@9000000",
        "arm,pl011\0arm,primecell",
        0x0900_0000,
        &[0, 1, 4],
    );
    device(root, "pl031@9010000", "arm,pl031", 0x0901_0000, &[0, 2, 4]);
    let timer = [1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4];
    device(root, "timer", "arm,armv8-timer", 0, &timer);
    root.node("psci", |node| {
        node.text("compatible", "arm,psci-1.0");
        node.text("method", "hvc");
    });
    root.node("chosen", |node| {
        node.text("bootargs", "tessera.icount=1");
        node.cells("linux,initrd-start", &[0, 0x4800_0000]);
        node.cells("linux,initrd-end", &[0x4800_1234]);
    });
}

#[test]
fn a_complete_tree_is_read_completely() {
    let blob = tree(complete);
    let facts = read(&blob).unwrap();
    assert_eq!(facts.check(), Ok(()));
    let banks = [(0x4000_0000, 0x2000_0000), (0x1_0000_0000, 0x1000_0000)];
    assert_eq!(
        *facts.memory,
        banks.map(|(at, len)| Region::from_len(at, len))
    );
    assert_eq!((*facts.cpus).as_ref(), [0, 1, 0x100]);
    assert_eq!(facts.cpu_total, 3);
    let uart = facts.uart.unwrap();
    assert_eq!(
        (uart.registers.start, uart.interrupt),
        (0x0900_0000, Some(33))
    );
    assert_eq!(facts.timer, Some(27));
    assert_eq!(facts.psci, Some(Conduit::Hvc));
    let gic = facts.gic.unwrap();
    assert_eq!(
        (gic.distributor.start, gic.redistributors.start),
        (0x0800_0000, 0x080a_0000)
    );
    assert_eq!(facts.rtc.unwrap().registers.start, 0x0901_0000);
    assert_eq!(facts.initrd, Some(Region::new(0x4800_0000, 0x4800_1234)));
    assert_eq!(facts.bootargs, "tessera.icount=1");
}

#[test]
fn what_is_missing_is_named() {
    let refusal = |inside: fn(&mut Writer)| {
        let blob = tree(inside);
        read(&blob).unwrap().check()
    };
    assert_eq!(refusal(|_| {}), Err(Refusal::NoMemory));
    assert_eq!(
        refusal(|root| memory(root, &[(0x4000_0000, 0)])),
        Err(Refusal::NoMemory)
    );
    assert_eq!(
        refusal(|root| memory(root, &[(0, 4096)])),
        Err(Refusal::NoCpus)
    );
    let gic_v2 = |root: &mut Writer| {
        memory(root, &[(0, 4096)]);
        cpus(root, &[0]);
        device(root, "intc@8000000", "arm,cortex-a15-gic", 0x0800_0000, &[]);
    };
    assert_eq!(refusal(gic_v2), Err(Refusal::NoGic { v2: true }));
}

#[test]
fn garbage_truncation_and_every_flipped_byte_are_refused_or_read_without_panic() {
    let blob = tree(complete);
    assert!(matches!(
        read(b"not a device tree"),
        Err(Refusal::BadTree(_))
    ));
    assert!(matches!(read(&[]), Err(Refusal::BadTree(_))));
    for len in 0..blob.len() {
        assert!(
            matches!(read(&blob[..len]), Err(Refusal::BadTree(_))),
            "truncated to {len}"
        );
    }
    for at in 0..blob.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = blob.clone();
            damaged[at] ^= flip;
            let _either = read(&damaged).map(|facts| facts.check());
        }
    }
}

#[test]
fn reserved_memory_comes_from_the_map_and_from_nodes() {
    let mut writer = Writer {
        reserved: vec![(0x4100_0000, 0x1000)],
        ..Writer::default()
    };
    writer.node("", |root| {
        root.cells("#address-cells", &[2]);
        root.cells("#size-cells", &[2]);
        root.node("reserved-memory", |node| {
            node.cells("#address-cells", &[2]);
            node.cells("#size-cells", &[2]);
            node.bytes("ranges", &[]);
            node.node("secure@42000000", |range| {
                range.reg(&[(0x4200_0000, 0x2000)]);
                range.bytes("no-map", &[]);
            });
            node.node("off@43000000", |range| {
                range.reg(&[(0x4300_0000, 0x2000)]);
                range.text("status", "disabled");
            });
        });
    });
    let blob = writer.finish();
    let firmware = read(&blob).unwrap().firmware;
    let want = [(0x4100_0000, 0x1000, false), (0x4200_0000, 0x2000, true)];
    let want = want.map(|(at, len, no_map)| Firmware {
        region: Region::from_len(at, len),
        no_map,
    });
    assert_eq!(*firmware, want);
}

#[test]
fn more_cpus_and_banks_than_we_use_are_counted() {
    let ids: Vec<u32> = (0..MAX_CPUS as u32 + 3).collect();
    let banks: Vec<_> = (0..MAX_BANKS as u64 + 2)
        .map(|n| (n << 30, 1 << 20))
        .collect();
    let blob = tree(|root| {
        memory(root, &banks);
        cpus(root, &ids);
    });
    let facts = read(&blob).unwrap();
    assert_eq!(
        (facts.cpus.len(), facts.cpu_total),
        (MAX_CPUS, MAX_CPUS + 3)
    );
    assert_eq!((facts.memory.len(), facts.memory_ignored), (MAX_BANKS, 2));
}

#[test]
fn devices_behind_a_bus_have_its_addresses_translated() {
    let blob = tree(|root| {
        root.node("soc", |bus| {
            bus.text("compatible", "simple-bus");
            bus.cells("#address-cells", &[1]);
            bus.cells("#size-cells", &[1]);
            bus.cells("ranges", &[0x7e00_0000, 0, 0xfe00_0000, 0x180_0000]);
            bus.node("serial@7e201000", |node| {
                node.text("compatible", "arm,pl011");
                node.cells("reg", &[0x7e20_1000, 0x200]);
            });
            bus.node("rtc@10000000", |node| {
                node.text("compatible", "arm,pl031");
                node.cells("reg", &[0x1000_0000, 0x200]);
            });
        });
    });
    let facts = read(&blob).unwrap();
    assert_eq!(
        facts.uart.unwrap().registers,
        Region::from_len(0xfe20_1000, 0x200)
    );
    assert_eq!(
        facts.rtc, None,
        "an address outside of the bus's windows is not reachable"
    );
}

#[test]
fn the_console_is_the_one_that_chosen_names() {
    let two = |path: Option<&str>| {
        let blob = tree(|root| {
            device(root, "serial@1000", "arm,pl011", 0x1000, &[]);
            device(root, "serial@2000", "arm,pl011", 0x2000, &[]);
            root.node("aliases", |node| node.text("serial0", "/serial@2000"));
            root.node("chosen", |node| {
                if let Some(path) = path {
                    node.text("stdout-path", path);
                }
            });
        });
        read(&blob).unwrap().uart.unwrap().registers.start
    };
    assert_eq!(two(None), 0x1000);
    assert_eq!(two(Some("/serial@2000:115200n8")), 0x2000);
    assert_eq!(two(Some("serial0:115200")), 0x2000);
    assert_eq!(two(Some("/nothing")), 0x1000);
}

#[test]
fn a_fixed_clock_of_the_console_is_found() {
    let blob = tree(|root| {
        root.node("apb-pclk", |node| {
            node.text("compatible", "fixed-clock");
            node.cells("clock-frequency", &[24_000_000]);
            node.cells("phandle", &[0x8000]);
        });
        root.node("pl011@9000000", |node| {
            node.text("compatible", "arm,pl011");
            node.reg(&[(0x0900_0000, 0x1000)]);
            node.cells("clocks", &[0x8000, 0x8000]);
        });
    });
    assert_eq!(read(&blob).unwrap().uart.unwrap().clock, Some(24_000_000));
}

/// A description of tag storage, right unless a test makes it wrong.
struct Described {
    reg: Vec<(u64, u64)>,
    block: Option<u32>,
    memory: Option<u32>,
    reusable: bool,
}

const RAM: (u64, u64) = (0x4000_0000, 0x2000_0000);
const STORAGE: (u64, u64) = (0x5800_0000, 0x100_0000);
const PHANDLE: u32 = 7;

fn right() -> Described {
    Described {
        reg: vec![STORAGE],
        block: Some(4096),
        memory: Some(PHANDLE),
        reusable: true,
    }
}

/// What is read of a machine with these descriptions, and with memory of these ranges.
fn with_storage(
    all: &[Described],
    banks: &[(u64, u64)],
) -> (Vec<TagStorage>, Vec<TagRefusal>, usize) {
    let blob = tree(|root| {
        root.node("memory@40000000", |node| {
            node.text("device_type", "memory");
            node.reg(banks);
            node.cells("phandle", &[PHANDLE]);
        });
        root.node("clock", |node| node.cells("phandle", &[9]));
        root.node("reserved-memory", |node| {
            node.cells("#address-cells", &[2]);
            node.cells("#size-cells", &[2]);
            node.bytes("ranges", &[]);
            for (n, region) in all.iter().enumerate() {
                node.node(&format!("tags@{n:x}"), |tags| {
                    tags.text("compatible", "arm,mte-tag-storage");
                    if !region.reg.is_empty() {
                        tags.reg(&region.reg);
                    }
                    if let Some(block) = region.block {
                        tags.cells("block-size", &[block]);
                    }
                    if let Some(memory) = region.memory {
                        tags.cells("tagged-memory", &[memory]);
                    }
                    if region.reusable {
                        tags.bytes("reusable", &[]);
                    }
                });
            }
        });
    });
    let facts = read(&blob).unwrap();
    let refused = facts.tag_refusals.iter().filter_map(|(_, reason)| *reason);
    (
        facts.tag_storage.to_vec(),
        refused.collect(),
        facts.firmware.len(),
    )
}

#[test]
fn tag_storage_is_read() {
    let (regions, refused, firmware) = with_storage(&[right()], &[RAM]);
    let want = TagStorage {
        storage: Region::from_len(STORAGE.0, STORAGE.1),
        tagged: Region::from_len(RAM.0, RAM.1),
        block: 4096,
    };
    assert_eq!((regions, refused, firmware), (vec![want], vec![], 0));
    // Blocks of the hardware that are no pages are whole pages together.
    for (bytes, block) in [(64, 4096), (8192, 8192), (6144, 12288)] {
        let (size, block_size) = (STORAGE.1.next_multiple_of(block), Some(bytes));
        let region = Described {
            reg: vec![(STORAGE.0, size)],
            block: block_size,
            ..right()
        };
        let (regions, refused, _) = with_storage(&[region], &[RAM]);
        assert_eq!(refused, [], "{bytes}");
        assert_eq!(regions[0].block, block);
    }
}

/// TAG-23: each way to be wrong has its reason, and the range is firmware's then.
#[test]
fn tag_storage_that_is_wrong_is_refused_with_its_reason() {
    type Wrong = (TagRefusal, fn(&mut Described));
    let wrong: [Wrong; 14] = [
        (TagRefusal::NoRange, |it| it.reg.clear()),
        (TagRefusal::ManyRanges, |it| {
            it.reg.push((0x5000_0000, 4096))
        }),
        (TagRefusal::Misaligned, |it| it.reg[0].0 += 16),
        (TagRefusal::Misaligned, |it| it.reg[0].1 = 0),
        (TagRefusal::NoBlockSize, |it| it.block = None),
        (TagRefusal::BadBlockSize, |it| it.block = Some(0)),
        (TagRefusal::BadBlockSize, |it| it.block = Some(1 << 20)),
        (TagRefusal::PartOfBlock, |it| {
            it.block = Some(8192);
            it.reg[0].1 += 4096;
        }),
        (TagRefusal::NoMemory, |it| it.memory = None),
        (TagRefusal::NoSuchNode, |it| it.memory = Some(77)),
        (TagRefusal::NotMemory, |it| it.memory = Some(9)),
        (TagRefusal::TooSmall, |it| it.reg[0].1 -= 4096),
        (TagRefusal::TooLarge, |it| it.reg[0].1 += 4096),
        (TagRefusal::NotReusable, |it| it.reusable = false),
    ];
    for (reason, make_wrong) in wrong {
        let mut region = right();
        make_wrong(&mut region);
        let ranges = region.reg.len();
        let (regions, refused, firmware) = with_storage(&[region], &[RAM]);
        assert_eq!((regions, refused), (vec![], vec![reason]));
        assert_eq!(firmware, ranges, "{reason:?}");
    }
    let banks = [RAM, (0x1_0000_0000, 0x1000_0000)];
    let (_, refused, _) = with_storage(&[right()], &banks);
    assert_eq!(refused, [TagRefusal::MemoryRanges]);
}

#[test]
fn regions_of_tag_storage_do_not_meet() {
    let other = |start| Described {
        reg: vec![(start, STORAGE.1)],
        ..right()
    };
    let (regions, refused, _) = with_storage(&[right(), other(0x5080_0000)], &[RAM]);
    assert_eq!((regions.len(), refused), (1, vec![TagRefusal::ServedTwice]));
    let (regions, refused, _) = with_storage(&[right(), other(0x5880_0000)], &[RAM]);
    assert_eq!(
        (regions.len(), refused),
        (1, vec![TagRefusal::OverlapsStorage])
    );
}

#[test]
fn tag_storage_goes_where_nothing_else_is() {
    use crate::early::ReservedKind;
    use crate::early::plan::Plan;
    let mut plan = Plan::new(&[Region::from_len(RAM.0, RAM.1)], 1 << 48);
    plan.reserve(Region::from_len(0x4100_0000, 4096), ReservedKind::Image)
        .unwrap();
    let mut reserve = |start| plan.reserve_tag_storage(&Region::from_len(start, 0x100_0000));
    assert_eq!(reserve(0x4080_0000), Err(TagRefusal::Taken));
    assert_eq!(reserve(0x5f80_0000), Err(TagRefusal::NotRam));
    assert_eq!(reserve(0x5800_0000), Ok(()));
}
