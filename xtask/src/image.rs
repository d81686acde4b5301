//! The flat arm64 `Image`: what the Linux boot protocol for arm64 loads (magic "ARM\x64" at 56).

use anyhow::{Context, Result, bail, ensure};
use object::elf::{EM_AARCH64, FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, elf};

/// Where the boot protocol keeps its magic number, and the number ("ARM\x64", little endian).
const MAGIC_AT: usize = 56;
const MAGIC: [u8; 4] = *b"ARM\x64";

/// No kernel is larger than this; a damaged ELF must not make the host allocate gigabytes.
const LARGEST: u64 = 256 << 20;

/// The bytes of all `PT_LOAD` segments from the lowest physical address on, gaps filled with zeros.
/// Only bytes that are in the file count: memory beyond them (`.bss`) is the kernel's to clear.
///
/// # Errors
/// Not a 64-bit little-endian AArch64 ELF, segments that overlap or exceed the file, or no `Image`
/// header at the start.
pub fn flat(elf: &[u8]) -> Result<Vec<u8>> {
    let header = FileHeader64::<Endianness>::parse(elf).context("the kernel is not an ELF file")?;
    let endian = header
        .endian()
        .context("the kernel ELF has no byte order")?;
    ensure!(
        header.e_machine(endian) == EM_AARCH64,
        "the kernel ELF is not for AArch64"
    );
    let mut segments = Vec::new();
    for segment in header.program_headers(endian, elf)? {
        if segment.p_type(endian) == PT_LOAD && segment.p_filesz(endian) > 0 {
            let Ok(data) = segment.data(endian, elf) else {
                bail!("a segment of the kernel ELF exceeds the file");
            };
            segments.push((segment.p_paddr(endian), data));
        }
    }
    segments.sort_by_key(|(start, _)| *start);
    let base = segments
        .first()
        .context("the kernel ELF has no loadable segment")?
        .0;
    let mut image = Vec::new();
    for (start, data) in segments {
        let offset = start - base;
        ensure!(
            offset + data.len() as u64 <= LARGEST,
            "the kernel's segments lie too far apart"
        );
        ensure!(
            offset >= image.len() as u64,
            "segments of the kernel ELF overlap in memory"
        );
        image.resize(offset as usize, 0);
        image.extend_from_slice(data);
    }
    ensure!(
        image.get(MAGIC_AT..MAGIC_AT + 4) == Some(&MAGIC),
        "the kernel does not begin with an arm64 Image header"
    );
    Ok(image)
}

/// Whether this file can be a kernel for `-kernel`: an `Image`, or an ELF for AArch64.
#[must_use]
pub fn is_bootable(bytes: &[u8]) -> bool {
    bytes.get(MAGIC_AT..MAGIC_AT + 4) == Some(&MAGIC) || is_aarch64_elf(bytes)
}

/// Whether the bytes begin like an AArch64 ELF file.
#[must_use]
pub fn is_aarch64_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(&elf::ELFMAG) && bytes.get(18..20) == Some(&EM_AARCH64.0.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A little ELF: each segment is (physical address, file bytes, further zeroed bytes).
    fn elf(segments: &[(u64, &[u8], u64)]) -> Vec<u8> {
        let mut out = b"\x7fELF\x02\x01\x01".to_vec();
        out.resize(16, 0);
        out.extend(2u16.to_le_bytes());
        out.extend(183u16.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        out.extend([0u64, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
        out.extend([0u8; 4]);
        out.extend(
            [64u16, 56, segments.len() as u16, 64, 0, 0]
                .iter()
                .flat_map(|w| w.to_le_bytes()),
        );
        let mut at = 64 + 56 * segments.len() as u64;
        for (paddr, data, zeroed) in segments {
            out.extend([1u32, 5].iter().flat_map(|word| word.to_le_bytes()));
            let len = data.len() as u64;
            let words = [at, 0xffff_8000_0000_0000, *paddr, len, len + zeroed, 4096];
            out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            at += len;
        }
        segments
            .iter()
            .for_each(|(_, data, _)| out.extend_from_slice(data));
        out
    }

    fn head() -> Vec<u8> {
        let mut head = vec![0x55; 64];
        head[56..60].copy_from_slice(&MAGIC);
        head
    }

    #[test]
    fn segments_are_placed_by_physical_address_without_bss() {
        let image = flat(&elf(&[(0x2080, b"tail", 0x1000), (0x2000, &head(), 0)])).unwrap();
        assert_eq!(image.len(), 0x84);
        assert_eq!(&image[..64], head());
        assert!(image[64..0x80].iter().all(|byte| *byte == 0));
        assert_eq!(&image[0x80..], b"tail");
    }

    #[test]
    fn each_damage_has_its_own_message() {
        let message = |bytes: &[u8]| flat(bytes).unwrap_err().to_string();
        assert!(message(b"#!/bin/sh").contains("not an ELF"));
        assert!(message(&elf(&[(0, &[0; 64], 0)])).contains("Image header"));
        assert!(message(&elf(&[(0, &head(), 0), (32, b"x", 0)])).contains("overlap"));
        assert!(message(&elf(&[(0, &head(), 0), (1 << 40, b"x", 0)])).contains("too far apart"));
        let whole = elf(&[(0, &head(), 0)]);
        assert!(message(&whole[..whole.len() - 1]).contains("exceeds the file"));
        let mut other = whole.clone();
        other[18] = 62;
        assert!(message(&other).contains("not for AArch64"));
        assert!(is_bootable(&whole) && is_bootable(&head()) && !is_bootable(&other));
    }
}
