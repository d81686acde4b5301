//! Memory faults: the syndrome of instruction and data aborts.
//! [ARM "ISS encoding for an exception from a Data Abort", "… from an Instruction Abort"]

use core::fmt;

use super::{Class, Esr};
use crate::geometry::Level;

/// What the faulting instruction wanted to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Access {
    /// A load, or cache maintenance.
    Read,
    /// A store, or an atomic whose read part would have been allowed.
    Write,
    /// An instruction fetch.
    Exec,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Exec => "instruction fetch",
        })
    }
}

/// Why the access failed. Every value of the 6-bit status field has one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FaultStatus {
    /// A table base or an output address has more bits than are configured.
    AddressSize,
    /// No valid entry.
    Translation,
    /// An entry that is not accessed, and no hardware management of the flag.
    AccessFlag,
    /// The entry does not allow the access.
    Permission,
    /// External abort on the access itself.
    External,
    /// External abort on the reading of a table.
    ExternalOnWalk,
    /// Synchronous tag check fault (FEAT_MTE2).
    TagCheck,
    /// Parity or ECC error on the access itself.
    Parity,
    /// Parity or ECC error on the reading of a table.
    ParityOnWalk,
    /// Misaligned address.
    Alignment,
    /// Granule protection fault on the access itself (FEAT_RME).
    GranuleProtection,
    /// Granule protection fault on the reading of a table (FEAT_RME).
    GranuleProtectionOnWalk,
    /// Two TLB entries for one address.
    TlbConflict,
    /// The hardware could not update AF or the dirty state where the table is.
    UnsupportedAtomicUpdate,
    /// Implementation defined: lockdown.
    Lockdown,
    /// Implementation defined: exclusive or atomic access that the memory does not support.
    UnsupportedExclusive,
    /// A value without a meaning for this translation regime.
    Reserved(u8),
}

impl FaultStatus {
    /// The meaning of a DFSC or IFSC value, with the level it names. Level −2, which needs
    /// FEAT_D128 and so never occurs here, gives no level.
    pub const fn from_code(code: u8) -> (Self, Option<Level>) {
        let code = code & 0x3f;
        // Four codes in a row count the levels 0 to 3.
        let level = Level::from_number((code & 3) as i8);
        match code {
            0b00_0000..=0b00_0011 => (Self::AddressSize, level),
            0b00_0100..=0b00_0111 => (Self::Translation, level),
            0b00_1000..=0b00_1011 => (Self::AccessFlag, level),
            0b00_1100..=0b00_1111 => (Self::Permission, level),
            0b01_0000 => (Self::External, None),
            0b01_0001 => (Self::TagCheck, None),
            0b01_0010 => (Self::ExternalOnWalk, None),
            0b01_0011 => (Self::ExternalOnWalk, Some(Level::Lm1)),
            0b01_0100..=0b01_0111 => (Self::ExternalOnWalk, level),
            0b01_1000 => (Self::Parity, None),
            0b01_1011 => (Self::ParityOnWalk, Some(Level::Lm1)),
            0b01_1100..=0b01_1111 => (Self::ParityOnWalk, level),
            0b10_0001 => (Self::Alignment, None),
            0b10_0010 => (Self::GranuleProtectionOnWalk, None),
            0b10_0011 => (Self::GranuleProtectionOnWalk, Some(Level::Lm1)),
            0b10_0100..=0b10_0111 => (Self::GranuleProtectionOnWalk, level),
            0b10_1000 => (Self::GranuleProtection, None),
            0b10_1001 => (Self::AddressSize, Some(Level::Lm1)),
            0b10_1010 => (Self::Translation, None),
            0b10_1011 => (Self::Translation, Some(Level::Lm1)),
            0b10_1100 => (Self::AddressSize, None),
            0b11_0000 => (Self::TlbConflict, None),
            0b11_0001 => (Self::UnsupportedAtomicUpdate, None),
            0b11_0100 => (Self::Lockdown, None),
            0b11_0101 => (Self::UnsupportedExclusive, None),
            other => (Self::Reserved(other), None),
        }
    }
}

impl fmt::Display for FaultStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddressSize => "address size fault",
            Self::Translation => "translation fault",
            Self::AccessFlag => "access flag fault",
            Self::Permission => "permission fault",
            Self::External => "external abort",
            Self::ExternalOnWalk => "external abort on table walk",
            Self::TagCheck => "tag check fault",
            Self::Parity => "parity or ECC error",
            Self::ParityOnWalk => "parity or ECC error on table walk",
            Self::Alignment => "alignment fault",
            Self::GranuleProtection => "granule protection fault",
            Self::GranuleProtectionOnWalk => "granule protection fault on table walk",
            Self::TlbConflict => "TLB conflict abort",
            Self::UnsupportedAtomicUpdate => "unsupported atomic hardware update",
            Self::Lockdown => "lockdown abort",
            Self::UnsupportedExclusive => "unsupported exclusive access",
            Self::Reserved(code) => return write!(f, "reserved fault status {code:#04x}"),
        })
    }
}

/// A memory fault at EL0 or EL1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fault {
    /// What was tried. Cache maintenance counts as a read: the architecture reports it with WnR = 1,
    /// yet it needs no write permission. (DC ZVA and its kin are stores and count as writes.)
    pub access: Access,
    /// The access came from EL0.
    pub from_el0: bool,
    /// Why it failed.
    pub status: FaultStatus,
    /// The level of the table walk at which it failed, where the status names one.
    pub level: Option<Level>,
    /// FAR_EL1 holds the address; false only for some external aborts.
    pub far_valid: bool,
    /// A stage 2 fault on the reading of a stage 1 table; does not reach EL1 without a hypervisor's
    /// help.
    pub is_s1ptw: bool,
    /// The instruction was cache maintenance or address translation.
    pub is_cache_maintenance: bool,
}

impl Fault {
    const WNR: u32 = 1 << 6;
    const S1PTW: u32 = 1 << 7;
    const CM: u32 = 1 << 8;
    const FNV: u32 = 1 << 10;

    #[inline]
    pub(super) const fn from_esr(esr: Esr) -> Option<Self> {
        let (exec, from_el0) = match esr.class() {
            Class::InstructionAbortEl0 => (true, true),
            Class::InstructionAbortEl1 => (true, false),
            Class::DataAbortEl0 => (false, true),
            Class::DataAbortEl1 => (false, false),
            _ => return None,
        };
        let iss = esr.iss();
        let (status, level) = FaultStatus::from_code(iss as u8);
        // WnR and CM are bits of data aborts only.
        let is_cache_maintenance = !exec && iss & Self::CM != 0;
        let access = if exec {
            Access::Exec
        } else if iss & Self::WNR != 0 && !is_cache_maintenance {
            Access::Write
        } else {
            Access::Read
        };
        Some(Self {
            access,
            from_el0,
            status,
            level,
            far_valid: !(matches!(status, FaultStatus::External) && iss & Self::FNV != 0),
            is_s1ptw: iss & Self::S1PTW != 0,
            is_cache_maintenance,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if let Some(level) = self.level {
            write!(f, " at level {}", level.number())?;
        }
        let what = if self.is_cache_maintenance {
            "cache maintenance"
        } else {
            ""
        };
        if what.is_empty() {
            write!(f, " on {}", self.access)?
        } else {
            write!(f, " on {what}")?
        }
        f.write_str(if self.from_el0 {
            " from EL0"
        } else {
            " from EL1"
        })
    }
}
