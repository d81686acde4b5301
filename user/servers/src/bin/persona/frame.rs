//! What a handler finds on its stack: `struct rt_sigframe` of Linux on arm64, and above it a record of
//! the frame that was interrupted.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | `siginfo`: signal, 0, code, nothing, address |
//! | 128 | `ucontext`: flags, link, alternate stack, and at 40 the mask |
//! | 304 | `sigcontext`: address, `x0` to `x30`, `sp`, `pc`, `pstate` |
//! | 592 | records, each with magic number and length; here one, of the vector registers |
//! | 4688 | the end |

use tessera::{Registers, VectorRegisters};

/// Bytes of the frame.
pub const SIZE: usize = 4688;
/// Where `ucontext` begins.
pub const CONTEXT: u64 = 128;

const CODE: usize = 8;
const ADDRESS: usize = 16;
const STACK: usize = 128 + 16;
const MASK: usize = 128 + 40;
const FAULT_ADDRESS: usize = 304;
const REGISTERS: usize = 312;
const RECORDS: usize = 592;
const VECTORS_MAGIC: u32 = 0x4650_8001;
const VECTORS_LEN: u32 = 528;

/// A thread that is interrupted, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interrupted {
    /// Number of the signal, its code, and the address concerned.
    pub signal: (u32, i32, u64),
    /// Its alternate stack, as `sigaltstack` has it: address, flags, bytes.
    pub stack: [u64; 3],
    /// Signals that it has blocked.
    pub mask: u64,
    /// Its registers.
    pub registers: Registers,
    /// Its vector registers.
    pub vectors: VectorRegisters,
}

impl Interrupted {
    /// As bytes of the frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; SIZE];
        let (signal, code, address) = self.signal;
        put(&mut frame, 0, &signal.to_le_bytes());
        put(&mut frame, CODE, &code.to_le_bytes());
        put(&mut frame, ADDRESS, &address.to_le_bytes());
        put_words(&mut frame, STACK, &self.stack);
        put(&mut frame, MASK, &self.mask.to_le_bytes());
        put(&mut frame, FAULT_ADDRESS, &address.to_le_bytes());
        let Registers { x, sp, pc, pstate } = &self.registers;
        put_words(&mut frame, REGISTERS, x);
        put_words(&mut frame, REGISTERS + 8 * x.len(), &[*sp, *pc, *pstate]);
        let VectorRegisters { v, fpsr, fpcr } = &self.vectors;
        for (n, word) in [VECTORS_MAGIC, VECTORS_LEN, *fpsr, *fpcr]
            .iter()
            .enumerate()
        {
            put(&mut frame, RECORDS + 4 * n, &word.to_le_bytes());
        }
        for (n, value) in v.iter().enumerate() {
            put(&mut frame, RECORDS + 16 + 16 * n, &value.to_le_bytes());
        }
        frame
    }

    /// What a handler has left in the frame; none if that is no frame any more.
    pub fn from_bytes(frame: &[u8]) -> Option<Self> {
        let frame = frame.get(..SIZE)?;
        if half(frame, RECORDS) != VECTORS_MAGIC || half(frame, RECORDS + 4) != VECTORS_LEN {
            return None;
        }
        let value = |at| u128::from(word(frame, at)) | u128::from(word(frame, at + 8)) << 64;
        let after = REGISTERS + 8 * 31;
        Some(Self {
            signal: (
                half(frame, 0),
                half(frame, CODE) as i32,
                word(frame, ADDRESS),
            ),
            stack: std::array::from_fn(|n| word(frame, STACK + 8 * n)),
            mask: word(frame, MASK),
            registers: Registers {
                x: std::array::from_fn(|n| word(frame, REGISTERS + 8 * n)),
                sp: word(frame, after),
                pc: word(frame, after + 8),
                pstate: word(frame, after + 16),
            },
            vectors: VectorRegisters {
                v: std::array::from_fn(|n| value(RECORDS + 16 + 16 * n)),
                fpsr: half(frame, RECORDS + 8),
                fpcr: half(frame, RECORDS + 12),
            },
        })
    }
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
}

fn put_words(frame: &mut [u8], at: usize, words: &[u64]) {
    for (n, word) in words.iter().enumerate() {
        put(frame, at + 8 * n, &word.to_le_bytes());
    }
}

/// The word at a byte.
pub fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from(half(bytes, at)) | u64::from(half(bytes, at + 4)) << 32
}

fn half(bytes: &[u8], at: usize) -> u32 {
    let mut half = [0; 4];
    half.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interrupted() -> Interrupted {
        Interrupted {
            signal: (11, 2, 0x1234_5000),
            stack: [0x7000, 0, 0x4000],
            mask: 0x400,
            registers: Registers {
                x: std::array::from_fn(|n| n as u64 + 100),
                sp: 200,
                pc: 201,
                pstate: 202,
            },
            vectors: VectorRegisters {
                v: std::array::from_fn(|n| u128::MAX - n as u128),
                fpsr: 3,
                fpcr: 4,
            },
        }
    }

    #[test]
    fn what_was_interrupted_survives_the_way_through_the_frame() {
        let bytes = interrupted().frame();
        assert_eq!(bytes.len(), SIZE);
        assert_eq!(Interrupted::from_bytes(&bytes), Some(interrupted()));
    }

    #[test]
    fn a_frame_without_its_record_is_none() {
        let mut bytes = interrupted().frame();
        bytes[RECORDS] ^= 1;
        assert_eq!(Interrupted::from_bytes(&bytes), None);
        assert_eq!(Interrupted::from_bytes(&bytes[..SIZE - 1]), None);
    }
}
