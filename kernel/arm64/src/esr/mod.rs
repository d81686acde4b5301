//! Exception syndromes: a total decoding of ESR_EL1, with words for people.
//!
//! [ARM "ESR_EL1, Exception Syndrome Register (EL1)"]

mod class;
mod fault;

use core::fmt;

pub use class::Class;
pub use fault::{Access, Fault, FaultStatus};

/// A value of ESR_EL1.
///
/// The class and the syndrome are cut out by mask, because some emulators set bits above 31 that
/// have no meaning here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Esr(u64);

impl Esr {
    /// The syndrome as read from the register.
    #[inline(always)]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The value as read.
    #[inline(always)]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// EC, bits 31:26.
    #[inline(always)]
    pub const fn ec(self) -> u8 {
        (self.0 >> 26 & 0x3f) as u8
    }

    /// ISS, bits 24:0.
    #[inline(always)]
    pub const fn iss(self) -> u32 {
        (self.0 & 0x01ff_ffff) as u32
    }

    /// IL, bit 25: the instruction has 4 bytes (or the exception is no matter of an instruction).
    #[inline(always)]
    pub const fn instruction_is_long(self) -> bool {
        self.0 & 1 << 25 != 0
    }

    /// What kind of exception it is.
    #[inline(always)]
    pub const fn class(self) -> Class {
        Class::from_ec(self.ec())
    }

    /// The immediate of SVC, HVC, SMC and BRK, for those classes.
    #[inline(always)]
    pub const fn immediate(self) -> u16 {
        self.0 as u16
    }

    /// The memory fault, for instruction and data aborts.
    #[inline]
    pub const fn fault(self) -> Option<Fault> {
        Fault::from_esr(self)
    }

    /// The access of an ordinary page fault from EL0: a translation, access-flag or permission
    /// fault at levels 0 to 3. The common case of [`Self::fault`] in a few instructions; `None` says
    /// only that the full decoding has to be asked.
    #[inline(always)]
    pub const fn el0_page_fault(self) -> Option<Access> {
        const INSTRUCTION_ABORT: u64 = 0x20;
        const DATA_ABORT: u64 = 0x24;
        // Status codes 0b0001xx, 0b0010xx and 0b0011xx: the fault kind in the middle, the level
        // below (Arm ARM, ESR_EL1, “ISS encoding for an exception from a Data Abort”).
        let kind = self.0 >> 2 & 0xf;
        if kind == 0 || kind > 3 {
            return None;
        }
        match self.0 >> 26 & 0x3f {
            INSTRUCTION_ABORT => Some(Access::Exec),
            // Bit 8: cache maintenance, which needs a closer look. Bit 6: a write.
            DATA_ABORT if self.0 >> 8 & 1 == 0 => match self.0 >> 6 & 1 {
                0 => Some(Access::Read),
                _ => Some(Access::Write),
            },
            _ => None,
        }
    }

    /// The trapped system instruction, for [`Class::SystemInstruction`].
    pub const fn system_instruction(self) -> Option<SystemInstruction> {
        if !matches!(self.class(), Class::SystemInstruction) {
            return None;
        }
        let iss = self.iss();
        Some(SystemInstruction {
            op0: (iss >> 20 & 3) as u8,
            op1: (iss >> 14 & 7) as u8,
            crn: (iss >> 10 & 15) as u8,
            crm: (iss >> 1 & 15) as u8,
            op2: (iss >> 17 & 7) as u8,
            rt: (iss >> 5 & 31) as u8,
            is_read: iss & 1 != 0,
        })
    }
}

impl fmt::Debug for Esr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Esr({:#x})", self.0)
    }
}

impl fmt::Display for Esr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fault) = self.fault() {
            return write!(f, "{}: {fault} (ESR {:#x})", self.class(), self.0);
        }
        match self.class() {
            class @ (Class::Svc64 | Class::Hvc64 | Class::Smc64 | Class::Brk64) => {
                write!(f, "{class} #{:#x} (ESR {:#x})", self.immediate(), self.0)
            }
            class => {
                write!(f, "{class}")?;
                if let Some(instruction) = self.system_instruction() {
                    write!(f, ": {instruction}")?;
                }
                write!(f, " (ESR {:#x})", self.0)
            }
        }
    }
}

/// A trapped MSR, MRS or system instruction.
/// [ARM "ISS encoding for an exception from MSR, MRS, or System instruction execution"]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SystemInstruction {
    /// Op0 of the register name.
    pub op0: u8,
    /// Op1.
    pub op1: u8,
    /// CRn.
    pub crn: u8,
    /// CRm.
    pub crm: u8,
    /// Op2.
    pub op2: u8,
    /// The general-purpose register; 31 is the zero register.
    pub rt: u8,
    /// MRS (or SYSL) rather than MSR (or SYS).
    pub is_read: bool,
}

impl fmt::Display for SystemInstruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            op0,
            op1,
            crn,
            crm,
            op2,
            rt,
            is_read,
        } = *self;
        if is_read {
            write!(f, "mrs x{rt}, s{op0}_{op1}_c{crn}_c{crm}_{op2}")
        } else {
            write!(f, "msr s{op0}_{op1}_c{crn}_c{crm}_{op2}, x{rt}")
        }
    }
}
