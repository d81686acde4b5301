//! A hand-made machine for the reader's tests: 8 MiB of RAM with a kernel, an identity map and a
//! program in it, all in order, so that each test can break one thing.

use super::memory::{Memory, PAGE};
use super::meta::{
    CLASS_TABLE, CLASS_USER, KIND_KERNEL, KIND_SPECIAL, KIND_USER, STATE_CONSTRUCTED,
};
use super::snapshot::{Root, Snapshot};

pub const BASE: u64 = 0x4000_0000;
pub const LEN: u64 = 8 << 20;
pub const VMEMMAP: u64 = 0xffff_7000_0000_0000;
pub const DIRECT: u64 = 0xffff_0000_0000_0000;
pub const KIMAGE: u64 = 0xffff_8000_0000_0000;

/// First address of the program's code, of its data, and of its contiguous 64 KiB.
pub const CODE: u64 = 0x20_0000;
pub const DATA: u64 = 0x40_0000;
pub const BLOCK: u64 = 0x60_0000;

pub const AP_EL0: u64 = 1 << 6;
pub const READ_ONLY: u64 = 1 << 7;
pub const ACCESSED: u64 = 1 << 10;
pub const NOT_GLOBAL: u64 = 1 << 11;
pub const DBM: u64 = 1 << 51;
pub const CONT: u64 = 1 << 52;
pub const PXN: u64 = 1 << 53;
pub const UXN: u64 = 1 << 54;
/// Valid, a page, Normal memory, accessed.
pub const LEAF: u64 = 0b111 | ACCESSED;

pub const KERNEL_TEXT: u64 = LEAF | READ_ONLY | UXN;
pub const KERNEL_DATA: u64 = LEAF | PXN | UXN;
pub const USER_TEXT: u64 = LEAF | READ_ONLY | AP_EL0 | NOT_GLOBAL | PXN;
pub const USER_DATA: u64 = LEAF | AP_EL0 | NOT_GLOBAL | PXN | UXN;

pub const KERNEL: u32 = 1;
pub const IDMAP: u32 = 2;
pub const PROGRAM: u32 = 9;

/// The machine.
pub struct Fake {
    bytes: Vec<u8>,
    next: u64,
    pub snapshot: Snapshot,
    /// One frame of class user.
    pub user_frame: u64,
    /// The page that both the kernel image and the identity map execute.
    pub text_frame: u64,
}

impl Memory for Fake {
    fn base(&self) -> u64 {
        BASE
    }

    fn len(&self) -> u64 {
        LEN
    }

    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        let Some(start) = address.checked_sub(BASE) else {
            return false;
        };
        let start = start as usize;
        let Some(from) = self.bytes.get(start..start.saturating_add(into.len())) else {
            return false;
        };
        into.copy_from_slice(from);
        true
    }
}

impl Fake {
    /// A machine in which nothing is wrong.
    pub fn new() -> Self {
        // Records of all frames come first.
        let records = LEN / PAGE * 64;
        let snapshot = Snapshot {
            ttbr1: 0,
            vmemmap: VMEMMAP,
            lpa2: false,
            protected: false,
            roots: Vec::new(),
        };
        let mut fake = Self {
            bytes: vec![0; LEN as usize],
            next: BASE + records,
            snapshot,
            user_frame: 0,
            text_frame: 0,
        };
        fake.snapshot.ttbr1 = fake.root(KERNEL, KIND_KERNEL, 4);
        fake.root(IDMAP, KIND_SPECIAL, 4);
        fake.root(PROGRAM, KIND_USER, 3);
        fake.kernel(records);
        fake.program();
        fake
    }

    fn kernel(&mut self, records: u64) {
        for page in (0..records).step_by(PAGE as usize) {
            self.map(
                KERNEL,
                VMEMMAP + BASE / 64 + page,
                3,
                (BASE + page) | KERNEL_DATA,
            );
        }
        for block in (0..LEN).step_by(2 << 20) {
            self.map(
                KERNEL,
                DIRECT + BASE + block,
                2,
                ((BASE + block) | KERNEL_DATA) & !0b10,
            );
        }
        self.text_frame = self.frame(3);
        self.map(KERNEL, KIMAGE, 3, self.text_frame | KERNEL_TEXT);
        self.map(IDMAP, self.text_frame, 3, self.text_frame | KERNEL_TEXT);
        let data = self.frame(3);
        self.map(KERNEL, KIMAGE + 0x20_0000, 3, data | KERNEL_DATA);
    }

    fn program(&mut self) {
        let text = self.frame(CLASS_USER);
        self.map(PROGRAM, CODE, 3, text | USER_TEXT);
        self.user_frame = self.frame(CLASS_USER);
        self.map(PROGRAM, DATA, 3, self.user_frame | USER_DATA);
        // The table first, so that the frames follow each other.
        self.slot(PROGRAM, BLOCK, 3);
        self.next = self.next.next_multiple_of(1 << 16);
        let folio = self.next;
        for page in 0..16 {
            let frame = self.frame(CLASS_USER);
            // One folio: its first frame counts for all.
            self.record(frame)[0] = 0;
            self.record(frame)[14] = page as u8;
            // Access flag and dirty state are each page's own.
            let own = if page % 2 == 0 { ACCESSED } else { READ_ONLY };
            self.map(
                PROGRAM,
                BLOCK + page * PAGE,
                3,
                frame | (USER_DATA | CONT | DBM) ^ own,
            );
        }
        self.record(folio)[0] = 16;
    }

    /// A fresh frame with one reference.
    pub fn frame(&mut self, class: u8) -> u64 {
        let frame = self.next;
        self.next += PAGE;
        let record = self.record(frame);
        record[0] = 1;
        record[4] = class;
        frame
    }

    /// A fresh, constructed table.
    pub fn table(&mut self, space: u32, kind: u8, level: i8) -> u64 {
        let table = self.frame(CLASS_TABLE);
        let record = self.record(table);
        record[6] = (level + 2) as u8;
        record[7] = STATE_CONSTRUCTED;
        record[8..12].copy_from_slice(&space.to_le_bytes());
        record[12] = kind;
        table
    }

    /// A fresh, announced root.
    pub fn root(&mut self, space: u32, kind: u8, levels: u8) -> u64 {
        let table = self.table(space, kind, 4 - levels as i8);
        self.snapshot.roots.push(Root {
            space,
            table,
            levels,
        });
        table
    }

    /// The record of a frame.
    pub fn record(&mut self, frame: u64) -> &mut [u8] {
        let at = ((frame - BASE) / PAGE * 64) as usize;
        &mut self.bytes[at..at + 64]
    }

    /// The word at a physical address.
    pub fn word(&mut self, address: u64) -> &mut [u8; 8] {
        let at = (address - BASE) as usize;
        (&mut self.bytes[at..at + 8]).try_into().unwrap()
    }

    pub fn get(&mut self, address: u64) -> u64 {
        u64::from_le_bytes(*self.word(address))
    }

    pub fn set(&mut self, address: u64, raw: u64) {
        *self.word(address) = raw.to_le_bytes();
    }

    /// Writes `raw` into the slot of `va` at `level`, making the tables above it.
    pub fn map(&mut self, space: u32, va: u64, level: i8, raw: u64) {
        let slot = self.slot(space, va, level);
        self.set(slot, raw);
    }

    /// Changes the entry of `va` at the page level.
    pub fn change(&mut self, space: u32, va: u64, how: impl FnOnce(u64) -> u64) {
        let slot = self.slot(space, va, 3);
        let raw = self.get(slot);
        self.set(slot, how(raw));
    }

    /// Physical address of the slot of `va` at `level`; missing tables are made.
    pub fn slot(&mut self, space: u32, va: u64, level: i8) -> u64 {
        let root = *self
            .snapshot
            .roots
            .iter()
            .find(|root| root.space == space)
            .unwrap();
        let kind = self.record(root.table)[12];
        let (mut table, mut here) = (root.table, root.level());
        loop {
            let shift = 12 + 9 * (3 - here) as u32;
            let slot = table + (va >> shift & 511) * 8;
            if here == level {
                return slot;
            }
            here += 1;
            if self.get(slot) == 0 {
                let next = self.table(space, kind, here);
                self.set(slot, next | 0b11);
            }
            table = self.get(slot) & 0x0000_ffff_ffff_f000;
        }
    }
}
