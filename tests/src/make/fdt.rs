//! A tiny writer of flattened device trees, and the tree of QEMU's `virt` machine with things
//! left out or wrong.

/// A tree under construction: its structure block and its names.
#[derive(Clone, Debug, Default)]
pub struct Fdt {
    structure: Vec<u8>,
    strings: Vec<u8>,
    /// Put an FDT_NOP before every token but the first, as QEMU does where it edits a tree.
    pub nops: bool,
}

impl Fdt {
    fn token(&mut self, token: u32) {
        if self.nops && !self.structure.is_empty() {
            self.structure.extend(4_u32.to_be_bytes());
        }
        self.structure.extend(token.to_be_bytes());
    }

    /// Opens a node.
    pub fn open(&mut self, name: &str) -> &mut Self {
        self.token(1);
        self.structure.extend(name.as_bytes());
        self.structure.push(0);
        self.pad();
        self
    }

    /// Closes the innermost open node.
    pub fn close(&mut self) -> &mut Self {
        self.token(2);
        self
    }

    /// Adds a property with these bytes.
    pub fn bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.token(3);
        self.structure.extend((value.len() as u32).to_be_bytes());
        self.structure
            .extend((self.strings.len() as u32).to_be_bytes());
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        self.structure.extend(value);
        self.pad();
        self
    }

    /// Adds a property of 32-bit cells.
    pub fn cells(&mut self, name: &str, cells: &[u32]) -> &mut Self {
        let value: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.bytes(name, &value)
    }

    /// Adds a `reg`-like property of 64-bit numbers.
    pub fn wide(&mut self, name: &str, numbers: &[u64]) -> &mut Self {
        let value: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_be_bytes())
            .collect();
        self.bytes(name, &value)
    }

    /// Adds a property of NUL-ended strings.
    pub fn text(&mut self, name: &str, strings: &[&str]) -> &mut Self {
        let value: Vec<u8> = strings
            .iter()
            .flat_map(|s| [s.as_bytes(), b"\0"].concat())
            .collect();
        self.bytes(name, &value)
    }

    fn pad(&mut self) {
        self.structure
            .resize(self.structure.len().next_multiple_of(4), 0);
    }

    /// The blob, version 17.
    pub fn blob(&self) -> Vec<u8> {
        let mut structure = self.structure.clone();
        structure.extend(9_u32.to_be_bytes());
        // Header of ten words, an empty reservation map of one zero entry, structure, strings.
        let at = 40 + 16;
        let (end, total) = (
            at + structure.len(),
            at + structure.len() + self.strings.len(),
        );
        let header = [
            0xd00d_feed,
            total,
            at,
            end,
            40,
            17,
            16,
            0,
            self.strings.len(),
            structure.len(),
        ];
        let mut out: Vec<u8> = header
            .iter()
            .flat_map(|word| (*word as u32).to_be_bytes())
            .collect();
        out.resize(at, 0);
        out.extend(structure);
        out.extend(&self.strings);
        out
    }
}

/// Which interrupt controller a tree names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gic {
    /// None at all.
    Absent,
    /// The one Tessera drives.
    V3,
    /// An older one.
    V2,
}

/// What a `virt`-like tree says.
#[derive(Clone, Debug)]
pub struct Virt {
    /// Memory banks: address and size. No `memory` node when empty.
    pub memory: Vec<(u64, u64)>,
    /// Whether there is a UART.
    pub uart: bool,
    /// The interrupt controller.
    pub gic: Gic,
    /// CPUs.
    pub cpus: u32,
    /// Whether there is a PSCI node.
    pub psci: bool,
    /// Whether there is a timer.
    pub timer: bool,
    /// Kernel command line.
    pub bootargs: String,
    /// The initial RAM disk: first address and end.
    pub initrd: Option<(u64, u64)>,
    /// FDT_NOP before every token but the first.
    pub nops: bool,
    /// Empty nodes inside each other, beside the devices.
    pub depth: u32,
}

impl Virt {
    /// A tree with everything in order.
    pub fn new(memory: u64, bootargs: String, initrd: (u64, u64)) -> Self {
        Self {
            memory: vec![(0x4000_0000, memory)],
            uart: true,
            gic: Gic::V3,
            cpus: 1,
            psci: true,
            timer: true,
            bootargs,
            initrd: Some(initrd),
            nops: false,
            depth: 0,
        }
    }

    /// The blob.
    pub fn blob(&self) -> Vec<u8> {
        let mut fdt = Fdt {
            nops: self.nops,
            ..Fdt::default()
        };
        fdt.open("")
            .cells("#address-cells", &[2])
            .cells("#size-cells", &[2]);
        fdt.text("compatible", &["linux,dummy-virt"])
            .cells("interrupt-parent", &[1]);
        self.chosen(&mut fdt);
        for &(start, size) in &self.memory {
            fdt.open(&format!("memory@{start:x}"));
            fdt.text("device_type", &["memory"])
                .wide("reg", &[start, size])
                .close();
        }
        self.processors(&mut fdt);
        self.devices(&mut fdt);
        (0..self.depth).for_each(|_| _ = fdt.open("deep"));
        (0..self.depth).for_each(|_| _ = fdt.close());
        fdt.close();
        fdt.blob()
    }

    fn chosen(&self, fdt: &mut Fdt) {
        fdt.open("chosen").text("bootargs", &[&self.bootargs]);
        if self.uart {
            fdt.text("stdout-path", &["/pl011@9000000"]);
        }
        if let Some((start, end)) = self.initrd {
            fdt.wide("linux,initrd-start", &[start])
                .wide("linux,initrd-end", &[end]);
        }
        fdt.close();
    }

    fn processors(&self, fdt: &mut Fdt) {
        fdt.open("cpus")
            .cells("#address-cells", &[1])
            .cells("#size-cells", &[0]);
        for cpu in 0..self.cpus {
            fdt.open(&format!("cpu@{cpu:x}"))
                .text("device_type", &["cpu"])
                .cells("reg", &[cpu]);
            fdt.text("compatible", &["arm,armv8"])
                .text("enable-method", &["psci"])
                .close();
        }
        fdt.close();
        if self.psci {
            fdt.open("psci")
                .text("compatible", &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]);
            fdt.text("method", &["hvc"])
                .cells("cpu_on", &[0xc400_0003])
                .close();
        }
        if self.timer {
            fdt.open("timer")
                .text("compatible", &["arm,armv8-timer", "arm,armv7-timer"]);
            let ppi = [13, 14, 11, 10].map(|number| [1, number, 4]);
            fdt.cells("interrupts", ppi.as_flattened())
                .bytes("always-on", &[])
                .close();
        }
    }

    fn devices(&self, fdt: &mut Fdt) {
        let (compatible, second) = match self.gic {
            Gic::V3 => ("arm,gic-v3", [0x080a_0000, 0x00f6_0000]),
            Gic::V2 | Gic::Absent => ("arm,cortex-a15-gic", [0x0801_0000, 0x1_0000]),
        };
        if self.gic != Gic::Absent {
            fdt.open("intc@8000000")
                .text("compatible", &[compatible])
                .cells("phandle", &[1]);
            fdt.cells("#interrupt-cells", &[3])
                .bytes("interrupt-controller", &[]);
            fdt.wide("reg", &[0x0800_0000, 0x1_0000, second[0], second[1]])
                .close();
        }
        if self.uart {
            fdt.open("pl011@9000000")
                .text("compatible", &["arm,pl011", "arm,primecell"]);
            fdt.wide("reg", &[0x0900_0000, 0x1000])
                .cells("interrupts", &[0, 1, 4])
                .close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_own_compiler_reads_the_tree() {
        let tree = Virt {
            nops: true,
            depth: 3,
            ..Virt::new(1 << 29, "a=1 b".into(), (1, 2))
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), tree.blob()).unwrap();
        let command = ["-q", "-I", "dtb", "-O", "dts"];
        let Ok(output) = std::process::Command::new("dtc")
            .args(command)
            .arg(file.path())
            .output()
        else {
            eprintln!("no dtc on this machine: the kernel itself is the judge");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        for part in [
            "bootargs = \"a=1 b\"",
            "memory@40000000",
            "arm,gic-v3",
            "deep {",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }

    #[test]
    fn the_header_describes_the_blob() {
        let blob = Virt::new(1 << 29, String::new(), (1, 2)).blob();
        let word = |at: usize| u32::from_be_bytes(blob[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(word(0), 0xd00d_feed);
        assert_eq!(word(4), blob.len());
        assert_eq!(word(8) + word(36), word(12));
        assert_eq!(word(12) + word(32), blob.len());
        assert_eq!(word(word(12) - 4), 9, "the structure ends with FDT_END");
    }
}
