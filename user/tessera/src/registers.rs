//! Registers of a thread.

use abi::{calls, registers as set};

use crate::{Error, sys};

const GENERAL: usize = set::BYTES[set::GENERAL as usize] as usize;
const VECTOR: usize = set::BYTES[set::VECTOR as usize] as usize;

/// The general registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// `x0` to `x30`.
    pub x: [u64; 31],
    /// The stack pointer.
    pub sp: u64,
    /// The program counter.
    pub pc: u64,
    /// The flags, and what else of PSTATE belongs to programs.
    pub pstate: u64,
}

/// The vector registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VectorRegisters {
    /// `v0` to `v31`.
    pub v: [u128; 32],
    /// Floating-point status.
    pub fpsr: u32,
    /// Floating-point control.
    pub fpcr: u32,
}

impl Registers {
    fn to_bytes(self) -> [u8; GENERAL] {
        let words = self.x.into_iter().chain([self.sp, self.pc, self.pstate]);
        let mut bytes = [0; GENERAL];
        for (word, place) in words.zip(bytes.chunks_exact_mut(8)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; GENERAL]) -> Self {
        let mut words = bytes.chunks_exact(8).map(|chunk| {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        let mut next = || words.next().unwrap_or_default();
        Self {
            x: std::array::from_fn(|_| next()),
            sp: next(),
            pc: next(),
            pstate: next(),
        }
    }
}

impl VectorRegisters {
    fn to_bytes(self) -> [u8; VECTOR] {
        let mut bytes = [0; VECTOR];
        for (value, place) in self.v.into_iter().zip(bytes.chunks_exact_mut(16)) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        bytes[512..516].copy_from_slice(&self.fpsr.to_le_bytes());
        bytes[516..520].copy_from_slice(&self.fpcr.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; VECTOR]) -> Self {
        let value = |n: usize| {
            let mut value = [0; 16];
            value.copy_from_slice(&bytes[16 * n..][..16]);
            u128::from_le_bytes(value)
        };
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(word)
        };
        Self {
            v: std::array::from_fn(value),
            fpsr: word(512),
            fpcr: word(516),
        }
    }
}

pub fn read(thread: u64) -> Result<Registers, Error> {
    let mut bytes = [0; GENERAL];
    sys::read(calls::THREAD_READ, thread, set::GENERAL, &mut bytes)?;
    Ok(Registers::from_bytes(&bytes))
}

pub fn write(thread: u64, registers: &Registers) -> Result<(), Error> {
    let bytes = registers.to_bytes();
    sys::write(calls::THREAD_WRITE, thread, set::GENERAL, &bytes).map(drop)
}

pub fn read_vector(thread: u64) -> Result<VectorRegisters, Error> {
    let mut bytes = [0; VECTOR];
    sys::read(calls::THREAD_READ, thread, set::VECTOR, &mut bytes)?;
    Ok(VectorRegisters::from_bytes(&bytes))
}

pub fn write_vector(thread: u64, registers: &VectorRegisters) -> Result<(), Error> {
    let bytes = registers.to_bytes();
    sys::write(calls::THREAD_WRITE, thread, set::VECTOR, &bytes).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_survive_the_way_through_bytes() {
        let general = Registers {
            x: std::array::from_fn(|n| n as u64 * 3),
            sp: 1,
            pc: 2,
            pstate: 1 << 31,
        };
        let bytes = general.to_bytes();
        assert_eq!(bytes[8 * 31], 1);
        assert_eq!(Registers::from_bytes(&bytes), general);
        let vector = VectorRegisters {
            v: std::array::from_fn(|n| u128::MAX - n as u128),
            fpsr: 5,
            fpcr: 6,
        };
        assert_eq!(VectorRegisters::from_bytes(&vector.to_bytes()), vector);
    }
}
