//! Exception classes: the EC field of a syndrome.

use core::fmt;

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident = $ec:literal, $words:literal;)*) => {
        /// What kind of exception a syndrome describes. Every value of the 6-bit field has a class.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Class {
            $($(#[$doc])* $name,)*
            /// A value that the architecture has not given a meaning.
            Unallocated(u8),
        }

        impl Class {
            /// The class of an EC value; bits above the field are ignored.
            #[inline]
            pub const fn from_ec(ec: u8) -> Self {
                match ec & 0x3f {
                    $($ec => Self::$name,)*
                    other => Self::Unallocated(other),
                }
            }

            /// The EC value of a class.
            #[inline]
            pub const fn ec(self) -> u8 {
                match self {
                    $(Self::$name => $ec,)*
                    Self::Unallocated(ec) => ec,
                }
            }
        }

        impl fmt::Display for Class {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str($words),)*
                    Self::Unallocated(ec) => write!(f, "unallocated exception class {ec:#04x}"),
                }
            }
        }
    };
}

classes! {
    /// Undefined instructions, and everything without a class of its own.
    Unknown = 0x00, "undefined instruction";
    /// WFI, WFE, WFIT or WFET.
    Wfx = 0x01, "trapped WFI or WFE";
    /// AArch32 MCR or MRC, coprocessor 15.
    Cp15Mcr = 0x03, "trapped CP15 MCR or MRC";
    /// AArch32 MCRR or MRRC, coprocessor 15.
    Cp15Mcrr = 0x04, "trapped CP15 MCRR or MRRC";
    /// AArch32 MCR or MRC, coprocessor 14.
    Cp14Mcr = 0x05, "trapped CP14 MCR or MRC";
    /// AArch32 LDC or STC.
    Cp14Ldc = 0x06, "trapped LDC or STC";
    /// SVE, Advanced SIMD or floating point where it is disabled.
    FpAccess = 0x07, "trapped floating-point or SIMD access";
    /// AArch32 VMRS; to EL2 only.
    Vmrs = 0x08, "trapped VMRS";
    /// Pointer authentication instruction; to EL2 and EL3 only.
    PointerAuthUse = 0x09, "trapped pointer authentication";
    /// LD64B, ST64B and other instructions without a class of their own.
    OtherInstruction = 0x0a, "trapped LD64B, ST64B or similar";
    /// AArch32 MRRC, coprocessor 14.
    Cp14Mrrc = 0x0c, "trapped CP14 MRRC";
    /// Branch target exception (FEAT_BTI).
    BranchTarget = 0x0d, "branch target exception";
    /// Illegal execution state.
    IllegalState = 0x0e, "illegal execution state";
    /// SVC from AArch32.
    Svc32 = 0x11, "SVC (AArch32)";
    /// HVC from AArch32.
    Hvc32 = 0x12, "HVC (AArch32)";
    /// SMC from AArch32.
    Smc32 = 0x13, "SMC (AArch32)";
    /// MSRR, MRRS or a 128-bit system instruction (FEAT_SYSREG128, FEAT_SYSINSTR128).
    SystemInstruction128 = 0x14, "trapped 128-bit system instruction";
    /// SVC.
    Svc64 = 0x15, "SVC";
    /// HVC.
    Hvc64 = 0x16, "HVC";
    /// SMC.
    Smc64 = 0x17, "SMC";
    /// MSR, MRS or a system instruction.
    SystemInstruction = 0x18, "trapped system instruction";
    /// SVE where it is disabled.
    SveAccess = 0x19, "trapped SVE access";
    /// ERET, ERETAA or ERETAB; to EL2 only.
    Eret = 0x1a, "trapped ERET";
    /// TSTART (FEAT_TME).
    TransactionStart = 0x1b, "trapped TSTART";
    /// Pointer authentication failure (FEAT_FPAC).
    PointerAuthFailure = 0x1c, "pointer authentication failure";
    /// SME where it is disabled.
    SmeAccess = 0x1d, "trapped SME access";
    /// Granule protection check (FEAT_RME); to EL3 only.
    GranuleProtectionCheck = 0x1e, "granule protection check";
    /// Implementation defined; to EL3 only.
    ImplementationDefined = 0x1f, "implementation-defined exception";
    /// Instruction abort from EL0.
    InstructionAbortEl0 = 0x20, "instruction abort from EL0";
    /// Instruction abort from EL1.
    InstructionAbortEl1 = 0x21, "instruction abort from EL1";
    /// Program counter not a multiple of 4.
    PcAlignment = 0x22, "misaligned program counter";
    /// Data abort from EL0.
    DataAbortEl0 = 0x24, "data abort from EL0";
    /// Data abort from EL1.
    DataAbortEl1 = 0x25, "data abort from EL1";
    /// Stack pointer not a multiple of 16.
    SpAlignment = 0x26, "misaligned stack pointer";
    /// Memory copy or set instruction in a wrong state (FEAT_MOPS).
    MemoryOperation = 0x27, "memory operation exception";
    /// Floating-point exception from AArch32.
    FpException32 = 0x28, "floating-point exception (AArch32)";
    /// Floating-point exception.
    FpException64 = 0x2c, "floating-point exception";
    /// Guarded control stack (FEAT_GCS).
    GuardedControlStack = 0x2d, "guarded control stack exception";
    /// Asynchronous external abort.
    SError = 0x2f, "SError";
    /// Hardware breakpoint from EL0.
    BreakpointEl0 = 0x30, "breakpoint from EL0";
    /// Hardware breakpoint from EL1.
    BreakpointEl1 = 0x31, "breakpoint from EL1";
    /// Single step from EL0.
    SoftwareStepEl0 = 0x32, "single step from EL0";
    /// Single step from EL1.
    SoftwareStepEl1 = 0x33, "single step from EL1";
    /// Watchpoint from EL0.
    WatchpointEl0 = 0x34, "watchpoint from EL0";
    /// Watchpoint from EL1.
    WatchpointEl1 = 0x35, "watchpoint from EL1";
    /// BKPT from AArch32.
    Bkpt32 = 0x38, "BKPT (AArch32)";
    /// AArch32 vector catch; to EL2 only.
    VectorCatch32 = 0x3a, "vector catch (AArch32)";
    /// BRK.
    Brk64 = 0x3c, "BRK";
    /// Profiling exception (FEAT_EBEP, FEAT_SPE_EXC, FEAT_TRBE_EXC).
    Profiling = 0x3d, "profiling exception";
}
