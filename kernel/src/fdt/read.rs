//! From the tree to [`Facts`].

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::{NodeStandard, Status};
use dtoolkit::{Node, Property, ToCellInt};

use super::{Conduit, Device, Facts, Firmware, Gic, Refusal, TagRefusal, tag_storage};
use crate::early::{List, Region};

/// Buses deeper than this are not searched for devices.
const MAX_DEPTH: usize = 4;
/// Address windows of a bus that are used.
const MAX_WINDOWS: usize = 8;
/// MPIDR_EL1's affinity fields.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// Reads all facts out of a device tree. What is missing is left empty; [`Facts::check`] says what
/// the kernel cannot do without.
///
/// # Errors
/// [`Refusal::BadTree`] if `blob` is not a well-formed device tree of exactly its own length.
pub fn read(blob: &[u8]) -> Result<Facts<'_>, Refusal> {
    let tree = Fdt::new(blob).map_err(Refusal::BadTree)?;
    let mut facts = Facts {
        memory: List::new(),
        memory_ignored: 0,
        firmware: List::new(),
        tag_storage: List::new(),
        tag_refusals: List::new(),
        cpus: List::new(),
        cpu_total: 0,
        uart: None,
        gic: None,
        gic_v2: false,
        timer: None,
        psci: None,
        rtc: None,
        initrd: None,
        bootargs: "",
        rng_seed: None,
    };
    read_reserved(tree, &mut facts)?;
    read_cpus(tree, &mut facts);
    read_chosen(tree, &mut facts);
    let console = console_path(tree);
    visit(tree.root(), &Bus::default(), 0, &mut |device, bus| {
        read_device(tree, device, bus, console, &mut facts);
    });
    Ok(facts)
}

impl Facts<'_> {
    /// Whether everything is there that the kernel cannot do without.
    ///
    /// # Errors
    /// The first thing that is missing.
    pub fn check(&self) -> Result<(), Refusal> {
        let has_memory = self.memory.iter().any(|bank| !bank.is_empty());
        if !has_memory {
            return Err(Refusal::NoMemory);
        }
        if self.cpus.is_empty() {
            return Err(Refusal::NoCpus);
        }
        self.gic.ok_or(Refusal::NoGic { v2: self.gic_v2 })?;
        self.timer.ok_or(Refusal::NoTimer)?;
        self.uart.ok_or(Refusal::NoUart)?;
        Ok(())
    }
}

/// How addresses of a bus become the CPU's.
#[derive(Default)]
struct Bus {
    /// Child address, CPU address, length. Empty: the same addresses.
    windows: List<(u64, u64, u64), MAX_WINDOWS>,
}

impl Bus {
    fn translate(&self, region: Region) -> Option<Region> {
        if self.windows.is_empty() {
            return Some(region);
        }
        self.windows.iter().find_map(|&(child, cpu, len)| {
            let offset = region.start.checked_sub(child)?;
            let inside = offset.checked_add(region.len())? <= len;
            let start = cpu.checked_add(offset)?;
            inside.then(|| Region::from_len(start, region.len()))
        })
    }

    /// The bus below `node`; `None` if its devices are not reachable by the CPU.
    fn below(&self, node: FdtNode<'_>) -> Option<Self> {
        let mut windows = List::new();
        for range in node.ranges().ok()?? {
            let (child, len) = (range.child_bus_address().ok()?, range.length().ok()?);
            let parent = Region::from_len(range.parent_bus_address().ok()?, len);
            let cpu = self.translate(parent)?.start;
            let _more_windows_than_we_use = windows.push((child, cpu, len));
        }
        if windows.is_empty() {
            windows = self.windows;
        }
        Some(Self { windows })
    }
}

/// A node, with the properties that say what it is looked up once: a tree has many nodes that are
/// none of ours, and each look-up reads all properties of one.
struct Candidate<'a> {
    node: FdtNode<'a>,
    compatible: &'a [u8],
    is_memory: bool,
}

impl<'a> Candidate<'a> {
    /// `None` for a node that is switched off.
    fn new(node: FdtNode<'a>) -> Option<Self> {
        let (mut compatible, mut is_memory) = (&[][..], false);
        for property in node.properties() {
            match property.name() {
                "compatible" => compatible = property.value_as::<&'a [u8]>().unwrap_or_default(),
                "device_type" => is_memory = property.value() == b"memory\0",
                "status" if !matches!(property.value(), b"okay\0" | b"ok\0") => return None,
                _ => {}
            }
        }
        Some(Self {
            node,
            compatible,
            is_memory,
        })
    }

    fn kinds(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.compatible.split(|&byte| byte == 0)
    }
}

fn visit<'a>(
    node: FdtNode<'a>,
    bus: &Bus,
    depth: usize,
    each: &mut dyn FnMut(&Candidate<'a>, &Bus),
) {
    for device in node.children().filter_map(Candidate::new) {
        each(&device, bus);
        if depth < MAX_DEPTH
            && device.kinds().any(|kind| kind == b"simple-bus")
            && let Some(inner) = bus.below(device.node)
        {
            visit(device.node, &inner, depth + 1, each);
        }
    }
}

fn enabled(node: &FdtNode<'_>) -> bool {
    matches!(node.status(), Ok(Status::Okay))
}

/// The `index`-th range of `reg`, in the CPU's addresses.
fn registers(node: &FdtNode<'_>, bus: &Bus, index: usize) -> Option<Region> {
    let reg = node.reg().ok()??.nth(index)?;
    let (start, len) = (reg.address().ok()?, reg.size().ok()?);
    bus.translate(Region::from_len(start, len))
        .filter(|region| !region.is_empty())
}

/// The INTID of the `index`-th interrupt of a device below a GIC: three cells, of which the first
/// is 0 for a shared and 1 for a private peripheral interrupt (Linux's `arm,gic-v3` binding).
fn interrupt(node: &FdtNode<'_>, index: usize) -> Option<u32> {
    let property = node.property("interrupts")?;
    let [kind, number, _flags] = property.as_prop_encoded_array([1, 1, 1]).ok()?.nth(index)?;
    let number: u32 = number.to_int().ok()?;
    match kind.to_int::<u32>().ok()? {
        0 if number < 988 => Some(number + 32),
        1 if number < 16 => Some(number + 16),
        _ => None,
    }
}

fn read_device(
    tree: Fdt<'_>,
    candidate: &Candidate<'_>,
    bus: &Bus,
    console: Option<&str>,
    facts: &mut Facts<'_>,
) {
    let node = &candidate.node;
    if candidate.is_memory {
        read_memory(node, facts);
    }
    let device = || {
        let registers = registers(node, bus, 0)?;
        Some(Device {
            registers,
            interrupt: interrupt(node, 0),
            clock: clock(tree, node),
        })
    };
    for kind in candidate.kinds() {
        match kind {
            // The one that /chosen names, else the first.
            b"arm,pl011" if facts.uart.is_none() || console == Some(node.name()) => {
                facts.uart = device().or(facts.uart);
            }
            b"arm,gic-v3" => facts.gic = facts.gic.or_else(|| read_gic(node, bus)),
            b"arm,cortex-a15-gic" | b"arm,cortex-a9-gic" | b"arm,gic-400" => facts.gic_v2 = true,
            b"arm,armv8-timer" => facts.timer = interrupt(node, 2),
            b"arm,psci" | b"arm,psci-0.2" | b"arm,psci-1.0" => facts.psci = read_conduit(node),
            b"arm,pl031" => facts.rtc = facts.rtc.or_else(device),
            _ => {}
        }
    }
}

/// The rate of a device's first clock, where that is a fixed clock at the root of the tree.
fn clock(tree: Fdt<'_>, node: &FdtNode<'_>) -> Option<u32> {
    let phandle = node
        .property("clocks")?
        .value()
        .first_chunk::<4>()
        .copied()?;
    let phandle = Some(u32::from_be_bytes(phandle));
    let clock = tree
        .root()
        .children()
        .find(|node| node.phandle() == Ok(phandle))?;
    clock.property("clock-frequency")?.value_as::<u32>().ok()
}

fn read_memory(node: &FdtNode<'_>, facts: &mut Facts<'_>) {
    let Ok(Some(banks)) = node.reg() else { return };
    for reg in banks {
        let (Ok(start), Ok(len)) = (reg.address(), reg.size()) else {
            continue;
        };
        if facts.memory.push(Region::from_len(start, len)).is_err() {
            facts.memory_ignored += 1;
        }
    }
}

fn read_gic(node: &FdtNode<'_>, bus: &Bus) -> Option<Gic> {
    let distributor = registers(node, bus, 0)?;
    Some(Gic {
        distributor,
        redistributors: registers(node, bus, 1)?,
    })
}

fn read_conduit(node: &FdtNode<'_>) -> Option<Conduit> {
    match node.property("method")?.value_as::<&str>().ok()? {
        "hvc" => Some(Conduit::Hvc),
        "smc" => Some(Conduit::Smc),
        _ => None,
    }
}

fn read_reserved(tree: Fdt<'_>, facts: &mut Facts<'_>) -> Result<(), Refusal> {
    for reservation in tree.memory_reservations() {
        let region = Region::from_len(reservation.address(), reservation.size());
        let entry = Firmware {
            region,
            no_map: false,
        };
        facts
            .firmware
            .push(entry)
            .map_err(|_| Refusal::TooManyReserved)?;
    }
    let Some(nodes) = tree.reserved_memory() else {
        return Ok(());
    };
    for node in nodes.filter(|node| enabled(node)) {
        if tag_storage::is_tag_storage(&node) && read_tag_storage(tree, &node, facts) {
            continue;
        }
        let Ok(Some(regions)) = node.reg() else {
            continue;
        };
        for reg in regions {
            let (Ok(start), Ok(len)) = (reg.address(), reg.size()) else {
                continue;
            };
            let entry = Firmware {
                region: Region::from_len(start, len),
                no_map: node.no_map(),
            };
            facts
                .firmware
                .push(entry)
                .map_err(|_| Refusal::TooManyReserved)?;
        }
    }
    Ok(())
}

/// Whether the node's range is tag storage; else firmware keeps it.
fn read_tag_storage(tree: Fdt<'_>, node: &FdtNode<'_>, facts: &mut Facts<'_>) -> bool {
    let read = tag_storage::read(tree, node).and_then(|region| {
        tag_storage::check(&region, &facts.tag_storage)?;
        facts
            .tag_storage
            .push(region)
            .map_err(|_| TagRefusal::TooMany)
    });
    match read {
        Ok(()) => true,
        Err(reason) => {
            let start = node.reg().ok().flatten().and_then(|mut reg| reg.next());
            let start = start.and_then(|reg| reg.address().ok()).unwrap_or(0);
            let _more_than_are_told = facts.tag_refusals.push((start, Some(reason)));
            false
        }
    }
}

fn read_cpus(tree: Fdt<'_>, facts: &mut Facts<'_>) {
    let Ok(cpus) = tree.cpus() else { return };
    for cpu in cpus.cpus().filter(|cpu| enabled(cpu)) {
        let Ok(mut ids) = cpu.ids() else { continue };
        let Some(Ok(id)) = ids.next().map(ToCellInt::to_int::<u64>) else {
            continue;
        };
        facts.cpu_total += 1;
        let _more_cpus_than_we_use = facts.cpus.push(id & AFFINITY);
    }
}

fn read_chosen<'a>(tree: Fdt<'a>, facts: &mut Facts<'a>) {
    let Some(chosen) = tree.find_node("/chosen") else {
        return;
    };
    let property = |name: &str| chosen.properties().find(|property| property.name() == name);
    if let Some(line) = property("bootargs") {
        facts.bootargs = line.value_as::<&'a str>().unwrap_or("");
    }
    if let Some(seed) = property("rng-seed") {
        facts.rng_seed = seed.value().first_chunk().copied();
    }
    let address = |name: &str| {
        let cells = property(name)?;
        cells
            .value_as::<dtoolkit::Cells<'_>>()
            .ok()?
            .to_int::<u64>()
            .ok()
    };
    if let (Some(start), Some(end)) = (address("linux,initrd-start"), address("linux,initrd-end")) {
        facts.initrd = Some(Region::new(start, end)).filter(|region| !region.is_empty());
    }
}

/// The node name that `/chosen` names as the console, directly or through an alias.
fn console_path<'a>(tree: Fdt<'a>) -> Option<&'a str> {
    let text = |path: &str, name: &str| {
        let property = tree
            .find_node(path)?
            .properties()
            .find(|p| p.name() == name)?;
        property.value_as::<&'a str>().ok()
    };
    let path = text("/chosen", "stdout-path")?.split(':').next()?;
    let path = if path.starts_with('/') {
        path
    } else {
        text("/aliases", path)?
    };
    path.rsplit('/').next()
}
