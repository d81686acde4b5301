//! ptdump: the mappings of a space as merged ranges, read without a lock (PTE-07).

use core::fmt;

use arm64::attrs::{MemType, Prot};
use arm64::geometry::Level;
use arm64::pte::Pte;

use crate::machine::Machine;
use crate::slot::{ReadSide, TableRef, load_lockless};
use crate::space::{Kind, PageTable, SpaceKind};
use crate::value::Value;
use crate::walk::step;

/// What has to be equal for two neighbouring leaves to be shown as one range.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    prot: Prot,
    mem: MemType,
    level: Level,
    contiguous: bool,
    valid: bool,
}

struct Range {
    start: u64,
    end: u64,
    look: Look,
}

struct Dumper<'o> {
    out: &'o mut dyn fmt::Write,
    open: Option<Range>,
    /// Mappings that were both writable and executable.
    both: u64,
}

impl Dumper<'_> {
    fn leaf(
        &mut self,
        (va, size): (u64, u64),
        level: Level,
        value: Value,
        contiguous: bool,
    ) -> fmt::Result {
        let pte: Pte = value.pte();
        let look = Look {
            prot: pte.prot(),
            mem: pte.mem_type(),
            level,
            contiguous,
            valid: pte.is_valid(),
        };
        let end = va.wrapping_add(size);
        match &mut self.open {
            Some(range) if range.end == va && range.look == look => range.end = end,
            _ => {
                self.close()?;
                self.open = Some(Range {
                    start: va,
                    end,
                    look,
                });
            }
        }
        Ok(())
    }

    fn close(&mut self) -> fmt::Result {
        let Some(Range { start, end, look }) = self.open.take() else {
            return Ok(());
        };
        let has = |bit, sign| if look.prot.contains(bit) { sign } else { '-' };
        let both = look.prot.contains(Prot::WRITE | Prot::EXEC);
        self.both += u64::from(both);
        writeln!(
            self.out,
            "{start:016x}-{end:016x} {:>9} KiB  {}{}{}{} {:<8} L{} {}{}{}",
            end.wrapping_sub(start) >> 10,
            has(Prot::READ, 'r'),
            has(Prot::WRITE, 'w'),
            has(Prot::EXEC, 'x'),
            has(Prot::USER, 'u'),
            name(look.mem),
            look.level.number(),
            size(look.level),
            if look.contiguous { " contiguous" } else { "" },
            match (look.valid, both) {
                (false, _) => " (software only)",
                (true, true) => " WRITABLE AND EXECUTABLE",
                (true, false) => "",
            },
        )
    }
}

fn name(mem: MemType) -> &'static str {
    match mem {
        MemType::Normal => "normal",
        MemType::Tagged => "tagged",
        MemType::Device => "device",
        MemType::NonCacheable => "uncached",
    }
}

fn size(level: Level) -> &'static str {
    match level {
        Level::L3 => "4 KiB pages",
        Level::L2 => "2 MiB blocks",
        Level::L1 => "1 GiB blocks",
        _ => "?",
    }
}

impl<K: Kind, M: Machine> PageTable<K, M> {
    /// Writes one line for each range of equal mappings, lowest address first, and a last line
    /// that counts ranges both writable and executable. Entries may change meanwhile; each page
    /// or contiguous block is shown as it was at its one load.
    ///
    /// # Errors
    /// Only those of `out`.
    pub fn dump(&self, out: &mut dyn fmt::Write, section: &ReadSide<'_>) -> fmt::Result {
        let mut dumper = Dumper {
            out,
            open: None,
            both: 0,
        };
        let base = match K::KIND {
            SpaceKind::Kernel => u64::MAX << self.geometry().va_bits(),
            SpaceKind::User | SpaceKind::Special => 0,
        };
        self.dump_table(&mut dumper, self.root(section), base, section)?;
        dumper.close()?;
        let both = dumper.both;
        writeln!(dumper.out, "ranges both writable and executable: {both}")
    }

    fn dump_table(
        &self,
        dumper: &mut Dumper<'_>,
        table: TableRef<'_>,
        base: u64,
        section: &ReadSide<'_>,
    ) -> fmt::Result {
        let (level, block) = (table.level(), table.shape().cont_entries());
        let mut index = 0;
        while index < table.entries() {
            let va = base.wrapping_add((index as u64) << table.shape().shift(level));
            let loaded = load_lockless(&table, index, section);
            if let Some(next) = step(self.machine(), table, loaded.value.pte()) {
                self.dump_table(dumper, next, va, section)?;
            } else if !loaded.value.is_none() {
                // A block is shown as it was at the load of its first entry, which gathers all. If
                // it was made while its pages were shown, the rest of it are pages too.
                let contiguous = loaded.contiguous && index.is_multiple_of(block);
                let size = level.size() * if contiguous { block as u64 } else { 1 };
                dumper.leaf((va, size), level, loaded.value, contiguous)?;
                index += if contiguous { block } else { 1 };
                continue;
            }
            index += 1;
        }
        Ok(())
    }
}
