//! What a mapping allows and how its memory behaves, without saying which descriptor bits that is.

use core::fmt;

bitflags::bitflags! {
    /// Permissions of a mapping.
    ///
    /// The hardware has no write-only and (as Tessera sets it up) no execute-only mapping: an
    /// accessible page can always be read. `WRITE` or `EXEC` without `READ` is a caller's mistake,
    /// which the checked encoder refuses and the infallible one reads as if `READ` were there.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct Prot: u8 {
        /// Loads are allowed.
        const READ = 1;
        /// Stores are allowed.
        const WRITE = 2;
        /// Instruction fetch is allowed, at EL0 for user mappings and at EL1 for kernel mappings.
        const EXEC = 4;
        /// EL0 has the access too. EL1 never executes such a page.
        const USER = 8;
    }
}

impl Prot {
    /// Read and write.
    pub const RW: Self = Self::READ.union(Self::WRITE);
    /// Read and execute.
    pub const RX: Self = Self::READ.union(Self::EXEC);

    /// Whether nobody may access the page: none of `READ`, `WRITE`, `EXEC`.
    #[inline(always)]
    pub const fn is_no_access(self) -> bool {
        !self.intersects(Self::READ.union(Self::WRITE).union(Self::EXEC))
    }

    /// Whether the page can be written and executed at the same time.
    #[inline(always)]
    pub const fn is_write_exec(self) -> bool {
        self.contains(Self::WRITE.union(Self::EXEC))
    }
}

impl fmt::Display for Prot {
    /// Four letters, as in `rw-u`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |flag, yes| if self.contains(flag) { yes } else { "-" };
        f.write_str(letter(Self::READ, "r"))?;
        f.write_str(letter(Self::WRITE, "w"))?;
        f.write_str(letter(Self::EXEC, "x"))?;
        f.write_str(letter(Self::USER, "u"))
    }
}

/// Memory types; the value is the index into MAIR_EL1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum MemType {
    /// Device-nGnRnE: registers of devices.
    Device = 0,
    /// Normal memory, Inner and Outer Write-Back, Read- and Write-Allocate.
    Normal = 1,
    /// [`MemType::Normal`] with allocation tags (MTE).
    Tagged = 2,
    /// Normal memory, not cacheable.
    NonCacheable = 3,
}

impl MemType {
    /// All memory types, in the order of their index.
    pub const ALL: [Self; 4] = [Self::Device, Self::Normal, Self::Tagged, Self::NonCacheable];

    /// The index into MAIR_EL1.
    #[inline(always)]
    pub const fn index(self) -> u64 {
        self as u64
    }

    /// The type with that index; `None` above 3.
    #[inline(always)]
    pub const fn from_index(index: u64) -> Option<Self> {
        match index {
            0 => Some(Self::Device),
            1 => Some(Self::Normal),
            2 => Some(Self::Tagged),
            3 => Some(Self::NonCacheable),
            _ => None,
        }
    }

    /// The byte of MAIR_EL1. [ARM "MAIR_EL1, Memory Attribute Indirection Register (EL1)"]
    pub const fn attribute(self) -> u8 {
        match self {
            Self::Device => 0x00,
            Self::Normal => 0xff,
            Self::Tagged => 0xf0,
            Self::NonCacheable => 0x44,
        }
    }
}

impl fmt::Display for MemType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Normal => "normal",
            Self::Tagged => "tagged",
            Self::NonCacheable => "uncached",
        })
    }
}

/// MAIR_EL1 on a CPU with MTE; [`crate::regs::mair`] gives the value for any CPU.
pub const MAIR_VALUE: u64 = 0x44f0_ff00;

/// Everything about a mapping but its address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Attrs {
    /// Who may do what.
    pub prot: Prot,
    /// How the memory behaves.
    pub mem: MemType,
    /// Valid in every address space (kernel only): its TLB entries carry no ASID.
    pub global: bool,
    /// Accessed since the flag was last cleared; an entry that is not young faults on access unless
    /// the hardware sets the flag (FEAT_HAFDBS), and is not held in a TLB.
    pub young: bool,
    /// Written since it was last clean.
    pub dirty: bool,
    /// Part of a contiguous block; see law 6 for when that is allowed.
    pub contiguous: bool,
    /// Write-protected by a userfaultfd: law 10 forbids making it writable except by its resolution.
    pub uffd_wp: bool,
    /// Maps a frame that is not counted (zero page, device memory).
    pub special: bool,
}

impl Attrs {
    /// A kernel mapping: global, and young and dirty from birth if writable, so that the kernel
    /// never faults on its own memory.
    pub const fn kernel(prot: Prot, mem: MemType) -> Self {
        Self {
            prot: prot.difference(Prot::USER),
            mem,
            global: true,
            young: true,
            dirty: prot.contains(Prot::WRITE),
            contiguous: false,
            uffd_wp: false,
            special: false,
        }
    }

    /// A user mapping of Normal memory: not global, old and clean. A writable entry is born clean,
    /// so that write-protecting a fresh one never makes it look dirty.
    pub const fn user(prot: Prot) -> Self {
        Self {
            prot: prot.union(Prot::USER),
            mem: MemType::Normal,
            global: false,
            young: false,
            dirty: false,
            contiguous: false,
            uffd_wp: false,
            special: false,
        }
    }

    /// The same with these permissions.
    pub const fn with_prot(mut self, prot: Prot) -> Self {
        self.prot = prot;
        self
    }

    /// The same with this memory type.
    pub const fn with_mem(mut self, mem: MemType) -> Self {
        self.mem = mem;
        self
    }

    /// The same, global or not.
    pub const fn with_global(mut self, global: bool) -> Self {
        self.global = global;
        self
    }

    /// The same, young or old.
    pub const fn with_young(mut self, young: bool) -> Self {
        self.young = young;
        self
    }

    /// The same, dirty or clean.
    pub const fn with_dirty(mut self, dirty: bool) -> Self {
        self.dirty = dirty;
        self
    }

    /// The same, in a contiguous block or not.
    pub const fn with_contiguous(mut self, contiguous: bool) -> Self {
        self.contiguous = contiguous;
        self
    }

    /// The same, with or without the userfaultfd write-protect mark.
    pub const fn with_uffd_wp(mut self, uffd_wp: bool) -> Self {
        self.uffd_wp = uffd_wp;
        self
    }

    /// The same, special or not.
    pub const fn with_special(mut self, special: bool) -> Self {
        self.special = special;
        self
    }

    /// Whether the two are equal but for accessed and dirty, which the hardware sets by itself.
    pub const fn same_but_ad(self, other: Self) -> bool {
        self.prot.bits() == other.prot.bits()
            && self.mem as u8 == other.mem as u8
            && self.global == other.global
            && self.contiguous == other.contiguous
            && self.uffd_wp == other.uffd_wp
            && self.special == other.special
    }
}

impl fmt::Display for Attrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.prot, self.mem)?;
        let words = [
            (self.global, "global"),
            (self.young, "young"),
            (self.dirty, "dirty"),
            (self.contiguous, "contiguous"),
            (self.uffd_wp, "uffd-wp"),
            (self.special, "special"),
        ];
        for (on, word) in words {
            if on {
                write!(f, " {word}")?;
            }
        }
        Ok(())
    }
}

const _: () = {
    let mut value = 0;
    let mut i = 0;
    while i < MemType::ALL.len() {
        assert!(MemType::ALL[i].index() == i as u64);
        value |= (MemType::ALL[i].attribute() as u64) << (8 * i);
        i += 1;
    }
    assert!(value == MAIR_VALUE);
};
