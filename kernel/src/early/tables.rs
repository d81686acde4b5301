//! The boot tables: made out of one fixed chunk, before anything can be allocated.
//!
//! This is not the page-table engine (`pgtable`), which needs frame metadata that these tables have
//! to map first. They are handed over to it: every table made here is adopted by the one
//! constructor (law 8). Runs with the MMU off too, so nothing here can panic.

use arm64::addr::{PAGE_SIZE, PhysAddr};
use arm64::attrs::Attrs;
use arm64::geometry::{Geometry, Level};
use arm64::pte::{Format, Pte};

/// Shape of all boot tables: 48 bits, four levels.
pub const GEOMETRY: Geometry = Geometry::for_va_bits(48);
/// Bytes of the chunk that boot tables come from.
pub const CHUNK_SIZE: u64 = 2 << 20;
const ENTRIES: usize = 512;

/// Why a boot mapping could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// The chunk has no table left.
    OutOfTables,
    /// Something is mapped there already, or the range is not page-aligned: our own mistake.
    Misuse,
}

/// The maker of boot tables.
#[derive(Debug)]
pub struct Tables {
    format: Format,
    chunk: u64,
    used: u32,
    /// What to add to a physical address (wrapping) to reach it.
    reach: u64,
}

impl Tables {
    /// Makes tables in the chunk at `chunk`, of which `used` pages are taken.
    ///
    /// # Safety
    /// The [`CHUNK_SIZE`] bytes at physical address `chunk` are reached at `chunk + reach`
    /// (wrapping), belong to these tables alone, and hold well-formed tables in the first `used`
    /// pages.
    pub const unsafe fn new(format: Format, chunk: u64, used: u32, reach: u64) -> Self {
        Self {
            format,
            chunk,
            used,
            reach,
        }
    }

    /// How many tables have been made.
    pub const fn used(&self) -> u32 {
        self.used
    }

    /// How descriptors are encoded.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// A new, empty table.
    pub fn table(&mut self) -> Result<PhysAddr, MapError> {
        let offset = self.used as u64 * PAGE_SIZE;
        if offset >= CHUNK_SIZE {
            return Err(MapError::OutOfTables);
        }
        self.used += 1;
        let pa = PhysAddr::new(self.chunk.wrapping_add(offset));
        for index in 0..ENTRIES {
            self.write(pa, index, Pte::from_raw(0));
        }
        Ok(pa)
    }

    /// Maps `len` bytes at `va` to `pa` in the tree under `root`, with 2 MiB blocks where they fit
    /// and `blocks` allows them, else with pages. All three numbers are multiples of the page size.
    ///
    /// # Errors
    /// See [`MapError`]; what was mapped so far stays.
    pub fn map(
        &mut self,
        root: PhysAddr,
        va: u64,
        pa: u64,
        len: u64,
        attrs: Attrs,
        blocks: bool,
    ) -> Result<(), MapError> {
        if (va | pa | len) & (PAGE_SIZE - 1) != 0 {
            return Err(MapError::Misuse);
        }
        let mut done = 0;
        while done < len {
            let (va, pa, left) = (va.wrapping_add(done), pa.wrapping_add(done), len - done);
            let block = Level::L2.size();
            let fits = blocks && (va | pa) & (block - 1) == 0 && left >= block;
            let level = if fits { Level::L2 } else { Level::L3 };
            // Pages run up to the next place where a block could begin.
            let run = if fits {
                left
            } else {
                left.min(block - (va & (block - 1)))
            };
            done += self.map_run(root, va, pa, run, attrs, level)?;
        }
        Ok(())
    }

    /// Maps as much of the range as one table holds; returns the bytes.
    fn map_run(
        &mut self,
        root: PhysAddr,
        va: u64,
        pa: u64,
        len: u64,
        attrs: Attrs,
        level: Level,
    ) -> Result<u64, MapError> {
        let table = self.walk(root, va, level)?;
        let mut index = GEOMETRY.index(va, level);
        let mut done = 0;
        while index < ENTRIES && len - done >= level.size() {
            if !self.read(table, index).is_none() {
                return Err(MapError::Misuse);
            }
            let pa = PhysAddr::new(pa.wrapping_add(done));
            self.write(table, index, self.format.leaf(pa, attrs, level));
            index += 1;
            done += level.size();
        }
        Ok(done)
    }

    /// Removes mappings of whole entries in `len` bytes from `va`; tables stay. The caller
    /// invalidates the TLB.
    ///
    /// # Errors
    /// [`MapError::Misuse`] if nothing is mapped somewhere in the range.
    pub fn unmap(&mut self, root: PhysAddr, va: u64, len: u64) -> Result<(), MapError> {
        let mut done = 0;
        while done < len {
            let (table, index, level) = self.find(root, va.wrapping_add(done))?;
            self.write(table, index, Pte::from_raw(0));
            done = done.saturating_add(level.size());
        }
        Ok(())
    }

    /// The table of `level` that translates `va`, made on the way where it is missing.
    fn walk(&mut self, root: PhysAddr, va: u64, level: Level) -> Result<PhysAddr, MapError> {
        let (mut table, mut at) = (root, GEOMETRY.root_level());
        while at != level {
            let index = GEOMETRY.index(va, at);
            let entry = self.read(table, index);
            table = if entry.is_none() {
                let new = self.table()?;
                self.write(table, index, self.format.table(new));
                new
            } else if entry.is_table(at) {
                self.format.table_pa(entry)
            } else {
                return Err(MapError::Misuse);
            };
            at = at.finer().ok_or(MapError::Misuse)?;
        }
        Ok(table)
    }

    /// The leaf that maps `va`: its table, index and level.
    fn find(&self, root: PhysAddr, va: u64) -> Result<(PhysAddr, usize, Level), MapError> {
        let (mut table, mut at) = (root, GEOMETRY.root_level());
        loop {
            let index = GEOMETRY.index(va, at);
            let entry = self.read(table, index);
            if entry.is_leaf(at) {
                return Ok((table, index, at));
            }
            if !entry.is_table(at) {
                return Err(MapError::Misuse);
            }
            table = self.format.table_pa(entry);
            at = at.finer().ok_or(MapError::Misuse)?;
        }
    }

    fn read(&self, table: PhysAddr, index: usize) -> Pte {
        // SAFETY: `table` is a page of the chunk (it came from `table`, or was read from one of
        // its tables), which `new`'s contract makes ours; `index` is below 512.
        Pte::from_raw(unsafe { self.entry(table, index).read_volatile() })
    }

    fn write(&self, table: PhysAddr, index: usize, pte: Pte) {
        // SAFETY: as in `read`.
        unsafe { self.entry(table, index).write_volatile(pte.raw()) }
    }

    fn entry(&self, table: PhysAddr, index: usize) -> *mut u64 {
        let address = table
            .raw()
            .wrapping_add(self.reach)
            .wrapping_add(8 * index as u64);
        core::ptr::with_exposed_provenance_mut(address as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arm64::attrs::{MemType, Prot};

    const PA: u64 = 0x4020_0000;
    const RW: Attrs = Attrs::kernel(Prot::RW, MemType::Normal);

    /// Tables in host memory that claim to be at physical address [`PA`].
    fn tables(memory: &mut Vec<u64>) -> Tables {
        memory.resize(CHUNK_SIZE as usize / 8, !0);
        let reach = (memory.as_mut_ptr().expose_provenance() as u64).wrapping_sub(PA);
        // SAFETY: the vector has the chunk's size and outlives the tables in every test.
        unsafe { Tables::new(Format { lpa2: false }, PA, 0, reach) }
    }

    fn translate(tables: &Tables, root: PhysAddr, va: u64) -> Option<(u64, Level)> {
        let (table, index, level) = tables.find(root, va).ok()?;
        let pa = tables.format.pa(tables.read(table, index), level).raw();
        Some((pa + (va & (level.size() - 1)), level))
    }

    #[test]
    fn a_new_table_is_empty_whatever_was_in_memory() {
        let mut memory = Vec::new();
        let mut tables = tables(&mut memory);
        let root = tables.table().unwrap();
        assert!((0..ENTRIES).all(|index| tables.read(root, index).is_none()));
        assert_eq!((root.raw(), tables.used()), (PA, 1));
    }

    #[test]
    fn blocks_are_used_inside_and_pages_at_the_edges() {
        let mut memory = Vec::new();
        let mut tables = tables(&mut memory);
        let root = tables.table().unwrap();
        let base = 0xffff_0000_0000_0000;
        let (start, len) = (0x401f_f000, 0x60_2000);
        tables
            .map(root, base + start, start, len, RW, true)
            .unwrap();
        let level = |pa: u64| translate(&tables, root, base + pa);
        assert_eq!(level(0x401f_f000), Some((0x401f_f000, Level::L3)));
        assert_eq!(level(0x4020_0000), Some((0x4020_0000, Level::L2)));
        assert_eq!(level(0x407f_ffff), Some((0x407f_ffff, Level::L2)));
        assert_eq!(level(0x4080_0000), Some((0x4080_0000, Level::L3)));
        assert_eq!(level(0x4080_1000), None);
        assert_eq!(level(0x401f_e000), None);
        // Root, one level 1 and one level 2 table, and a level 3 table at each edge.
        assert_eq!(tables.used(), 5);
    }

    #[test]
    fn ranges_cross_table_boundaries() {
        let mut memory = Vec::new();
        let mut tables = tables(&mut memory);
        let root = tables.table().unwrap();
        tables.map(root, 0, 0, 3 << 30, RW, true).unwrap();
        assert_eq!(
            translate(&tables, root, 0x7fff_ffff),
            Some((0x7fff_ffff, Level::L2))
        );
        assert_eq!(
            translate(&tables, root, 0x8000_0000),
            Some((0x8000_0000, Level::L2))
        );
        assert_eq!(translate(&tables, root, 3 << 30), None);
    }

    #[test]
    fn mapping_twice_or_unaligned_is_refused() {
        let mut memory = Vec::new();
        let mut tables = tables(&mut memory);
        let root = tables.table().unwrap();
        tables.map(root, 0x1000, 0x1000, 0x1000, RW, false).unwrap();
        assert_eq!(
            tables.map(root, 0x1000, 0x1000, 0x1000, RW, false),
            Err(MapError::Misuse)
        );
        assert_eq!(
            tables.map(root, 0x800, 0x1000, 0x1000, RW, false),
            Err(MapError::Misuse)
        );
        tables.map(root, 0x20_0000, 0, 0x20_0000, RW, true).unwrap();
        assert_eq!(
            tables.map(root, 0x20_1000, 0, 0x1000, RW, true),
            Err(MapError::Misuse)
        );
    }

    #[test]
    fn unmapping_leaves_neighbours() {
        let mut memory = Vec::new();
        let mut tables = tables(&mut memory);
        let root = tables.table().unwrap();
        tables.map(root, 0x1000, 0x1000, 0x3000, RW, false).unwrap();
        tables.unmap(root, 0x2000, 0x1000).unwrap();
        assert_eq!(translate(&tables, root, 0x2000), None);
        assert!(translate(&tables, root, 0x1000).is_some());
        assert!(translate(&tables, root, 0x3000).is_some());
        assert_eq!(tables.unmap(root, 0x2000, 0x1000), Err(MapError::Misuse));
    }

    #[test]
    fn the_chunk_runs_out_with_an_error() {
        let mut memory = Vec::new();
        let mut tables = tables(&mut memory);
        for _ in 0..CHUNK_SIZE / PAGE_SIZE {
            tables.table().unwrap();
        }
        assert_eq!(tables.table(), Err(MapError::OutOfTables));
    }
}
